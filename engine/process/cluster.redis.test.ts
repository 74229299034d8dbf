/** A cluster on one machine: six processes that come back, one truth over two gateways and two engines. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { type Frame, openClient, type TestClient } from '#load/kit/client.ts'
import { type Cluster, startTestCluster } from '#load/kit/cluster.ts'
import { isAlive } from './node-file.ts'

const hasRedis = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0

let cluster: Cluster
let tokens: string[]
const clients: TestClient[] = []

async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 20_000): Promise<number> {
  const began = performance.now()
  while (!(await holds())) {
    assert.ok(performance.now() - began < ms, `waited ${ms} ms for ${what}\n${cluster.output()}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  return performance.now() - began
}

/** `gateway`: 0 or 1. */
async function connect(user: number, gateway: number): Promise<TestClient> {
  const client = await openClient(cluster.file().gateways[gateway]!.url, { token: tokens[user]! })
  clients.push(client)
  return client
}
const userIdOf = (client: TestClient) => client.frames.find(f => f['type'] === 'ready')!['userId'] as string
const of = (conversationId: string, type: string) => (f: Frame) =>
  f['conversationId'] === conversationId && f['type'] === type
const send = (client: TestClient, conversationId: string, content: string, type = 'message.send') =>
  client.ask({ type, conversationId, clientMessageId: randomUUID(), content })
const dm = (gateway: number, from: number, to: number) =>
  cluster.request<{ id: string }>(gateway, tokens[from]!, 'POST', '/conversations', {
    type: 'dm',
    usernames: [`seed_${to + 1}`],
  })

