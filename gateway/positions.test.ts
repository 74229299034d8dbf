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
