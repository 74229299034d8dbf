/** The route map on real Postgres, and the notice that it changed. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Pool } from 'pg'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { buryKnown, claim, insertNode, readShards, renew } from './ownership.ts'
import { readRoutes, watchRouteMap } from './route-map.ts'

let db: TestDatabase
let pool: Pool
before(async () => {
  db = await testDatabase()
  pool = new Pool({ connectionString: db.url, max: 2 })
  pool.on('error', () => {})
})
after(async () => {
  await pool.end()
  await db.drop()
})

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 5000; !holds(); await new Promise(resolve => setTimeout(resolve, 5))) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`)
  }
}

test('[ROUTE1] a shard has the address of its owner’s worker while that lives and listens', async () => {
  const me = systemClock.id()
  await insertNode(pool, { incarnation: me, nodeId: 'n', addrs: [], version: '0' })
  const seen = await readShards(pool)
  const some = seen.filter(s => s.shard < 3)
  const taken = new Map((await claim(pool, some, me, 1)).map(s => [s.shard, s.epoch]))
  const row = async (shard: number) => (await readRoutes(pool)).find(r => r.shard === shard)!
  assert.equal((await readRoutes(pool)).length, 256)
  assert.deepEqual(await row(0), { shard: 0, epoch: taken.get(0), addr: null })
  await renew(pool, me, ['', '127.0.0.1:5'])
  assert.deepEqual(await row(0), { shard: 0, epoch: taken.get(0), addr: '127.0.0.1:5' })
  assert.equal((await row(9)).addr, null)
  await buryKnown(pool, me)
  assert.equal((await row(0)).addr, null)
})

test('[ROUTE2] a changed epoch is told, again after the connection was lost', async () => {
  let told = 0
  let listeners = 0
  const connect = async () => {
    const client = new Client({ connectionString: db.url, application_name: 'watcher' })
    client.on('error', () => {})
    await client.connect()
    listeners++
    return client
  }
  const stop = watchRouteMap(connect, silentLog, () => void told++)
  try {
    await until('the first word', () => told === 1)
    const me = systemClock.id()
    await insertNode(pool, { incarnation: me, nodeId: 'm', addrs: [], version: '0' })
    const free = (await readShards(pool)).filter(s => s.owner === null)
    await claim(pool, free.slice(0, 50), me, 0)
    await until('one notice for one statement', () => told === 2)
    await pool.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'watcher'`)
    await until('a new connection', () => listeners === 2 && told === 3)
    await claim(pool, free.slice(50, 51), me, 0)
    await until('the next notice', () => told === 4)
  } finally {
    stop()
  }
})
