import assert from 'node:assert/strict'
import { after, before, beforeEach, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { systemClock } from '#engine/ops/clock.ts'
import { readConfig } from '#engine/ops/config.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { openOrm } from '#engine/storage/orm.ts'
import { suspectAddress } from '#engine/storage/route-map.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { membershipStableMs, renewMs, shardCount } from '#protos/limits.ts'
import { joinCluster } from './membership.ts'
import type { Granted } from './rows.ts'
import { openOwnershipStore } from './store.ts'

let database: TestDatabase
let sql: Client
before(async () => {
  database = await testDatabase()
  sql = new Client({ connectionString: database.url })
  await sql.connect()
})
beforeEach(async () => {
  await sql.query("update engine_node set state = 'dead'; update shard set owner = null, worker = null")
})
after(async () => {
  await sql.end()
  await database.drop()
})

async function node(t: TestContext, nodeId: string, isAlone = true, workers = 2) {
  const config = readConfig({ DATABASE_URL: database.url })
  const store = await openOwnershipStore(config, silentLog, systemClock)
  const me = systemClock.id()
  await store.enter({ incarnation: me, nodeId, version: 'test', isAlone })
  /** What the workers know. */
  const known = Array.from({ length: workers }, () => new Map<number, number>())
  const busy = new Set<number>()
  let renewals = 0
  let buried = false
  let settle!: () => void
  const settled = new Promise<void>(resolve => {
    settle = resolve
  })
  const membership = joinCluster({
    store,
    me,
    workers,
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    own(worker, shards: Granted[]) {
      for (const { shard, epoch } of shards) known[worker]!.set(shard, epoch)
    },
    disown(worker, shards) {
      for (const shard of shards) known[worker]?.delete(shard)
    },
    isBusy: shard => busy.has(shard),
    onSettled: settle,
    onRenewed: () => renewals++,
    onBuried: () => {
      buried = true
    },
  })
  let isOpen = true
  const close = async (leaves: boolean) => {
    if (!isOpen) return
    isOpen = false
    await membership.close(leaves)
    await store.close()
  }
  t.after(() => close(false))
  const listen = () => {
    for (const worker of known.keys()) membership.listening(worker, `127.0.0.1:${worker + 1}`)
  }
  const owned = () => known.reduce((n, map) => n + map.size, 0)
  return { me, membership, known, busy, listen, owned, settled, close, renewals: () => renewals, buried: () => buried }
}

async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 15_000): Promise<number> {
  const began = performance.now()
  while (!(await holds())) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  return performance.now() - began
}

/** The rows and what workers were told must agree. */
async function agree(known: Map<number, number>[], me: string): Promise<void> {
  const { rows } = await sql.query('select shard_id, epoch::int, worker from shard where owner = $1', [me])
  const told = known.flatMap((map, worker) => [...map].map(([shard_id, epoch]) => ({ shard_id, epoch, worker })))
  const byId = (a: { shard_id: number }, b: { shard_id: number }) => a.shard_id - b.shard_id
  assert.deepEqual(told.sort(byId), rows.sort(byId))
}

test('[LEASE1] a first node claims every shard as soon as its workers listen, split over them', async t => {
  const a = await node(t, 'a')
  a.listen()
  await a.settled
  await until(() => a.owned() === shardCount, 'all shards', 1000)
  await agree(a.known, a.me)
  for (const map of a.known) assert.ok(map.size > 80, `${map.size}`)
})

test('[LEASE2] a worker that listens again gets its own shards under fresh epochs, its neighbour keeps its epochs', async t => {
  const a = await node(t, 'a')
  a.listen()
  await until(() => a.owned() === shardCount, 'all shards')
  const before = a.known.map(map => new Map(map))
  a.known[0]!.clear()
  a.membership.listening(0, '127.0.0.1:9')
  const took = await until(() => a.owned() === shardCount, 'fresh epochs')
  assert.ok(took < 300, `${took} ms`)
  for (const [shard, epoch] of before[0]!) assert.ok(a.known[0]!.get(shard)! > epoch)
  assert.deepEqual(a.known[1], before[1])
  const { rows } = await sql.query('select addrs from engine_node where incarnation = $1', [a.me])
  assert.deepEqual(rows[0].addrs, ['127.0.0.1:9', '127.0.0.1:2'])
  await agree(a.known, a.me)
})

test('[LEASE3] a restarted node buries its predecessor and owns everything within 1 s; the predecessor learns it', async t => {
  const old = await node(t, 'a')
  old.listen()
  await until(() => old.owned() === shardCount, 'all shards')
  const fresh = await node(t, 'a')
  fresh.listen()
  const took = await until(() => fresh.owned() === shardCount, 'all shards again')
  assert.ok(took < 1000, `${took} ms`)
  await until(() => old.buried(), 'the predecessor to stop')
  for (const [worker, map] of fresh.known.entries())
    for (const [shard, epoch] of map) assert.ok(epoch > (old.known[worker]!.get(shard) ?? 0))
})

test('[LEASE4] without that proof the predecessor is not touched', async t => {
  const old = await node(t, 'a')
  old.listen()
  await until(() => old.owned() === shardCount, 'all shards')
  const fresh = await node(t, 'a', false)
  fresh.listen()
  await fresh.settled
  const renewals = old.renewals()
  await until(() => old.renewals() > renewals, 'a renewal')
  assert.equal(old.buried(), false)
  assert.equal(fresh.owned(), 0)
})