describe('a cluster', { skip: hasRedis ? false : 'redis-server is not installed' }, () => {
  before(async () => {
    cluster = await startTestCluster()
    tokens = await cluster.seed(6)
  })
  after(async () => {
    await Promise.all(clients.map(client => client.close().catch(() => undefined)))
    await cluster?.stop()
  })

  test('[CLUSTER1] cluster.json names six living processes, and what it names answers', async () => {
    const { gateways, engines, postgres, redis } = cluster.file()
    assert.deepEqual([gateways.length, engines.length], [2, 2])
    for (const { pid } of [...gateways, ...engines, postgres, redis]) assert.ok(isAlive(pid))
    await cluster.ready()
    for (const { metrics_url } of [...gateways, ...engines]) {
      for (const where of [metrics_url, `${metrics_url}/metrics`])
        assert.match(await (await fetch(where)).text(), /parley_/, where)
    }
    for (const { workers } of engines) {
      assert.deepEqual(
        workers.map(w => w.index),
        [0, 1],
      )
      for (const { started_at } of workers) assert.equal(new Date(started_at).toISOString(), started_at)
    }
    assert.deepEqual(await cluster.sql('select 1 as one'), [{ one: 1 }])
  })

  test('[CLUSTER2] shards are owned by all four threads, about alike', async () => {
    const owned = async () =>
      (
        await cluster.sql<{ n: number }>(
          'select count(*)::int as n from shard where owner is not null group by owner, worker',
        )
      ).map(row => row.n)
    // The first engine to come takes all; the part of the other moves after the membership stood still for 10 s.
    let shares: number[] = []
    const isFair = async () => {
      shares = await owned()
      return shares.length === 4 && shares.every(n => n > 38 && n < 90)
    }
    await until(isFair, `fair shares, not ${shares.join()}`, 25_000)
    assert.equal(
      shares.reduce((a, b) => a + b),
      256,
    )
  })

  test('[CLUSTER3] a message, its receipts and typing cross gateways', async () => {
    const [a, b] = [await connect(0, 0), await connect(1, 1)]
    const { id } = await dm(0, 0, 1)
    await b.next(of(id, 'conversation.added'), 'conversation.added')
    for (const client of [a, b]) await client.ask({ type: 'room.join', conversationId: id })
    const ack = await send(a, id, 'over there')
    const got = await b.next(of(id, 'message.new'), 'the message')
    assert.deepEqual([got['seq'], got['content']], [ack['seq'], 'over there'])
    b.send({ type: 'receipt.read', conversationId: id, seq: ack['seq'] })
    await a.next(f => of(id, 'receipt.updated')(f) && f['readSeq'] === ack['seq'], 'the receipt')
    b.send({ type: 'typing.start', conversationId: id })
    await a.next(f => of(id, 'typing')(f) && f['on'] === true, 'typing')
    // The same id through the other gateway is the same message.
    const again = await openClient(cluster.file().gateways[1]!.url, { token: tokens[0]! })
    clients.push(again)
    const clientMessageId = got['clientMessageId']
    const twice = await again.ask({ type: 'message.send', conversationId: id, clientMessageId, content: 'over there' })
    assert.deepEqual([twice['seq'], twice['duplicate']], [ack['seq'], true])
  })

  test('[CLUSTER4] presence crosses gateways', async () => {
    const a = await connect(2, 0)
    await dm(0, 2, 3)
    const b = await connect(3, 1)
    const userId = userIdOf(b)
    a.send({ type: 'presence.watch', userIds: [userId] })
    await a.next(f => f['type'] === 'presence' && f['userId'] === userId && f['status'] === 'online', 'online')
    await b.close()
    await a.next(
      f => f['type'] === 'presence' && f['userId'] === userId && f['status'] === 'offline',
      'offline',
      70_000,
    )
  })

  test('[CLUSTER5] the 11th socket of a user, counted over gateways, closes the oldest within 2 s', async () => {
    const sockets: TestClient[] = []
    for (let i = 0; i < 10; i++) sockets.push(await connect(4, i % 2))
    const began = performance.now()
    await connect(4, 1)
    const closed = await sockets[0]!.closed
    assert.equal(closed.code, 4409)
    assert.ok(performance.now() - began < 2000, `${performance.now() - began} ms`)
    for (const socket of sockets.slice(1)) assert.equal(socket.ws.readyState, 1)
  })

  test('[CLUSTER6] a session that is ended at one gateway is refused at the other within 5 s', async () => {
    const post = (gateway: number, where: string, body: object, token?: string) =>
      fetch(cluster.file().gateways[gateway]!.url + where, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
      })
    const email = `${randomUUID()}@example.org`
    const made = await post(0, '/api/auth/register', { email, password: 'long enough' })
    const { access_token: token } = (await made.json()) as { access_token: string }
    const socket = await openClient(cluster.file().gateways[1]!.url, { token })
    clients.push(socket)
    const began = performance.now()
    assert.equal((await post(0, '/auth/logout', {}, token)).status, 200)
    assert.equal((await socket.closed).code, 4410)
    assert.ok(performance.now() - began < 20_000)
    const me = await fetch(`${cluster.file().gateways[1]!.url}/me`, { headers: { authorization: `Bearer ${token}` } })
    assert.equal(me.status, 401)
  })

  test('[CLUSTER7] an answer of the assistant streams to sockets of both gateways', async () => {
    const [a, b] = [await connect(0, 0), await connect(0, 1)]
    const { id } = await cluster.request<{ id: string }>(0, tokens[0]!, 'POST', '/conversations', { type: 'ai' })
    await b.next(of(id, 'conversation.added'), 'conversation.added')
    for (const client of [a, b]) await client.ask({ type: 'room.join', conversationId: id })
    await send(a, id, '#stream words=30 delay_ms=10', 'chat.send')
    for (const client of [a, b]) {
      const done = await client.next(of(id, 'chat.done'), 'chat.done')
      const text = client.frames
        .filter(of(id, 'chat.stream'))
        .map(f => f['content'] as string)
        .join('')
      assert.equal(Buffer.byteLength(text), done['bytes'])
    }
  })

  test('[CLUSTER8] a thread that is broken on purpose is replaced, at the same address', async () => {
    const before = cluster.file().engines[1]!
    const answer = await fetch(`${before.admin_url}/fault`, {
      method: 'POST',
      body: JSON.stringify({ worker: 1, kind: 'exit' }),
    })
    assert.equal(answer.status, 202)
    const now = () => cluster.file().engines[1]!
    await until(() => now().workers[1]!.started_at !== before.workers[1]!.started_at, 'another thread')
    assert.equal(now().pid, before.pid)
    assert.equal(now().workers[1]!.grpc, before.workers[1]!.grpc)
    assert.deepEqual(now().workers[0], before.workers[0])
    await cluster.ready()
  })

  const processes: [string, () => { pid?: number }][] = [
    ['a gateway', () => cluster.file().gateways[1]!],
    ['an engine', () => cluster.file().engines[0]!],
    ['Redis', () => cluster.file().redis],
    ['Postgres', () => cluster.file().postgres],
  ]
  for (const [name, find] of processes) {
    test(`[CLUSTER9] ${name} that is killed comes back about 1 s later, at the same address`, async () => {
      const before = cluster.file()
      const addresses = (file: typeof before) => JSON.stringify(file).replace(/"(pid|started_at)":("[^"]*"|\d+)/g, '')
      const { pid } = find()
      process.kill(pid!, 'SIGKILL')
      const took = await until(() => find().pid !== pid, `another ${name}`)
      assert.ok(took > 800 && took < 6000, `${took} ms`)
      await cluster.ready()
      assert.equal(addresses(cluster.file()), addresses(before))
    })
  }

  /** Conversations all over the shards, and a client to send to each. */
  async function crowd(): Promise<{ client: TestClient; ids: string[] }> {
    const client = await connect(0, 1)
    const ids: string[] = []
    for (let i = 0; i < 24; i++) {
      const body = { type: 'group', title: `room ${i}` }
      ids.push((await cluster.request<{ id: string }>(1, tokens[0]!, 'POST', '/conversations', body)).id)
    }
    return { client, ids }
  }
  /** Milliseconds until each conversation has an ack of a message sent now. */
  async function allAcked({ client, ids }: { client: TestClient; ids: string[] }, msMax: number): Promise<number> {
    const began = performance.now()
    await Promise.all(
      ids.map(async conversationId => {
        const requestId = randomUUID()
        client.send({
          type: 'message.send',
          conversationId,
          clientMessageId: randomUUID(),
          content: 'go on',
          requestId,
        })
        const answer = await client.next(f => f['requestId'] === requestId, `an ack in ${conversationId}`, msMax)
        assert.equal(answer['type'], 'ack', JSON.stringify(answer))
      }),
    )
    return performance.now() - began
  }

  test('[CLUSTER11] when an engine is killed, every conversation takes messages again within 3 s', async () => {
    const all = await crowd()
    await allAcked(all, 3000)
    process.kill(cluster.file().engines[1]!.pid, 'SIGKILL')
    const took = await allAcked(all, 3000)
    console.log(`killed engine: ${took.toFixed(0)} ms`)
    await cluster.ready()
  })

  test('[CLUSTER12] an engine that is stopped is buried: within 12 s all goes on, and it ends when it wakes', async () => {
    const all = await crowd()
    const { pid } = cluster.file().engines[0]!
    process.kill(pid, 'SIGSTOP')
    try {
      const took = await allAcked(all, 12_000)
      console.log(`stopped engine: ${took.toFixed(0)} ms`)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    const ended = () => cluster.output().includes('"code":75')
    await until(() => ended() && cluster.file().engines[0]!.pid !== pid, 'its end with a code of its own', 8000)
    await cluster.ready()
    await allAcked(all, 3000)
  })

  test('[CLUSTER13] an engine that is asked to leave moves a running answer last: it goes on to its own end', async () => {
    const client = await connect(0, 0)
    const { id } = await cluster.request<{ id: string }>(0, tokens[0]!, 'POST', '/conversations', { type: 'ai' })
    await client.next(of(id, 'conversation.added'), 'conversation.added')
    await client.ask({ type: 'room.join', conversationId: id })
    await send(client, id, '#stream words=80 delay_ms=40', 'chat.send')
    await client.next(of(id, 'chat.stream'), 'the first words')
    const [owner] = await cluster.sql<{ node_id: string }>(
      `select node_id from engine_node n join shard s on s.owner = n.incarnation
        where s.shard_id = (select shard_id from conversation where id = $1)`,
      [id],
    )
    const index = owner!.node_id.startsWith('cluster-engine-1') ? 0 : 1
    const { pid } = cluster.file().engines[index]!
    process.kill(pid, 'SIGTERM')
    // Others do not wait for it.
    const others = await crowd()
    const took = await allAcked(others, 3000)
    assert.ok(took < 2000, `${took} ms`)
    const done = await client.next(of(id, 'chat.done'), 'chat.done', 10_000)
    assert.equal(done['finish'], 'stop')
    await until(() => cluster.file().engines[index]!.pid !== pid, 'its successor')
    assert.equal((await send(client, id, 'and then'))['type'], 'ack')
    await cluster.ready()
  })

  test('[CLUSTER10] a message still crosses after all of that', async () => {
    const [a, b] = [await connect(0, 0), await connect(5, 1)]
    const { id } = await dm(1, 0, 5)
    await b.next(of(id, 'conversation.added'), 'conversation.added')
    const ack = await send(a, id, 'still here')
    assert.equal((await b.next(of(id, 'message.new'), 'the message'))['seq'], ack['seq'])
  })
})
