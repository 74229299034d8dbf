/**
 * The client against real relays over real gRPC in one process: order, go-back-n, replay, HOLD, credit, attach.
 * The actors behind the relays are scripted; ownership is what the test says.
 */
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import type { Delivery } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { label, letterFlags, letterKinds } from '#protos/letter.ts'
import {
  holdMs,
  linkCreditBytes,
  linkKeepaliveMs,
  linkSilentMs,
  sendsPendingPerGatewayBytesMax,
  shardCount,
} from '#protos/limits.ts'
import {
  cleanup,
  conversation,
  encode,
  everyShard,
  numbers,
  pause,
  shard,
  startGateway,
  startWorker,
  until,
  upTo,
  user,
  type Worker,
} from './fixtures/rig.ts'

test('L1 commands of one socket reach the owner in order and each is answered once', async () => {
  const worker = await startWorker(everyShard(7))
  const gateway = await startGateway(worker.addr, 7)
  for (const n of upTo(200)) assert.deepEqual(gateway.send(n), { taken: true })
  await until('answers', () => gateway.answers.length === 200)
  assert.deepEqual(
    worker.got.map(g => g.n),
    upTo(200),
  )
  assert.deepEqual(numbers(gateway), upTo(200))
  assert.equal(gateway.client.pending().letters, 0)
  assert.equal(gateway.client.pending().bytes, 0)
  assert.ok(worker.got.every(g => g.label.shard === shard && g.label.epoch === 7 && g.label.principal === user))
})

test('L2 a command under an old epoch is refused with the new one, and all are replayed in order with the restart mark', async () => {
  const worker = await startWorker(everyShard(8))
  const gateway = await startGateway(worker.addr, 7)
  for (const n of upTo(50)) gateway.send(n)
  await until('answers', () => gateway.answers.length === 50)
  assert.deepEqual(
    worker.got.map(g => g.n),
    upTo(50),
  )
  assert.equal(worker.got[0]!.label.flags & letterFlags.restart, letterFlags.restart)
  assert.ok(worker.got.slice(1).every(g => (g.label.flags & letterFlags.restart) === 0))
  assert.ok(
    worker.got.every(g => (g.label.flags & letterFlags.resend) === 0),
    'refused unread: not in doubt',
  )
})

test('L3 an epoch that changes in the middle of a stream of sends keeps their order', async () => {
  const worker = await startWorker(everyShard(1))
  const gateway = await startGateway(worker.addr, 1)
  let epoch = 1
  for (let n = 0; n < 400; n++) {
    gateway.send(n)
    if (n % 40 === 39) {
      epoch++
      for (const s of worker.epochs.keys()) worker.epochs.set(s, epoch)
      await pause(3)
    }
    if (n % 100 === 99) await until('answers so far', () => gateway.answers.length === n + 1)
  }
  assert.deepEqual(
    worker.got.map(g => g.n),
    upTo(400),
  )
  assert.deepEqual(numbers(gateway), upTo(400))
})

test('L4 a letter refused for load takes the later ones of its pair with it until the next carries the restart mark', async () => {
  const worker = await startWorker(everyShard(1))
  const gateway = await startGateway(worker.addr, 1)
  worker.onCommand = (delivery, n) => {
    if (n === 2) return false
    worker.ack(delivery)
    return true
  }
  for (const n of upTo(6)) gateway.send(n)
  await until('answers', () => gateway.answers.length === 6)
  assert.deepEqual(
    worker.got.map(g => g.n),
    [0, 1, 2],
  )
  const refusals = gateway.answers.slice(2).map(a => a.frame)
  assert.deepEqual(
    refusals.map(f => [f['code'], f['requestId'], f['conversationId']]),
    [2, 3, 4, 5].map(n => ['OVERLOADED', `r${n}`, conversation]),
  )
  assert.ok(refusals.every(f => (f['retryAfterMs'] as number) >= (refusals[0]!['retryAfterMs'] as number)))
  gateway.send(7)
  await until('the next send', () => gateway.answers.length === 7)
  assert.equal(numbers(gateway)[6], 7)
  assert.equal(worker.got[3]!.label.flags & letterFlags.restart, letterFlags.restart)
})

