/**
 * A worker's whole path on real Postgres: a gateway's client over gRPC, relay, actors, journal, log, and back.
 * The worker runs in this thread; the test plays the main thread.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { Client, Pool } from 'pg'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { checkServerFrame } from '#protos/catalogue.ts'
import { createEngineClient } from './client/engine.ts'
import { deafSink } from './client/fixtures/deaf-sink.ts'
import type { CommandIn, EngineClient } from './client/port.ts'
import { type FromWorker, processMono, type ToWorker } from './control.ts'
import { systemClock } from './ops/clock.ts'
import { silentLog } from './ops/log.ts'
import { openMetrics } from './ops/metrics.ts'
import { claim, insertNode, readShards, renew, replace, type ShardEpoch } from './storage/ownership.ts'
import { readRoutes, watchRouteMap } from './storage/route-map.ts'
import work from './worker.ts'

const conversation = systemClock.id()
const [alice, bob] = [systemClock.id(), systemClock.id()]
const incarnation = systemClock.id()
type Frame = Record<string, unknown> & { type: string }

let db: TestDatabase
let pool: Pool
let port: MessagePort
let working: Promise<void>
let renewing: NodeJS.Timeout
let client: EngineClient
let addr = ''
const heard: FromWorker[] = []
const answers: Frame[] = []
const facts: Frame[] = []
const replays: Frame[] = []
const heads: [string, number][] = []

const tell = (message: ToWorker) => port.postMessage(message)
const pairs = (shards: readonly ShardEpoch[]) => shards.map(s => [s.shard, s.epoch] as [number, number])

function frameOf(body: Uint8Array): Frame {
  const frame = JSON.parse(Buffer.from(body).toString()) as Frame
  const checked = checkServerFrame(frame)
  assert.ok('frame' in checked, `${JSON.stringify(checked)} in ${JSON.stringify(frame)}`)
  return frame
}

function command(principal: string, body: object, over: Partial<CommandIn> = {}): void {
  const taken = client.command({
    conversation,
    principal,
    socket: 1,
    attempt: systemClock.id(),
    trace: 't1',
    body: Buffer.from(JSON.stringify({ conversationId: conversation, ...body })),
    durable: true,
    readAt: systemClock.mono(),
    ...over,
  })
  assert.deepEqual(taken, { taken: true })
}

async function until(what: string, holds: () => boolean, ms = 15_000): Promise<void> {
  const end = performance.now() + ms
  while (!holds()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

before(async () => {
  db = await testDatabase()
  pool = new Pool({ connectionString: db.url, max: 3 })
  pool.on('error', () => {})
  for (const id of [alice, bob])
    await pool.query('insert into users (id, username) values ($1, $2)', [id, `u${id.slice(-8)}`])
  await insertNode(pool, { incarnation, nodeId: 'test', addrs: [], version: '0' })

  const { port1, port2 } = new MessageChannel()
  port = port1
  port.on('message', (message: FromWorker) => heard.push(message))
  const env = { DATABASE_URL: db.url, LOG_LEVEL: 'fatal', RATE_LIMIT_SCALE: '1000' }
  const beat = new SharedArrayBuffer(4)
  working = work({ port: port2, beat, worker: 0, nodeId: 'test', incarnation, env })
  await until('listening', () => heard.length > 0)
  const [first] = heard
  assert.ok(first?.kind === 'listening')
  addr = first.addr
  await renew(pool, incarnation, [addr])
  const seen = await readShards(pool)
  tell({ kind: 'renewed', mono: processMono() })
  renewing = setInterval(() => tell({ kind: 'renewed', mono: processMono() }), 1000)
  tell({ kind: 'own', shards: pairs(await claim(pool, seen, incarnation, 0)) })

  client = createEngineClient({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    readRoutes: () => readRoutes(pool),
    nodeId: 'gateway',
    listen: changed =>
      watchRouteMap(
        async () => {
          const listener = new Client({ connectionString: db.url })
          await listener.connect()
          return listener
        },
        silentLog,
        changed,
      ),
  })
  await client.start({
    ...deafSink,
    answer: (_, body) => void answers.push(frameOf(body)),
    replay: (_, body) => void replays.push(frameOf(body)),
    fact: (_, body) => void facts.push(frameOf(body)),
    head: (id, head) => void heads.push([id, head]),
    position: () => facts.length,
  })
})

after(async () => {
  clearInterval(renewing)
  await client?.close()
  tell({ kind: 'stop' })
  await working
  port.close()
  await pool.end()
  await db.drop()
})

test('W1 a conversation is created by a command without a socket', async () => {
  const members = [
    { userId: alice, role: 'owner' },
    { userId: bob, role: 'member' },
  ]
  const body = { type: 'conversation.create', conversationId: conversation, kind: 'group', title: 'Room', members }
  const create = { conversation, principal: alice, trace: '', body: Buffer.from(JSON.stringify(body)), durable: true }
  const answer = JSON.parse((await client.request({ ...create, attempt: systemClock.id() }, 10_000)) ?? '{}') as Frame
  assert.equal(answer.type, 'ack', JSON.stringify(answer))
  const stored = await pool.query('select seq, kind from event where conversation_id = $1 order by seq', [conversation])
  assert.deepEqual(
    stored.rows.map(row => row.kind),
    ['room.member_joined', 'room.member_joined'],
  )
})

test('W2 a send is committed, acked at its seq, and told to who attached; the same id again is a duplicate', async () => {
  client.attach([[conversation, 0]])
  await until('the head', () => heads.length === 1)
  assert.deepEqual(heads, [[conversation, 2]])
  const clientMessageId = systemClock.id()
  const send = { type: 'message.send', clientMessageId, content: 'hello', requestId: 'r1' }
  command(alice, send)
  await until('ack and fact', () => answers.length === 1 && facts.length === 1)
  assert.deepEqual([answers[0]!.type, answers[0]!['seq'], answers[0]!['requestId']], ['ack', 3, 'r1'])
  assert.deepEqual([facts[0]!.type, facts[0]!['seq'], facts[0]!['content']], ['message.new', 3, 'hello'])
  command(alice, { ...send, requestId: 'r2' })
  await until('the second ack', () => answers.length === 2)
  assert.deepEqual([answers[1]!['seq'], answers[1]!['duplicate'], answers[1]!['requestId']], [3, true, 'r2'])
  assert.equal(facts.length, 1)
})

test('W3 sends of one socket keep their order while epochs move under them, with no gap and no duplicate', async () => {
  const count = 300
  const from = answers.length
  for (let n = 0; n < count; n++) {
    command(alice, { type: 'message.send', clientMessageId: systemClock.id(), content: `n${n}`, requestId: `${n}` })
    if (n % 100 === 99) {
      await new Promise(resolve => setTimeout(resolve, 30))
      const moved = await replace(pool, incarnation, [...Array(256).keys()], 0)
      tell({ kind: 'own', shards: pairs(moved) })
      await until('acks so far', () => answers.length === from + n + 1)
    }
  }
  const acks = answers.slice(from)
  assert.deepEqual(
    acks.map(a => [a.type, a['requestId']]),
    Array.from({ length: count }, (_, n) => ['ack', `${n}`]),
  )
  assert.deepEqual(
    acks.map(a => a['seq']),
    Array.from({ length: count }, (_, n) => n + 4),
  )
  const stored = await pool.query(
    `select seq::int, body::json->>'content' as content from event where conversation_id = $1 and seq > 3 order by seq`,
    [conversation],
  )
  assert.deepEqual(
    stored.rows.map(row => [row.seq, row.content]),
    Array.from({ length: count }, (_, n) => [n + 4, `n${n}`]),
  )
})

test('W4 a join replays what follows afterSeq in order, then room.joined at the head', async () => {
  command(bob, { type: 'room.join', afterSeq: 1, requestId: 'j' }, { socket: 2 })
  await until('room.joined', () => answers.at(-1)!.type === 'room.joined')
  const joined = answers.at(-1)!
  assert.equal(joined['headSeq'], 303)
  assert.deepEqual(
    replays.map(f => f['seq']),
    Array.from({ length: 302 }, (_, n) => n + 2),
  )
  command(systemClock.id(), { type: 'room.join', requestId: 'stranger' }, { socket: 3 })
  await until('the refusal', () => answers.at(-1)!['requestId'] === 'stranger')
  assert.equal(answers.at(-1)!.type, 'error')
})

test('W5 metrics of the thread answer with the id they were asked by, and a drain is reported', async () => {
  tell({ kind: 'metrics', id: 42 })
  await until('metrics', () => heard.some(m => m.kind === 'metrics'))
  const dump = heard.find(m => m.kind === 'metrics')
  assert.ok(dump?.kind === 'metrics' && dump.id === 42)
  assert.ok(dump.json.some(m => m.name === 'parley_commits_total'))
  tell({ kind: 'drain' })
  await until('drained', () => heard.some(m => m.kind === 'drained'))
})
