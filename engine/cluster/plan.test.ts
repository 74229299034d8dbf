import assert from 'node:assert/strict'
import test from 'node:test'
import { claimStrangerMs, handOverShardsMax, membershipStableMs } from '#protos/limits.ts'
import { placeShard } from './placement.ts'
import { type NodeRow, noMemory, plan, type ShardRow, seatsOf } from './plan.ts'

const node = (name: string, state: NodeRow['state'] = 'up', workers = 2): NodeRow => ({
  incarnation: name,
  nodeId: `node-${name}`,
  addrs: Array.from({ length: workers }, (_, i) => `127.0.0.1:${i + 1}`),
  state,
})

const shards = (owner: string | null, worker: number | null = owner ? 0 : null): ShardRow[] =>
  Array.from({ length: 256 }, (_, shard) => ({ shard, epoch: shard + 1, owner, worker }))

const claimed = (p: ReturnType<typeof plan>) => p.claims.flatMap(c => c.shards.map(s => s.shard)).sort((a, b) => a - b)

test('[PLAN1] the computed owner claims at once, each worker its own shards, in order of id', () => {
  const nodes = [node('a'), node('b')]
  const out = plan(noMemory, 'a', nodes, shards(null), 0)
  const wanted = shards(null).filter(s => placeShard(s.shard, seatsOf(nodes))!.incarnation === 'a')
  assert.deepEqual(
    claimed(out),
    wanted.map(s => s.shard),
  )
  for (const { worker, shards: list } of out.claims) {
    for (const s of list) assert.equal(placeShard(s.shard, seatsOf(nodes))!.worker, worker)
    assert.deepEqual(
      list,
      [...list].sort((x, y) => x.shard - y.shard),
    )
  }
  assert.deepEqual(out.moves, [])
})

test('[PLAN2] a stranger waits 3 s before it claims, counted from when it saw the shard ownerless', () => {
  const nodes = [node('a'), node('b')]
  const first = plan(noMemory, 'a', nodes, shards(null), 1000)
  const early = plan(first.memory, 'a', nodes, shards(null), 1000 + claimStrangerMs - 1)
  assert.deepEqual(claimed(early), claimed(first))
  assert.equal(claimed(plan(early.memory, 'a', nodes, shards(null), 1000 + claimStrangerMs)).length, 256)
})

test('[PLAN3] shards of the dead and of the forgotten are ownerless, those of the silent are not', () => {
  const dead = plan(noMemory, 'a', [node('a'), node('b', 'dead')], shards('b'), 0)
  assert.equal(claimed(dead).length, 256)
  assert.equal(claimed(plan(noMemory, 'a', [node('a')], shards('b'), 0)).length, 256)
  assert.deepEqual(claimed(plan(noMemory, 'a', [node('a'), node('b')], shards('b'), 0)), [])
})

test('[PLAN4] shards move between living workers only after 10 s of the same membership, 8 at a time', () => {
  const nodes = [node('a'), node('b')]
  const first = plan(noMemory, 'a', nodes, shards('a'), 0)
  assert.deepEqual(first.moves, [])
  const early = plan(first.memory, 'a', nodes, shards('a'), membershipStableMs - 1)
  assert.deepEqual(early.moves, [])
  const late = plan(early.memory, 'a', nodes, shards('a'), membershipStableMs)
  assert.equal(late.moves.length, handOverShardsMax)
  const joined = plan(early.memory, 'a', [...nodes, node('c')], shards('a'), membershipStableMs)
  assert.deepEqual(joined.moves, [])
})

test('[PLAN5] a draining node claims nothing and hands over at once', () => {
  const nodes = [node('a', 'draining'), node('b')]
  const out = plan(noMemory, 'a', nodes, [...shards('a').slice(0, 20), ...shards(null).slice(20)], 0)
  assert.deepEqual(out.claims, [])
  assert.equal(out.moves.length, handOverShardsMax)
  assert.ok(out.moves.every(m => m.to.incarnation === 'b'))
})

test('[PLAN6] a worker that does not listen gets nothing', () => {
  const half = { ...node('a'), addrs: ['', '127.0.0.1:2'] }
  const out = plan(noMemory, 'a', [half], shards(null), 0)
  assert.deepEqual(
    out.claims.map(c => c.worker),
    [1],
  )
  assert.equal(claimed(out).length, 256)
  assert.deepEqual(plan(noMemory, 'a', [{ ...half, addrs: [] }], shards(null), 0).claims, [])
})