test('L5 another socket and a lone command are not held up by a pair that was refused', async () => {
  const worker = await startWorker(everyShard(1))
  const gateway = await startGateway(worker.addr, 1)
  worker.onCommand = (delivery, n) => {
    if (n === 0) return false
    worker.ack(delivery)
    return true
  }
  gateway.send(0)
  gateway.send(1)
  gateway.send(2, { socket: 2 })
  gateway.send(3, { durable: false })
  await until('answers', () => gateway.answers.length === 4)
  assert.deepEqual(
    worker.got.map(g => g.n),
    [0, 2, 3],
  )
})

test('L6 a lost link: everything unanswered is replayed in order at the next owner, marked as resent', async () => {
  const first = await startWorker(everyShard(1))
  first.onCommand = (delivery, n) => {
    if (n < 3) first.ack(delivery)
    return true
  }
  const gateway = await startGateway(first.addr, 1)
  for (const n of upTo(10)) gateway.send(n)
  await until('three answers and all there', () => gateway.answers.length === 3 && first.got.length === 10)
  const doubts = gateway.doubts
  gateway.client.attach([[conversation, 3]])
  first.stop()
  await pause(20)
  for (const n of [10, 11]) gateway.send(n)
  const second = await startWorker(everyShard(2))
  second.heads.set(conversation, 9)
  gateway.position = 5
  gateway.route(second.addr, 2)
  await until('all answers', () => gateway.answers.length === 12)
  assert.deepEqual(
    second.got.map(g => g.n),
    [3, 4, 5, 6, 7, 8, 9, 10, 11],
  )
  const flags = second.got.map(g => g.label.flags)
  assert.equal(flags[0], letterFlags.resend | letterFlags.restart)
  assert.ok(flags.slice(1, 7).every(f => f === letterFlags.resend))
  assert.deepEqual(flags.slice(7), [0, 0])
  assert.deepEqual(numbers(gateway), upTo(12))
  await until('the head at the new owner', () => gateway.heads.length > 0)
  assert.deepEqual(gateway.heads.at(-1), [conversation, 9])
  assert.ok(gateway.doubts > doubts)
})

test('L7 a shard that moves to another worker takes its unanswered commands along at once', async () => {
  const first = await startWorker(everyShard(1))
  first.onCommand = () => true
  const second = await startWorker(everyShard(2))
  const gateway = await startGateway(first.addr, 1)
  for (const n of upTo(5)) gateway.send(n)
  await until('all there', () => first.got.length === 5)
  for (const s of upTo(shardCount)) first.epochs.delete(s)
  first.relay.moved(upTo(shardCount).map(s => ({ shard: s, addr: second.addr, epoch: 2 })))
  gateway.route(second.addr, 2)
  await until('all answers', () => gateway.answers.length === 5)
  assert.deepEqual(
    second.got.map(g => g.n),
    upTo(5),
  )
  assert.ok(second.got.every(g => (g.label.flags & letterFlags.resend) !== 0))
})

test('L7 of two owners that answer only the one that was asked last is believed', async () => {
  const first = await startWorker(everyShard(1))
  const late: Delivery[] = []
  first.onCommand = delivery => late.push(delivery) > 0
  const second = await startWorker(everyShard(2))
  const held: Delivery[] = []
  second.onCommand = delivery => held.push(delivery) > 0
  const gateway = await startGateway(first.addr, 1)
  gateway.send(1)
  await until('the first has it', () => late.length === 1)
  gateway.route(second.addr, 2)
  await until('the second has it', () => held.length === 1)
  // It was stored by nobody here, says the one that does not own it any more; the other may store it yet.
  first.ack(late[0]!)
  await pause(100)
  assert.deepEqual(gateway.answers, [])
  second.ack(held[0]!)
  await until('the answer', () => gateway.answers.length === 1)
})

