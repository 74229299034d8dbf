import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { PgSplitter, statementName, statementText } from './pg-frames.ts'
import { type Cut, openPgProxy, type PgProxy, upstreamOf, urlThrough } from './proxy.ts'

let database: TestDatabase
let direct: Client
let proxy: PgProxy

before(async () => {
  database = await testDatabase(true)
  direct = new Client({ connectionString: database.url })
  await direct.connect()
  await direct.query('create table line (n int primary key)')
  proxy = await openPgProxy(upstreamOf(database.url), { lateMs: 400 })
})

after(async () => {
  await proxy?.close()
  await direct?.end()
  await database?.drop()
})

async function through(): Promise<Client> {
  const client = new Client({ connectionString: urlThrough(database.url, proxy.port) })
  client.on('error', () => {})
  await client.connect()
  return client
}

const commit = (client: Client, n: number) =>
  client.query({
    name: 'parley_commit_1',
    text: 'with stored as (insert into line values ($1)) select 1',
    values: [n],
  })

async function isThere(n: number): Promise<boolean> {
  return (await direct.query('select 1 from line where n = $1', [n])).rowCount === 1
}

async function until(what: () => Promise<boolean>, ms = 3000): Promise<boolean> {
  for (const end = performance.now() + ms; performance.now() < end; await sleep(20)) if (await what()) return true
  return false
}

test('[F5] what is no commit passes, and so do commits that are not cut', async () => {
  const client = await through()
  const seen = proxy.counts.commits
  const big = await client.query('select repeat($1, 300000) as text', ['abc'])
  assert.equal((big.rows[0] as { text: string }).text.length, 900_000)
  await commit(client, 1)
  await commit(client, 2)
  assert.equal(proxy.counts.commits - seen, 2, 'the second time there is no Parse')
  assert.ok((await isThere(1)) && (await isThere(2)))
  await assert.rejects(client.query('select nothing from nowhere'), /nowhere/)
  await client.end()
})

const stored: Record<Exclude<Cut, 'late'>, boolean> = { before: false, reply: true, inside: true, reset: true }
let n = 10
for (const [cut, isStored] of Object.entries(stored) as [Cut, boolean][]) {
  test(`[F5] ${cut}: the client hears nothing and the row is ${isStored ? 'there' : 'never there'}`, async () => {
    const client = await through()
    await commit(client, ++n)
    const fired = proxy.counts.cut[cut]
    proxy.arm(cut)
    await assert.rejects(commit(client, ++n))
    proxy.arm(undefined)
    assert.equal(proxy.counts.cut[cut], fired + 1)
    if (isStored) assert.ok(await until(() => isThere(n)), 'the row comes')
    else {
      await sleep(100)
      assert.equal(await isThere(n), false)
    }
    await client.end().catch(() => {})
  })
}

test('[F5] late: it runs long after the client went away, and a match is counted', async () => {
  const client = await through()
  await commit(client, ++n)
  proxy.arm('late')
  const lost = assert.rejects(commit(client, ++n))
  assert.ok(await until(async () => proxy.counts.cut.late === 1))
  proxy.arm(undefined)
  ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
  await lost
  await sleep(100)
  assert.equal(await isThere(n), false, 'it is held')
  assert.ok(await until(() => isThere(n)), 'it runs')
  assert.ok(await until(async () => proxy.counts.lateMatched === 1))
  assert.equal(proxy.counts.lateRun, 1)
  await client.end().catch(() => {})
})

test('[F5] each third commit is cut when told so', async () => {
  const fired = proxy.counts.cut.reply
  proxy.arm('reply', 3)
  for (let i = 0; i < 6; i++) {
    const client = await through()
    await commit(client, ++n).catch(() => {})
    await client.end().catch(() => {})
  }
  proxy.arm(undefined)
  assert.equal(proxy.counts.cut.reply, fired + 2)
})

test('[F12] held replies arrive late, and nobody connects to a refusing proxy', async () => {
  const client = await through()
  proxy.setMode('holdReplies')
  let isDone = false
  const answer = commit(client, ++n).then(() => (isDone = true))
  assert.ok(await until(() => isThere(n)))
  await sleep(100)
  assert.equal(isDone, false)
  proxy.setMode('pass')
  await answer
  proxy.setMode('refuse')
  await assert.rejects(through())
  await assert.rejects(commit(client, ++n))
  proxy.setMode('pass')
  await client.end().catch(() => {})
})

test('[F5] messages are found however the bytes are cut', () => {
  const typed = (type: string, body: string) => {
    const bytes = Buffer.alloc(5 + body.length)
    bytes.write(type)
    bytes.writeInt32BE(4 + body.length, 1)
    bytes.write(body, 5, 'latin1')
    return bytes
  }
  const startup = Buffer.alloc(9)
  startup.writeInt32BE(9)
  startup.writeInt32BE(196_608, 4)
  const stream = Buffer.concat([
    startup,
    typed('P', 'parley_commit_1\0with fence\0\0\0'),
    typed('B', '\0parley_commit_1\0\0\0'),
    typed('S', ''),
  ])
  for (let size = 1; size <= stream.length; size++) {
    const splitter = new PgSplitter('client')
    const frames = []
    for (let at = 0; at < stream.length; at += size) frames.push(...splitter.push(stream.subarray(at, at + size)))
    assert.deepEqual(
      frames.map(f => f.type),
      ['', 'P', 'B', 'S'],
    )
    assert.deepEqual(frames.map(statementName), [undefined, 'parley_commit_1', 'parley_commit_1', undefined])
    assert.equal(statementText(frames[1]!), 'with fence')
  }
})
