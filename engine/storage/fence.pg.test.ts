/** What the fence and the ack rest on in Postgres itself: a row lock that excludes an owner, a commit that a standby confirms. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Contribution } from '#engine/actor/ports.ts'
import { silentLog } from '#engine/ops/log.ts'
import { checkLog, openBench, settled, until } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { startTestPostgres, testDatabase } from '#load/kit/postgres.ts'
import { commitStatement } from './commit-statement.ts'
import { PostgresLog } from './log-postgres.ts'
import { migrate } from './migrate.ts'
import { openOrm } from './orm.ts'

test('J20 while a commit is under way nobody takes its shard: a new owner waits for it', async () => {
  const database = await testDatabase()
  const admin = await openOrm({ url: database.url, name: 'test-admin', poolMax: 4, log: silentLog })
  const world = await postgresWorld(admin)
  const [committing, taking] = [await admin.pool.connect(), await admin.pool.connect()]
  try {
    const shard = 7
    const epoch = (await world.own([shard])).get(shard)!
    const empty: Contribution = { shard, epoch, conversation: randomUUID(), events: [], segments: [], sides: [] }
    const { text, values } = commitStatement([empty])
    await committing.query('begin')
    const fenced = await committing.query(text, values)
    assert.equal(fenced.rowCount, 1)
    await taking.query("set lock_timeout = '300ms'")
    const take = () => taking.query(`update shard set epoch = nextval('owner_epoch') where shard_id = $1`, [shard])
    await assert.rejects(take(), { code: '55P03' })
    await committing.query('commit')
    assert.equal((await take()).rowCount, 1)
  } finally {
    await committing.query('rollback')
    committing.release()
    taking.release(true)
    await world.close()
    await admin.close()
    await database.drop()
  }
})

test('J21 a commit that no standby confirmed, given up with a warning, is not acked until a stamp found it', async () => {
  // The setting is the whole server's, and would stop every other test's commits.
  const server = await startTestPostgres({ wal_level: 'replica', max_wal_senders: 2 })
  const url = server.adminUrl
  await migrate(url, 'up', silentLog)
  const admin = await openOrm({ url, name: 'test-admin', poolMax: 4, log: silentLog })
  const world = await postgresWorld(admin)
  const b = await openBench(world)
  const standby = async (sql: string) => {
    await admin.pool.query(sql)
    await admin.pool.query('select pg_reload_conf()')
  }
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    await standby(`alter system set synchronous_standby_names = 'nobody'`)
    const { generation } = b.journal
    const waiting = async () => {
      const text = `select pid from pg_stat_activity where application_name = $1 and wait_event = 'SyncRep'`
      return (await admin.pool.query<{ pid: number }>(text, [world.writer])).rows[0]?.pid
    }
    let pid: number | undefined
    for (const end = performance.now() + 5000; pid === undefined && performance.now() < end; pid = await waiting()) {
      // The new setting reaches the server's own processes a moment later: a commit before that waits for nobody.
      if (s.letters.length === 0) s.send()
    }
    assert.ok(pid, 'the commit waits for a standby')
    const acked = s.acked.size
    await admin.pool.query('select pg_cancel_backend($1)', [pid])
    await until(() => b.journal.generation > generation, 'the connection is given up with the doubt', 2000)
    assert.equal(s.acked.size, acked)
    await standby('alter system reset synchronous_standby_names')
    await settled(s)
    assert.equal(s.acked.size, acked + 1)
    await checkLog(world, s)
  } finally {
    await b.close()
    await admin.close()
    await server.stop()
  }
})

test('J23 a database that is set to commit before it is on disk does so for others, not for what is acked', async () => {
  const database = await testDatabase()
  const admin = await openOrm({ url: database.url, name: 'test-admin', poolMax: 2, log: silentLog })
  const name = (await admin.pool.query<{ name: string }>('select current_database() as name')).rows[0]!.name
  const setting = async (client: { query(text: string): Promise<{ rows: { synchronous_commit: string }[] }> }) =>
    (await client.query('show synchronous_commit')).rows[0]!.synchronous_commit
  try {
    for (const [given, wanted] of [
      ['off', 'on'],
      ['local', 'on'],
      ['remote_apply', 'remote_apply'],
    ] as const) {
      await admin.pool.query(`alter database "${name}" set synchronous_commit = ${given}`)
      let writer: Awaited<ReturnType<typeof admin.connect>> | undefined
      const connect = async () => (writer = await admin.connect())
      const log = new PostgresLog({ connect, incarnation: randomUUID(), worker: 0, named: true, log: silentLog })
      await log.connect(false)
      assert.equal(await setting(writer!), wanted, given)
      await log.close()
    }
  } finally {
    await admin.close()
    await database.drop()
  }
})