test('L8 an actor that gives a letter back after a fence leaves it in doubt: its replay is looked up', async () => {
  const worker = await startWorker(everyShard(1))
  const gateway = await startGateway(worker.addr, 1)
  let isFenced = true
  worker.onCommand = delivery => {
    if (isFenced) worker.relay.notOwner(delivery)
    else worker.ack(delivery)
    return true
  }
  gateway.send(0)
  gateway.send(1)
  await until('both refused', () => worker.got.length >= 1)
  isFenced = false
  await until('answers', () => gateway.answers.length === 2)
  const last = worker.got.slice(-2)
  assert.deepEqual(
    last.map(g => g.n),
    [0, 1],
  )
  assert.equal(last[0]!.label.flags, letterFlags.resend | letterFlags.restart)
  assert.equal(last[1]!.label.flags & letterFlags.resend, 0, 'refused behind it, unread')
})

test('L9 HOLD: what no owner ever got is UNAVAILABLE within 12 s, in order, with all that waits behind it', async () => {
  let skew = 0
  const clock = { ...systemClock, mono: () => systemClock.mono() + skew }
  const gateway = await startGateway(null, 0, { clock })
  gateway.send(0, { readAt: clock.mono() })
  gateway.send(1, { readAt: clock.mono() + 5000 })
  gateway.send(2, { readAt: clock.mono(), durable: false })
  const asked = gateway.client.request(
    {
      conversation,
      principal: user,
      attempt: systemClock.id(),
      trace: '',
      body: encode({ requestId: 'rest' }),
      durable: true,
    },
    60_000,
  )
  await pause(400)
  assert.equal(gateway.answers.length, 0)
  assert.equal(gateway.client.isReady(), false)
  skew = holdMs
  const frame = JSON.parse((await asked) ?? '{}') as Record<string, unknown>
  assert.equal(frame['code'], 'UNAVAILABLE')
  assert.equal(frame['requestId'], 'rest')
  assert.deepEqual(
    gateway.answers.map(a => [a.frame['code'], a.frame['requestId']]),
    [
      ['UNAVAILABLE', 'r0'],
      ['UNAVAILABLE', 'r1'],
    ],
  )
  assert.equal(gateway.client.pending().letters, 0)
})

test('L10 a command that reached an owner is never given up while its socket lives, and is young again when replayed', async () => {
  let skew = 0
  const clock = { ...systemClock, mono: () => systemClock.mono() + skew }
  const first = await startWorker(everyShard(1))
  first.onCommand = () => true
  const gateway = await startGateway(first.addr, 1, { clock })
  gateway.send(0, { readAt: clock.mono() })
  await until('there', () => first.got.length === 1)
  gateway.route(null, 1)
  first.stop()
  skew = 60_000
  await pause(600)
  assert.equal(gateway.answers.length, 0)
  assert.equal(gateway.client.pending().letters, 1)
  const second = await startWorker(everyShard(2))
  gateway.route(second.addr, 2)
  await until('the answer', () => gateway.answers.length === 1)
  assert.equal(second.got[0]!.label.age, 0)
})

test('L11 what a closed socket had waiting is never sent', async () => {
  const gateway = await startGateway(null, 0)
  gateway.send(0)
  gateway.send(1, { socket: 2 })
  gateway.client.closeSocket(1)
  assert.equal(gateway.client.pending().letters, 1)
  const worker = await startWorker(everyShard(1))
  gateway.route(worker.addr, 1)
  await until('the answer', () => gateway.answers.length === 1)
  assert.deepEqual(
    worker.got.map(g => g.n),
    [1],
  )
})

