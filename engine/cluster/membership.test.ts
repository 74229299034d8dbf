/** A membership over rows in memory: what a real database does too rarely to wait for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { ShardTable } from '#engine/storage/shard-table.ts'
import { membershipStableMs, shardCount } from '#protos/limits.ts'
import { joinCluster } from './membership.ts'
import type { ClusterNode, Granted, OwnershipStore } from './rows.ts'

const me = 'me'
const other = 'other'

/** What a hand-over may meet. */
type Fate = 'target gone' | 'answer lost' | 'never ran' | 'stamped meanwhile' | 'done'

function cluster(
  fate: Fate,
  turns: { running: Set<number>; unhushed: Set<number> } = { running: new Set(), unhushed: new Set() },
) {
  let epoch = 0
  const rows = Array.from({ length: shardCount }, (_, shard) => ({
    shard,
    epoch: 0,
    owner: null as string | null,
    worker: null as number | null,
  }))
  const nodes: ClusterNode[] = [nodeOf(me, 'a')]
  let isStruck = false
  const move = (shards: readonly number[], owner: string, worker: number): Granted[] =>
    rows
      .filter(row => shards.includes(row.shard))
      .map(row => {
        Object.assign(row, { owner, worker, epoch: ++epoch })
        return { shard: row.shard, epoch }
      })
  const mine = (shards: readonly number[]) => shards.filter(shard => rows[shard]!.owner === me)
  // As a thread has it: what it lost under an epoch it takes again only under a later one.
  const table = new ShardTable()
  const store: OwnershipStore = {
    async renew() {
      return true
    },
    async read() {
      return { nodes: structuredClone(nodes), shards: structuredClone(rows) }
    },
    async bury() {
      return false
    },
    async burySuspect() {
      return false
    },
    async setAddrs(_me, addrs) {
      nodes[0]!.addrs = addrs
    },
    async claim(_me, worker, wanted) {
      return move(
        wanted.filter(w => rows[w.shard]!.owner === null).map(w => w.shard),
        me,
        worker,
      )
    },
    async replace(_me, worker, shards) {
      return move(mine(shards), me, worker)
    },
    async handOver(_me, held, to) {
      const shards = held.filter(h => rows[h.shard]!.epoch === h.epoch).map(h => h.shard)
      if (isStruck || fate === 'done') return move(mine(shards), to.incarnation, to.worker)
      isStruck = true
      if (fate === 'answer lost') move(mine(shards), to.incarnation, to.worker)
      // The other goes at that moment, and nothing is to be moved to it any more.
      else nodes.pop()
      if (fate === 'answer lost' || fate === 'never ran') throw new Error('no answer')
      return []
    },
    async markDraining() {},
    async leave() {},
  }
  let ahead = 0
  const settled = Promise.withResolvers<void>()
  const membership = joinCluster({
    store,
    me,
    workers: 1,
    clock: { ...systemClock, mono: () => systemClock.mono() + ahead },
    log: silentLog,
    metrics: openMetrics(),
    own(_worker, shards) {
      for (const { shard, epoch: given } of shards) table.set(shard, given)
    },
    disown(_worker, shards) {
      for (const shard of shards) {
        // The thread's own recovery was first, and word of it is on its way.
        if (fate === 'stamped meanwhile' && !isStruck) table.set(shard, (rows[shard]!.epoch = ++epoch))
        table.drop(shard)
      }
    },
    // What was said a moment ago.
    isBusy: shard => turns.unhushed.has(shard) && turns.running.has(shard),
    async hush(_worker, shards) {
      return new Set(shards.filter(shard => turns.running.has(shard)))
    },
    unhush(_worker, shards) {
      for (const shard of shards) turns.unhushed.add(shard)
    },
    onSettled: settled.resolve,
    onRenewed() {},
    onBuried() {},
  })
  return {
    membership,
    table,
    rows,
    nodes,
    settled: settled.promise,
    wasStruck: () => isStruck,
    later: (ms: number) => (ahead += ms),
  }
}

function nodeOf(incarnation: string, nodeId: string): ClusterNode {
  return { incarnation, nodeId, addrs: ['127.0.0.1:1'], state: 'up', beat: 1, expired: false, suspected: false }
}

for (const fate of ['target gone', 'answer lost', 'never ran', 'stamped meanwhile'] as const) {
  test(`[LEASE11] after a hand-over that met "${fate}" every shard is served by the owner of its row`, async t => {
    const c = cluster(fate)
    t.after(() => c.membership.close(false))
    c.membership.listening(0, '127.0.0.1:1')
    await c.settled
    assert.equal(c.table.size, shardCount)
    c.nodes.push(nodeOf(other, 'b'))
    c.membership.hinted()
    await new Promise(resolve => setTimeout(resolve, 20))
    c.later(membershipStableMs + 1)
    const agree = () => c.rows.every(row => c.table.epochOf(row.shard) === (row.owner === me ? row.epoch : undefined))
    for (const until = performance.now() + 3000; !(c.wasStruck() && agree()) && performance.now() < until; ) {
      c.membership.hinted()
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    assert.ok(c.wasStruck(), 'nothing was handed over')
    const unserved = c.rows.filter(row => row.owner === me && c.table.epochOf(row.shard) === undefined)
    assert.deepEqual(unserved, [])
    assert.ok(agree())
  })
}

test('[LEASE12] a shard in which a turn has just begun stays until that ends', async t => {
  const turns = { running: new Set<number>(), unhushed: new Set<number>() }
  const c = cluster('done', turns)
  t.after(() => c.membership.close(false))
  c.membership.listening(0, '127.0.0.1:1')
  await c.settled
  for (let shard = 0; shard < shardCount; shard += 2) turns.running.add(shard)
  c.nodes.push(nodeOf(other, 'b'))
  c.membership.hinted()
  await new Promise(resolve => setTimeout(resolve, 20))
  c.later(membershipStableMs + 1)
  const given = () => c.rows.filter(row => row.owner === other).map(row => row.shard)
  const settle = async () => {
    for (let before = -1; before !== given().length; ) {
      before = given().length
      for (let i = 0; i < 20; i++) {
        c.membership.hinted()
        await new Promise(resolve => setTimeout(resolve, 5))
      }
    }
  }
  await settle()
  const first = given()
  assert.ok(first.length > 20, `${first.length} moved`)
  assert.deepEqual(
    first.filter(shard => turns.running.has(shard)),
    [],
  )
  assert.ok(turns.unhushed.size > 0)
  turns.running.clear()
  await settle()
  assert.ok(given().length > first.length)
})
