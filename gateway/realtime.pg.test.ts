/** What reaches sockets, on the whole stack: real gateway, engine, Postgres. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Frame, openClient, type TestClient } from '#load/kit/client.ts'
import { handshake, openRaw, rawFrame } from '#load/kit/raw-socket.ts'
import { type Stack, type StackUser, startStack } from '#load/kit/stack.ts'

let stack: Stack
let alice: StackUser
let bob: StackUser
let carol: StackUser
const clients: TestClient[] = []

before(async () => {
  stack = await startStack({ DRAIN_SPREAD_MS: '500' })
  ;[alice, bob, carol] = (await Promise.all([stack.user('alice'), stack.user('bob'), stack.user('carol')])) as [
    StackUser,
    StackUser,
    StackUser,
  ]
})
after(async () => {
  await Promise.all(clients.map(c => c.close().catch(() => {})))
  await stack?.stop()
})

async function connect(user: StackUser): Promise<TestClient> {
  const client = await openClient(stack.url, { token: user.token })
  clients.push(client)
  return client
}
async function room(...others: string[]): Promise<string> {
  const made = await alice.rest('POST', '/conversations', { type: 'group', title: 'room', usernames: others })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  return made.body.id
}
const send = (client: TestClient, conversationId: string, content: string) =>
  client.ask({ type: 'message.send', conversationId, clientMessageId: randomUUID(), content })
const of = (client: TestClient, conversationId: string) =>
  client.frames.filter(
    f => f['conversationId'] === conversationId && typeof f['seq'] === 'number' && f['type'] !== 'ack',
  )
const seqs = (frames: Frame[]) => frames.map(f => f['seq'] as number)
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

test('H3 events reach every socket of every member dense and once, in order', async () => {
  const id = await room('bob')
  const [a1, a2, b] = await Promise.all([connect(alice), connect(alice), connect(bob)])
  const head = b.frames[0]!['conversations'].find((c: Frame) => c['id'] === id)['headSeq']
  const acks = await Promise.all(range(1, 40).map(n => send(a1, id, `m${n}`)))
  assert.deepEqual(seqs(acks), range(head + 1, head + 40))
  for (const c of [a1, a2, b]) {
    await c.next(f => f['conversationId'] === id && f['seq'] === head + 40 && f['type'] === 'message.new')
    assert.deepEqual(seqs(of(c, id)), range(head + 1, head + 40))
  }
})

test('H4 a join replays from its afterSeq before room.joined, then live goes on', async () => {
  const id = await room('bob')
  const [a, b] = await Promise.all([connect(alice), connect(bob)])
  for (let i = 0; i < 5; i++) await send(a, id, `m${i}`)
  await b.next(f => f['conversationId'] === id && f['seq'] === 7)
  const from = b.frames.length
  const joined = await b.ask({ type: 'room.join', conversationId: id, afterSeq: 3 })
  assert.equal(joined['type'], 'room.joined')
  assert.equal(joined['headSeq'], 7)
  await send(a, id, 'later')
  await b.next(f => f['conversationId'] === id && f['seq'] === 8)
  const after = b.frames.slice(from).filter(f => f['conversationId'] === id && f['type'] !== 'receipt.updated')
  assert.deepEqual(
    after.map(f => f['seq'] ?? f['type']),
    [4, 5, 6, 7, 'room.joined', 8],
  )
  assert.ok(after.slice(0, 4).every(f => f['requestId'] === undefined))
  const ahead = await b.ask({ type: 'room.join', conversationId: id, afterSeq: 99 })
  assert.equal(ahead['type'], 'resync_required')
  assert.equal(ahead['reason'], 'ahead')
})

test('H6 H5 added: the notice, then from that event on; removed: up to that event, the notice, then nothing', async () => {
  const id = await room()
  const [a, c] = await Promise.all([connect(alice), connect(carol)])
  await send(a, id, 'before')
  assert.equal((await alice.rest('POST', `/conversations/${id}/members`, { username: 'carol' })).status, 201)
  const added = await c.ofType('conversation.added')
  assert.equal(added['conversation'].headSeq, 2)
  await send(a, id, 'inside')
  await c.next(f => f['conversationId'] === id && f['type'] === 'message.new')
  assert.equal((await alice.rest('DELETE', `/conversations/${id}/members/${carol.id}`)).status, 204)
  await c.ofType('conversation.removed')
  await send(a, id, 'outside')
  assert.equal((await send(c, id, 'x'))['code'], 'NOT_FOUND')
  const own = c.frames.filter(f => f['conversationId'] === id && f['type'] !== 'receipt.updated')
  assert.deepEqual(
    own.map(f => f['seq'] ?? f['type']).filter(k => k !== 'error'),
    ['conversation.added', 3, 4, 5, 'conversation.removed'],
  )
  assert.equal((await c.ask({ type: 'room.join', conversationId: id }))['code'], 'NOT_FOUND')
  // Added again: numbering starts there.
  await alice.rest('POST', `/conversations/${id}/members`, { username: 'carol' })
  assert.equal((await c.ofType('conversation.added'))['conversation'].headSeq, 6)
  await c.next(f => f['conversationId'] === id && f['seq'] === 7)
})

test('H6 a created conversation reaches everybody in it from its first event', async () => {
  const [a, b] = await Promise.all([connect(alice), connect(bob)])
  const id = await room('bob')
  for (const c of [a, b]) {
    await c.next(f => f['conversationId'] === id && f['seq'] === 2)
    const own = c.frames.filter(f => f['conversationId'] === id)
    assert.deepEqual(
      own.map(f => f['seq'] ?? f['type']),
      ['conversation.added', 1, 2],
    )
    assert.equal(own[0]!['conversation'].headSeq, 0)
  }
})

test('H9 typing reaches joined sockets of others only, receipts also the reader’s own', async () => {
  const id = await room('bob')
  const [a1, a2, b1, b2] = await Promise.all([connect(alice), connect(alice), connect(bob), connect(bob)])
  for (const c of [a1, a2, b1]) await c.ask({ type: 'room.join', conversationId: id })
  b1.send({ type: 'typing.start', conversationId: id })
  for (const c of [a1, a2]) {
    const typing = await c.ofType('typing')
    assert.equal(typing['userId'], bob.id)
    assert.equal(typing['on'], true)
  }
  await send(a1, id, 'hello')
  b1.send({ type: 'receipt.read', conversationId: id, seq: 3 })
  for (const c of [a1, b1, b2]) {
    await c.next(f => f['type'] === 'receipt.updated' && f['userId'] === bob.id && f['readSeq'] === 3, 'a receipt')
  }
  for (const c of [b1, b2]) assert.ok(!c.frames.some(f => f['type'] === 'typing'))
  assert.equal((await a1.ask({ type: 'room.leave', conversationId: id }))['type'], 'ack')
  assert.equal((await a1.ask({ type: 'room.leave', conversationId: id }))['type'], 'ack')
})

test('H14 what was written to a socket, or returned as a page of events, is delivered within two seconds', async () => {
  const ivan = await stack.user('ivan')
  const id = await room('bob', 'ivan')
  const [a, b] = await Promise.all([connect(alice), connect(bob)])
  await a.ask({ type: 'room.join', conversationId: id })
  const { seq } = await send(a, id, 'hello')
  await b.next(f => f['conversationId'] === id && f['seq'] === seq)
  await a.next(
    f => f['type'] === 'receipt.updated' && f['userId'] === bob.id && f['deliveredSeq'] === seq,
    'delivered',
    4000,
  )
  assert.equal((await ivan.rest('GET', `/conversations/${id}/events?limit=2`)).body.items.length, 2)
  const read = (f: Frame) => f['type'] === 'receipt.updated' && f['userId'] === ivan.id
  assert.equal((await a.next(read, 'delivered by REST', 4000))['deliveredSeq'], 2)
})

test('P1 P2 P3 presence: online, offline when the last leaves, unknown for strangers, sets are replaced', async () => {
  const dave = await stack.user('dave')
  const erin = await stack.user('erin')
  const made = await alice.rest('POST', '/conversations', { type: 'dm', usernames: ['dave'] })
  assert.equal(made.status, 201)
  const a = await connect(alice)
  a.send({ type: 'presence.watch', userIds: [dave.id, erin.id] })
  const about = (user: StackUser, status: string) =>
    a.next(f => f['type'] === 'presence' && f['userId'] === user.id && f['status'] === status, `${status}`, 4000)
  await Promise.all([about(dave, 'offline'), about(erin, 'unknown')])
  const [d1, d2] = [await connect(dave), await connect(dave)]
  await about(dave, 'online')
  await d1.close()
  await sleep(200)
  assert.equal(a.frames.filter(f => f['type'] === 'presence' && f['userId'] === dave.id).length, 2)
  await d2.close()
  assert.ok((await about(dave, 'offline'))['lastSeen'])
  const e = await connect(erin)
  a.send({ type: 'presence.watch', userIds: [bob.id] })
  await a.next(f => f['type'] === 'presence' && f['userId'] === bob.id)
  const count = a.frames.length
  const d3 = await connect(dave)
  await sleep(300)
  assert.equal(a.frames.slice(count).filter(f => f['userId'] === dave.id).length, 0)
  await Promise.all([d3.close(), e.close()])
})

test('H15 the eleventh socket of a user closes the oldest 4409', async () => {
  const frank = await stack.user('frank')
  const own: TestClient[] = []
  for (let i = 0; i < 11; i++) own.push(await connect(frank))
  assert.equal((await own[0]!.closed).code, 4409)
  assert.equal((await own[1]!.ask({ type: 'ping' }))['type'], 'pong')
  await Promise.all(own.map(c => c.close()))
})

test('S11 logout closes the session’s sockets 4410 within 5 s and others stay', async () => {
  const grace = await stack.user('grace')
  const [g, b] = await Promise.all([connect(grace), connect(bob)])
  const start = performance.now()
  assert.ok((await grace.rest('POST', '/auth/logout', {})).status < 300)
  assert.equal((await g.closed).code, 4410)
  assert.ok(performance.now() - start < 5000)
  assert.equal((await b.ask({ type: 'ping' }))['type'], 'pong')
})

test('H10 H11 a reader that stops for a while misses nothing, and others notice nothing', {
  timeout: 60_000,
}, async () => {
  const id = await room('bob')
  const a = await connect(alice)
  const raw = openRaw(stack.url)
  raw.write(handshake(stack.url))
  raw.write(rawFrame(JSON.stringify({ type: 'auth', token: bob.token })))
  for (const end = performance.now() + 3000; raw.texts.length === 0 && performance.now() < end; ) await sleep(10)
  raw.socket.pause()
  // Far more than the kernel's buffers of both ends take.
  const count = 1200
  const text = '\u0001'.repeat(4000)
  let worst = 0
  for (let i = 0; i < count; i += 50) {
    const start = performance.now()
    await Promise.all(range(1, 50).map(() => send(a, id, text)))
    worst = Math.max(worst, performance.now() - start)
  }
  const lagging = async () => {
    const metrics = await (await fetch(`${stack.metricsUrl}/metrics`)).text()
    return /^parley_outbox_lagging (\d+)/m.exec(metrics)?.[1]
  }
  // What the kernel's buffers took was caught up; then the socket is full and stays so.
  for (const end = performance.now() + 10_000; (await lagging()) !== '1' && performance.now() < end; ) await sleep(200)
  assert.equal(await lagging(), '1', `the reader is a position, not bytes: ${stack.gateway.tail()}`)
  raw.socket.resume()
  const got = () =>
    raw.texts.map(t => JSON.parse(t) as Frame).filter(f => f['conversationId'] === id && f['type'] === 'message.new')
  for (const end = performance.now() + 20_000; raw.texts.length < count && performance.now() < end; ) await sleep(50)
  await sleep(500)
  assert.deepEqual(seqs(got()), range(3, count + 2))
  assert.ok(worst < 3000, `a batch of sends took ${worst} ms`)
  raw.destroy()
})

test('D2 a second gateway without Redis does not start and says so', async () => {
  await assert.rejects(stack.addGateway(), /Another gateway runs on this database/)
})

test('D1 SIGTERM: server.draining, sends are served, 1012, exit 0 within 10 s; a new gateway serves on', async () => {
  const id = await room('bob')
  const [a, b] = await Promise.all([connect(alice), connect(bob)])
  const start = performance.now()
  const ended = stack.gateway.stop('SIGTERM')
  const draining = await b.ofType('server.draining')
  assert.ok(draining['reconnectInMs'] <= 500)
  const ack = await send(a, id, 'still served')
  assert.equal(ack['type'], 'ack')
  assert.equal((await a.closed).code, 1012)
  assert.equal((await b.closed).code, 1012)
  assert.equal(await ended, 0)
  assert.ok(performance.now() - start < 10_000)
  await stack.restart('gateway')
  const again = await connect(bob)
  const replayed = await again.ask({ type: 'room.join', conversationId: id, afterSeq: 0 })
  assert.equal(replayed['headSeq'], ack['seq'])
})