test('L12 unanswered commands are bounded per conversation and per socket', async () => {
  const gateway = await startGateway(null, 0)
  for (const n of upTo(256)) assert.equal(gateway.send(n).taken, true)
  assert.deepEqual(gateway.send(256), { taken: false, reason: 'conversation' })
  const big = Buffer.alloc(1024 * 1024)
  const other = { socket: 9, body: big }
  for (const n of upTo(3)) {
    assert.equal(gateway.send(0, { ...other, conversation: `0190a5a0-0000-7000-8000-00000000100${n}` }).taken, true)
  }
  assert.deepEqual(gateway.send(0, { ...other, conversation: user }), { taken: false, reason: 'socket' })
  gateway.client.closeSocket(1)
  assert.equal(gateway.send(256).taken, true)
  // Of all together the bytes are bounded too. Nobody reads this body, for no owner is known.
  const huge = { socket: 0, body: { length: sendsPendingPerGatewayBytesMax - 5 * 1024 * 1024 } as Uint8Array }
  assert.equal(gateway.send(0, huge).taken, true)
  const more = { socket: 11, body: Buffer.alloc(3 * 1024 * 1024) }
  assert.deepEqual(gateway.send(0, more), { taken: false, reason: 'gateway' })
})

test('L13 attach answers heads that differ only, and facts reach those that attached', async () => {
  const worker = await startWorker(everyShard(1))
  const same = '0190a5a0-0000-7000-8000-00000000000b'
  worker.heads.set(conversation, 12)
  worker.heads.set(same, 4)
  const gateway = await startGateway(worker.addr, 1)
  gateway.client.attach([
    [conversation, 10],
    [same, 4],
  ])
  await until('heads', () => gateway.heads.length > 0)
  const fact = (seq: number) =>
    worker.relay.fanout.publish(label(letterKinds.fact, { conversation, seq }), encode({ seq }))
  fact(13)
  await until('the fact', () => gateway.facts.length === 1)
  assert.deepEqual(gateway.heads, [[conversation, 12]])
  gateway.client.detach(conversation)
  await pause(50)
  fact(14)
  gateway.send(1)
  await until('the answer', () => gateway.answers.length === 1)
  assert.deepEqual(gateway.facts, [13])
})

test('L18 what a former owner says of positions is not believed once another is known', async () => {
  const former = await startWorker(everyShard(1))
  const owner = await startWorker([])
  const gateway = await startGateway(former.addr, 1)
  gateway.client.attach([[conversation, 0]])
  const receipt = (worker: Worker, epoch: number) =>
    worker.relay.fanout.publish(label(letterKinds.receipt, { conversation, shard, epoch }), encode({}))
  gateway.send(1)
  await until('the answer', () => gateway.answers.length === 1)
  receipt(former, 1)
  await until('the receipt', () => gateway.receipts.length === 1)
  for (const [s, epoch] of everyShard(2)) owner.epochs.set(s, epoch)
  gateway.route(owner.addr, 2)
  await until('a link to the next owner', () => owner.relay.links > 0)
  await until('an answer of the next owner', () => {
    if (owner.got.length === 0) gateway.send(2)
    return owner.got.length > 0
  })
  // It stood still meanwhile, and does not know.
  receipt(former, 1)
  receipt(owner, 2)
  await until('the receipt of the owner', () => gateway.receipts.includes(2))
  await pause(50)
  assert.deepEqual(gateway.receipts, [1, 2])
})

test('L19 a shard that comes to another owner makes the memberships of users doubtful, though every link stands', async () => {
  const former = await startWorker(everyShard(1))
  const owner = await startWorker(everyShard(2).slice(1))
  const gateway = await startGateway(former.addr, 1)
  for (const row of gateway.rows.slice(1)) Object.assign(row, { addr: owner.addr, epoch: 2 })
  await until('both links', () => former.relay.links > 0 && owner.relay.links > 0)
  await pause(100)
  const before = gateway.doubts
  gateway.route(owner.addr, 3)
  await until('doubt', () => gateway.doubts > before, 3000)
})