test('[LEASE5] when a node leaves, another owns everything within its next rounds', async t => {
  const a = await node(t, 'a')
  a.listen()
  await until(() => a.owned() === shardCount, 'all shards')
  const b = await node(t, 'b')
  b.listen()
  await b.settled
  assert.equal(b.owned(), 0)
  await a.close(true)
  const took = await until(() => b.owned() === shardCount, 'all shards at b')
  assert.ok(took < 2 * renewMs, `${took} ms`)
  await agree(b.known, b.me)
})

test('[LEASE6] a draining node hands every shard to a living one with no ownerless gap', async t => {
  const a = await node(t, 'a')
  a.listen()
  await until(() => a.owned() === shardCount, 'all shards')
  const b = await node(t, 'b')
  b.listen()
  await b.settled
  let ownerless = 0
  let isDone = false
  const watcher = new Client({ connectionString: database.url })
  await watcher.connect()
  const watching = (async () => {
    while (!isDone) ownerless += Number((await watcher.query('select 1 from shard where owner is null')).rowCount)
  })()
  await a.membership.drain(20_000)
  isDone = true
  await watching
  await watcher.end()
  assert.equal(ownerless, 0)
  assert.equal(a.owned(), 0)
  await until(() => b.owned() === shardCount, 'all shards at b')
  await agree(b.known, b.me)
})

test('[LEASE7] a claim against an owner that lives, or on an epoch that moved, takes nothing', async t => {
  const a = await node(t, 'a')
  a.listen()
  await until(() => a.owned() === shardCount, 'all shards')
  const store = await openOwnershipStore(readConfig({ DATABASE_URL: database.url }), silentLog, systemClock)
  t.after(() => store.close())
  const me = systemClock.id()
  await store.enter({ incarnation: me, nodeId: 'thief', version: 'test', isAlone: true })
  const { shards } = await store.read()
  assert.deepEqual(await store.claim(me, 0, shards), [])
  await sql.query("update engine_node set state = 'dead' where incarnation = $1", [a.me])
  assert.deepEqual(
    await store.claim(
      me,
      0,
      shards.map(s => ({ ...s, epoch: s.epoch - 1 })),
    ),
    [],
  )
  assert.equal((await store.claim(me, 0, shards)).length, shardCount)
})

test('[LEASE8] a silent node is buried after 8 s of an unmoved beat, not before, although the clock says it lives', async t => {
  const silent = systemClock.id()
  await sql.query(
    `insert into engine_node (incarnation, node_id, addrs, version, expires_at)
     values ($1, 'silent', '{x}', 'test', now() + interval '1 day')`,
    [silent],
  )
  await sql.query("update shard set owner = $1, worker = 0, epoch = nextval('owner_epoch') where shard_id < 10", [
    silent,
  ])
  const a = await node(t, 'a')
  a.listen()
  const took = await until(() => a.owned() === shardCount, 'the shards of the silent')
  assert.ok(took > 7500 && took < 12_000, `${took} ms`)
})

test('[LEASE9] a living node is buried when two gateways cannot reach it, not for one that says so twice', async t => {
  const a = await node(t, 'a')
  const b = await node(t, 'b')
  a.listen()
  b.listen()
  await Promise.all([a.settled, b.settled])
  const addr = '10.0.0.9:1'
  await sql.query('update engine_node set addrs = $2 where incarnation = $1', [a.me, [addr, '']])
  const gateway = await openOrm({
    url: database.url,
    role: 'parley_gateway',
    poolMax: 1,
    name: 'suspects',
    log: silentLog,
  })
  t.after(() => gateway.close())
  await suspectAddress(gateway.pool, addr, 'gateway-1')
  await suspectAddress(gateway.pool, addr, 'gateway-1')
  await new Promise(resolve => setTimeout(resolve, renewMs * 1.5))
  assert.equal(a.buried(), false)
  await suspectAddress(gateway.pool, addr, 'gateway-2')
  // What was said long ago does not count.
  await sql.query("update engine_suspicion set at = at - interval '31 s' where reporter = 'gateway-1'")
  await new Promise(resolve => setTimeout(resolve, renewMs * 1.5))
  assert.equal(a.buried(), false)
  await suspectAddress(gateway.pool, addr, 'gateway-1')
  await until(() => a.buried(), 'the burial')
  await until(() => b.owned() === shardCount, 'its shards at the other')
})

test('[LEASE10] a newcomer gets its shards once the membership stood still, one where a turn runs only after the turn', async t => {
  const a = await node(t, 'a')
  a.listen()
  await until(() => a.owned() === shardCount, 'all shards')
  for (let shard = 0; shard < shardCount; shard += 2) a.busy.add(shard)
  const b = await node(t, 'b')
  b.listen()
  const isAtB = (shard: number) => b.known.some(map => map.has(shard))
  await until(() => b.owned() >= 20, 'a part of the shards at the newcomer', membershipStableMs + 10_000)
  for (const shard of a.busy) assert.ok(!isAtB(shard), `${shard} was moved`)
  const were = [...a.busy]
  a.busy.clear()
  await until(() => were.some(isAtB), 'one that was busy', 8000)
})
