import assert from 'node:assert/strict'
import test from 'node:test'
import { shardCount } from '#protos/limits.ts'
import { hash32, placeShard, type Seat } from './placement.ts'

const seats = (nodes: number, workers: number): Seat[] =>
  Array.from({ length: nodes * workers }, (_, i) => ({
    nodeId: `node-${Math.floor(i / workers)}`,
    incarnation: `i${Math.floor(i / workers)}`,
    worker: i % workers,
    weight: 1,
  }))

const place = (all: Seat[], shards = shardCount) =>
  Array.from({ length: shards }, (_, shard) => placeShard(shard, all)!)

test('[PLC1] the order in which a node reads the rows does not change where a shard belongs', () => {
  const all = seats(3, 2)
  assert.deepEqual(place(all), place([...all].reverse()))
})

test('[PLC2] each of 8 seats gets its share of many shards within 5 %', () => {
  const counts = new Map<string, number>()
  const total = 40_000
  for (const s of place(seats(4, 2), total))
    counts.set(`${s.nodeId}/${s.worker}`, (counts.get(`${s.nodeId}/${s.worker}`) ?? 0) + 1)
  assert.equal(counts.size, 8)
  for (const n of counts.values()) assert.ok(Math.abs(n - total / 8) < (total / 8) * 0.05, `${n}`)
})

test('[PLC3] when a node leaves, only its shards move', () => {
  const all = seats(5, 2)
  const before = place(all)
  const after = place(all.filter(s => s.nodeId !== 'node-2'))
  before.forEach((seat, shard) => {
    if (seat.nodeId !== 'node-2') assert.deepEqual(after[shard], seat)
  })
})

test('[PLC4] a node that comes back under a new incarnation gets the same shards', () => {
  const all = seats(3, 2)
  const renewed = all.map(s => (s.nodeId === 'node-1' ? { ...s, incarnation: 'later' } : s))
  const names = (list: Seat[]) => place(list).map(s => `${s.nodeId}/${s.worker}`)
  assert.deepEqual(names(all), names(renewed))
})

test('[PLC5] of two incarnations of one name the later one is chosen', () => {
  const both = [...seats(1, 1), { ...seats(1, 1)[0]!, incarnation: 'i9' }]
  assert.ok(place(both).every(s => s.incarnation === 'i9'))
  assert.ok(place([...both].reverse()).every(s => s.incarnation === 'i9'))
})

test('[PLC6] a seat of weight 3 gets three times the shards of a seat of weight 1', () => {
  const [light, heavy] = seats(2, 1)
  const total = 40_000
  const got = place([light!, { ...heavy!, weight: 3 }], total).filter(s => s.nodeId === 'node-1').length
  assert.ok(Math.abs(got - total * 0.75) < total * 0.02, `${got}`)
})

test('[PLC7] the hash never changes, for all nodes compute it for themselves', () => {
  assert.equal(hash32(''), 2872998923)
  assert.equal(hash32('node-0/0/0'), 1334704889)
})
