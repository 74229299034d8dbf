/** The statements of ownership on Postgres: each a compare-and-set that exactly one contender wins. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { shardCount } from '#protos/limits.ts'
import { type Database, openOrm } from './orm.ts'
import {
  bury,
  buryKnown,
  buryPredecessors,
  claim,
  handOver,
  insertNode,
  markDraining,
  prune,
  readNodes,
  readShards,
  release,
  renew,
  replace,
  stamp,
} from './ownership.ts'

let database: TestDatabase
let engine: Database

before(async () => {
  database = await testDatabase()
  engine = await openOrm({ url: database.url, role: 'parley_engine', name: 'test-engine', poolMax: 8, log: silentLog })
})
after(async () => {
  await engine.close()
  await database.drop()
})

async function node(nodeId: string = randomUUID()): Promise<string> {
  const incarnation = randomUUID()
  await insertNode(engine.pool, { incarnation, nodeId, addrs: ['127.0.0.1:1', ''], version: 'test' })
  return incarnation
}

const seen = async () => (await readShards(engine.pool)).map(({ shard, epoch }) => ({ shard, epoch }))

test('O1 a claim takes what is free or of the dead, with fresh epochs; of two claims on one sight one wins', async () => {
  const [one, two] = [await node(), await node()]
  const sight = await seen()
  assert.equal(sight.length, shardCount)
  const [a, b] = await Promise.all([claim(engine.pool, sight, one, 0), claim(engine.pool, sight, two, 1)])
  assert.equal(a.length + b.length, shardCount)
  assert.equal(Math.min(a.length, b.length), 0)
  const [winner, loser] = a.length > 0 ? [one, two] : [two, one]
  assert.equal(new Set([...a, ...b].map(s => s.epoch)).size, shardCount)
  assert.deepEqual(await claim(engine.pool, await seen(), loser, 0), [], 'its owner lives')
  assert.equal(await buryKnown(engine.pool, winner), true)
  assert.equal((await claim(engine.pool, await seen(), loser, 0)).length, shardCount)
  assert.equal((await release(engine.pool, loser)).length, shardCount)
  assert.ok((await readShards(engine.pool)).every(s => s.owner === null))
})

test('O2 renew and bury contend on one row: the buried one learns it, a beat that moved saves it', async () => {
  const me = await node()
  const first = await renew(engine.pool, me, ['127.0.0.1:2'])
  assert.deepEqual(first, { beat: 1, state: 'up' })
  const row = (await readNodes(engine.pool)).find(n => n.incarnation === me)!
  assert.deepEqual([row.addrs, row.expired, row.beat], [['127.0.0.1:2'], false, 1])
  assert.equal(await bury(engine.pool, me, 1, false), false, 'not expired')
  assert.equal(await bury(engine.pool, me, 0, true), false, 'the beat moved')
  assert.equal(await bury(engine.pool, me, 1, true), true)
  assert.equal(await bury(engine.pool, me, 1, true), false, 'once')
  assert.equal(await renew(engine.pool, me), undefined)
})

test('O3 predecessors of a node id are buried, the node itself is not', async () => {
  const name = randomUUID()
  const [old, me] = [await node(name), await node(name)]
  assert.deepEqual(await buryPredecessors(engine.pool, name, me), [old])
  assert.equal((await renew(engine.pool, me))?.state, 'up')
})

test('O4 replace and hand-over keep the owner’s word: from me only, to the living only', async () => {
  const [me, target] = [await node(), await node()]
  const held = await claim(engine.pool, (await seen()).slice(0, 10), me, 0)
  const moved = await replace(engine.pool, me, [0, 1, 2], 5)
  assert.deepEqual(
    moved.map(s => s.shard).sort((a, b) => a - b),
    [0, 1, 2],
  )
  assert.deepEqual(await replace(engine.pool, target, [0], 1), [])
  assert.deepEqual(await handOver(engine.pool, held.slice(0, 1), me, target, 0), [], 'the epoch moved on')
  assert.equal((await handOver(engine.pool, held.slice(3, 5), me, target, 0)).length, 2)
  await markDraining(engine.pool, target)
  assert.deepEqual(await handOver(engine.pool, held.slice(5, 6), me, target, 0), [], 'the target drains')
  await release(engine.pool, me)
  await release(engine.pool, target)
})

test('O5 a stamp is from me to me, also when the answer to my last one was lost', async () => {
  const [me, other] = [await node(), await node()]
  const held = await claim(engine.pool, (await seen()).slice(20, 23), me, 3)
  const mine = { incarnation: me, worker: 3 }
  const first = await stamp(engine.pool, held, mine)
  assert.equal(first.length, 3)
  assert.ok(first.every(s => s.epoch > held.find(h => h.shard === s.shard)!.epoch))
  const again = await stamp(engine.pool, held, mine)
  assert.equal(again.length, 3, 'by epochs from before the first stamp')
  assert.equal((await stamp(engine.pool, held, { incarnation: me, worker: 4 })).length, 0, 'another worker’s by now')
  assert.equal((await handOver(engine.pool, again.slice(0, 1), me, other, 3)).length, 1)
  assert.equal((await stamp(engine.pool, again, mine)).length, 2, 'one of them is another’s')
  await release(engine.pool, me)
  await release(engine.pool, other)
})

test('O6 every change of epoch is in the history, by itself', async () => {
  const me = await node()
  const [taken] = await claim(engine.pool, (await seen()).slice(40, 41), me, 0)
  const [moved] = await replace(engine.pool, me, [40], 1)
  const history = await engine.pool.query<{ epoch: string; worker: number }>(
    'select epoch, worker from shard_history where shard_id = 40 and owner = $1 order by epoch',
    [me],
  )
  assert.deepEqual(
    history.rows.map(r => [Number(r.epoch), r.worker]),
    [
      [taken!.epoch, 0],
      [moved!.epoch, 1],
    ],
  )
  await prune(engine.pool)
  await release(engine.pool, me)
})

test('O7 claims, stamps and replaces of many at once never deadlock', async () => {
  const nodes = await Promise.all(Array.from({ length: 4 }, () => node()))
  const shuffled = (items: { shard: number; epoch: number }[]) => [...items].sort(() => Math.random() - 0.5)
  await Promise.all(
    nodes.map(async (me, worker) => {
      for (let round = 0; round < 15; round++) {
        const sight = shuffled(await seen())
        const held = await claim(engine.pool, sight, me, worker)
        await stamp(engine.pool, shuffled(held), { incarnation: me, worker })
        await replace(
          engine.pool,
          me,
          shuffled(held).map(s => s.shard),
          worker,
        )
        await release(engine.pool, me)
      }
    }),
  )
})
