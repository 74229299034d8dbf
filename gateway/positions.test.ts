import assert from 'node:assert/strict'
import { test } from 'node:test'
import { positionsMax } from '#protos/limits.ts'
import { Positions } from './positions.ts'

const open = () => {
  const time = { mono: 0 }
  return { time, positions: new Positions(() => time.mono) }
}

test('[POS1] a position only ever rises, and is the reader’s own', () => {
  const { positions } = open()
  positions.note('mia', 'room', 5)
  positions.note('mia', 'room', 3)
  positions.note('ola', 'room', 9)
  assert.deepEqual(positions.of('mia'), { conversations: ['room'], seqs: [5] })
  assert.deepEqual(positions.of('nobody'), { conversations: [], seqs: [] })
})

test('[POS2] an entry outlives the flush and then goes', () => {
  const { time, positions } = open()
  positions.note('mia', 'room', 5)
  time.mono = 12_000
  positions.sweep()
  assert.deepEqual(positions.of('mia').seqs, [5])
  time.mono = 30_001
  positions.sweep()
  assert.deepEqual(positions.of('mia').seqs, [])
  assert.equal(positions.size, 0)
})

test('[POS3] a full table takes no more and keeps what it has', () => {
  const { positions } = open()
  for (let i = 0; i < positionsMax + 10; i++) positions.note(`u${i}`, 'room', 1)
  assert.equal(positions.size, positionsMax)
  positions.note('u0', 'room', 2)
  assert.deepEqual(positions.of('u0').seqs, [2])
})

test('[POS5] a receipt of an owner that knows less is raised to what was shown, one that knows more passes as it is', () => {
  const { time, positions } = open()
  positions.note('mia', 'room', 9)
  const body = (readSeq: number, deliveredSeq: number) =>
    Buffer.from(JSON.stringify({ type: 'receipt.updated', userId: 'mia', readSeq, deliveredSeq }))
  const read = (seq: number, given: Buffer) =>
    JSON.parse(Buffer.from(positions.raised('mia', 'room', seq, given)).toString()) as Record<string, unknown>
  assert.deepEqual(read(0, body(4, 5)), { type: 'receipt.updated', userId: 'mia', readSeq: 9, deliveredSeq: 9 })
  assert.deepEqual(read(7, body(7, 12)), { type: 'receipt.updated', userId: 'mia', readSeq: 9, deliveredSeq: 12 })
  const higher = body(10, 10)
  assert.equal(positions.raised('mia', 'room', 10, higher), higher)
  const other = body(1, 1)
  assert.equal(positions.raised('ola', 'room', 1, other), other)
  positions.raised('ola', 'room', 0, body(6, 7))
  assert.deepEqual(positions.of('ola').seqs, [6], 'shown with a delivered position')
  time.mono = 29_000
  read(0, body(4, 5))
  time.mono = 31_000
  positions.sweep()
  assert.deepEqual(positions.of('mia').seqs, [9], 'kept while the store lacks it')
})
