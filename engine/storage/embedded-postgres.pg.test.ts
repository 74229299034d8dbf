/** The embedded server's life: start, adoption, crash, stop; and a journal over a database that goes away and comes back. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { Client } from 'pg'
import { silentLog } from '#engine/ops/log.ts'
import { checkLog, openBench, settled } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { canReach, EmbeddedPostgresError } from './embedded-place.ts'
import { startEmbedded } from './embedded-postgres.ts'
import { migrate } from './migrate.ts'
import { openOrm } from './orm.ts'

/** Searchable by the database user, as a folder of a person's own would be. */
function newHome(mode = 0o755): string {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-embedded-'))
  chmodSync(home, mode)
  return home
}

test('E1 a fresh folder becomes a running server; a second start adopts it; its data outlives a stop and a kill', async () => {
  const home = newHome()
  try {
    const first = await startEmbedded(home, silentLog)
    assert.equal(first.adopted, false)
    assert.ok(Number(first.version.split('.')[0]) >= 18)
    const client = new Client({ connectionString: first.url })
    client.on('error', () => {})
    await client.connect()
    await client.query('create table kept (n int)')
    await client.query('insert into kept values (1)')
    const settings = await client.query(
      `select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums', 'listen_addresses') order by name`,
    )
    assert.deepEqual(
      settings.rows.map(r => r.setting),
      ['on', 'on', 'on', '', 'on'],
      'names in order: data_checksums, fsync, full_page_writes, listen_addresses, synchronous_commit',
    )
    const socketDir = decodeURIComponent(first.url.split('host=')[1]!)
    assert.equal(statSync(socketDir).mode & 0o777, 0o700)

    const second = await startEmbedded(home, silentLog)
    assert.deepEqual([second.adopted, second.pid, second.url], [true, first.pid, first.url])
    await client.end()

    process.kill(first.pid, 'SIGKILL')
    const third = await startEmbedded(home, silentLog)
    assert.equal(third.adopted, false)
    await third.stop()
    await third.stop()
    const fourth = await startEmbedded(home, silentLog)
    const again = new Client({ connectionString: fourth.url })
    again.on('error', () => {})
    await again.connect()
    assert.equal((await again.query('select n from kept')).rowCount, 1)
    await again.end()
    await fourth.stop()
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})

test('E2 a folder that cannot be used is one sentence that names the setting', async () => {
  const home = newHome()
  try {
    const file = path.join(home, 'file')
    writeFileSync(file, '')
    await assert.rejects(startEmbedded(path.join(file, 'data'), silentLog), (error: Error) => {
      assert.ok(error instanceof EmbeddedPostgresError)
      assert.match(error.message, /DATA_DIR/)
      return true
    })
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})

test('E3 a folder under one that the database user cannot search is seen as such', () => {
  const home = newHome()
  try {
    const closed = path.join(home, 'closed')
    mkdirSync(closed)
    chmodSync(closed, 0o700)
    const stranger = { uid: 54_321, gid: 54_321 }
    assert.equal(canReach(path.join(closed, 'data'), stranger), false)
    assert.equal(canReach(path.join(home, 'data'), stranger), true)
    assert.equal(canReach(path.join(closed, 'data'), undefined), true)
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})

test('E4 a database that stops under sends and starts again: no ack in between, all of it stored after', async () => {
  const home = newHome()
  let server = await startEmbedded(home, silentLog)
  try {
    await migrate(server.url, 'up', silentLog)
    const admin = await openOrm({ url: server.url, name: 'test-admin', log: silentLog })
    const world = await postgresWorld(admin)
    const b = await openBench(world)
    const sources = Array.from({ length: 10 }, () => b.source())
    await b.own(...sources)
    for (const s of sources) s.send()
    await settled(...sources)
    // A restart in the middle of a stream of sends: some are in flight when the backends are ended.
    const sending = setInterval(() => {
      for (const s of sources) s.send()
    }, 2)
    await new Promise(resolve => setTimeout(resolve, 100))
    await server.stop()
    const acked = sources.map(s => s.acked.size)
    await new Promise(resolve => setTimeout(resolve, 300))
    assert.deepEqual(
      sources.map(s => s.acked.size),
      acked,
      'no ack while it is down',
    )
    server = await startEmbedded(home, silentLog)
    await new Promise(resolve => setTimeout(resolve, 300))
    clearInterval(sending)
    const backAt = performance.now()
    await settled(...sources)
    assert.ok(performance.now() - backAt < 5000)
    for (const s of sources) {
      assert.equal([...s.answered.values()].filter(word => word !== 'stored').length, 0)
      await checkLog(world, s)
    }
    await b.close()
    await admin.close()
  } finally {
    await server.stop()
    rmSync(server.dataDir, { recursive: true, force: true })
    rmSync(home, { recursive: true, force: true })
  }
})

test('E5 root keeps the data of a closed folder where the database user can go', {
  skip: process.getuid?.() !== 0,
}, async () => {
  const home = newHome(0o700)
  const server = await startEmbedded(home, silentLog)
  try {
    assert.equal(server.moved, true)
    assert.match(server.dataDir, /^\/var\/lib\/parley\//)
  } finally {
    await server.stop()
    rmSync(server.dataDir, { recursive: true, force: true })
    rmSync(home, { recursive: true, force: true })
  }
})

test('E6 a database that its user cannot open is one sentence at once, and is not made anew', async () => {
  const home = newHome()
  const cluster = path.join(home, 'postgres')
  try {
    mkdirSync(cluster, { mode: 0o700 })
    writeFileSync(path.join(cluster, 'PG_VERSION'), '18\n')
    // Root sees everything, and hands the work to another user; others are kept out by the folder's mode.
    if (process.getuid?.() === 0) chownSync(cluster, 54_321, 54_321)
    else chmodSync(cluster, 0)
    const began = performance.now()
    await assert.rejects(startEmbedded(home, silentLog), (error: Error) => {
      assert.ok(error instanceof EmbeddedPostgresError)
      assert.match(error.message, /^DATA_DIR .*(of another user|cannot be read)/)
      return true
    })
    assert.ok(performance.now() - began < 5000)
  } finally {
    if (process.getuid?.() !== 0) chmodSync(cluster, 0o700)
    rmSync(home, { recursive: true, force: true })
  }
})

test('E7 a process number that is another Postgres’s now holds up no start', async () => {
  const [home, elsewhere] = [newHome(), newHome()]
  const server = await startEmbedded(home, silentLog)
  const other = await startEmbedded(elsewhere, silentLog)
  try {
    const file = path.join(home, 'postgres', 'postmaster.pid')
    const before = readFileSync(file, 'utf8')
    await server.stop()
    // As after a boot: what was left behind names a process that is somebody else now.
    writeFileSync(file, before.replace(/^\d+/, String(other.pid)))
    const again = await startEmbedded(home, silentLog)
    assert.equal(again.adopted, false)
    await again.stop()
  } finally {
    await other.stop()
    for (const folder of [home, elsewhere]) rmSync(folder, { recursive: true, force: true })
  }
})