test('L14 without credit facts are dropped and answers are not; lagged makes the gateway ask for heads again', async () => {
  const worker = await startWorker(everyShard(1))
  worker.heads.set(conversation, 0)
  const gateway = await startGateway(worker.addr, 1)
  gateway.client.attach([[conversation, 0]])
  gateway.send(0)
  await until('attached', () => gateway.answers.length === 1)
  await pause(50)
  const body = Buffer.alloc(256 * 1024, 32)
  const sent = Math.ceil(linkCreditBytes / body.length) + 8
  // One turn: no credit can come back in between.
  for (let seq = 1; seq <= sent; seq++) {
    worker.relay.fanout.publish(label(letterKinds.fact, { conversation, seq }), body)
  }
  worker.heads.set(conversation, sent)
  gateway.send(1)
  await until('the answer', () => gateway.answers.length === 2)
  await until('the head', () => gateway.heads.length === 1)
  assert.deepEqual(gateway.heads, [[conversation, sent]])
  assert.ok(gateway.facts.length >= 16 && gateway.facts.length < sent, `${gateway.facts.length} of ${sent} arrived`)
  worker.relay.fanout.publish(label(letterKinds.fact, { conversation, seq: sent + 1 }), encode({}))
  await until('facts again', () => gateway.facts.at(-1) === sent + 1)
})

test('L15 a join that is replayed at another owner tells no event twice', async () => {
  const replay = (worker: Worker, { label: l, origin }: Delivery, to: number) => {
    for (let seq = 1; seq <= to; seq++) {
      const on = { attempt: l.attempt, socket: l.socket, conversation, seq }
      worker.relay.fanout.answer(origin, label(letterKinds.replay, on), encode({ seq }))
    }
  }
  const first = await startWorker(everyShard(1))
  first.onCommand = delivery => {
    replay(first, delivery, 3)
    return true
  }
  const second = await startWorker(everyShard(2))
  second.onCommand = delivery => {
    replay(second, delivery, 5)
    second.ack(delivery)
    return true
  }
  const gateway = await startGateway(first.addr, 1)
  gateway.send(0)
  await until('the first replay', () => gateway.replays.length === 3)
  gateway.route(second.addr, 2)
  await until('the answer', () => gateway.answers.length === 1)
  assert.deepEqual(gateway.replays, [1, 2, 3, 4, 5])
})

test('L16 more commands than a whole credit all get through', async () => {
  const worker = await startWorker(everyShard(1))
  const gateway = await startGateway(worker.addr, 1)
  const body = Buffer.from(JSON.stringify({ n: 0, pad: 'x'.repeat(16_000) }))
  let taken = 0
  for (let round = 0; round < 8; round++) {
    for (let socket = 1; socket <= 100; socket++) if (gateway.send(0, { socket, body }).taken) taken++
  }
  assert.equal(taken, 800)
  await until('answers', () => gateway.answers.length === 800)
})

test('L17 a worker that falls silent is given up by keep-alive, and what it had is replayed when it can be reached again', async () => {
  const worker = await startWorker(everyShard(1))
  const [host, port] = worker.addr.split(':')
  const pairs: net.Socket[] = []
  // A wire that can be cut without anybody being told.
  const wire = net.createServer(near => {
    const far = net.connect(Number(port), host)
    near.pipe(far).pipe(near)
    for (const side of [near, far]) {
      side.on('error', () => {})
      pairs.push(side)
    }
  })
  await new Promise<void>(resolve => wire.listen(0, '127.0.0.1', resolve))
  const end = () => {
    for (const side of pairs.splice(0)) side.destroy()
  }
  cleanup.push(() => {
    end()
    wire.close()
  })
  const gateway = await startGateway(`127.0.0.1:${(wire.address() as net.AddressInfo).port}`, 1)
  gateway.send(0)
  await until('the first answer', () => gateway.answers.length === 1)
  const cut = pairs.splice(0)
  for (const side of cut) {
    side.unpipe()
    side.pause()
  }
  gateway.send(1)
  await until('the answer by a new link', () => gateway.answers.length === 2, linkKeepaliveMs + linkSilentMs + 3000)
  assert.deepEqual(
    worker.got.map(g => [g.n, g.label.flags]),
    [
      [0, 0],
      [1, letterFlags.resend | letterFlags.restart],
    ],
  )
  for (const side of cut) side.destroy()
})
