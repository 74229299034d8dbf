/** The relay against a hostile or broken gateway, without a network. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Directory } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { nilId } from '#protos/ids.ts'
import { type Letter, LetterBatch, LetterError, label, letterFlags, letterKinds, readBatch } from '#protos/letter.ts'
import { linkCreditBytes, linksPerWorkerMax, linkUnreadBytesMax } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { createRelay } from './relay.ts'

const conversation = '0190a5a0-0000-7000-8000-000000000001'
const shard = shardOf(conversation)
const turn = () => new Promise(resolve => setTimeout(resolve, 5))
const json = (value: unknown) => Buffer.from(JSON.stringify(value))
const hello = json({ version: 1, nodeId: 'g', role: 'gateway' })

function setUp() {
  const delivered: Letter[] = []
  const relay = createRelay({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    directory: {
      async heads() {
        throw new Error('the database is away')
      },
    },
    epochOf: s => (s === shard ? 5 : undefined),
    nodeId: 'n',
    incarnation: 'i',
    worker: 0,
  })
  relay.serve({ deliver: d => delivered.push(d) > 0 })
  const open = () => {
    const out: Letter[] = []
    const link = relay.open({ write: bytes => out.push(...readBatch(bytes)) > 0, once() {} })
    return { link: link!, out, send: (...letters: Letter[]) => relay.receive(link!, write(letters)) }
  }
  return { relay, delivered, open }
}

function write(letters: Letter[]): Buffer {
  const batch = new LetterBatch()
  for (const { label: l, body } of letters) batch.push(l, body)
  return batch.take()
}

const greeting = { label: label(letterKinds.hello), body: hello }

test('R1 a link begins with hello, and what cannot be read ends it', async () => {
  const bodies: [number, unknown][] = [
    [letterKinds.command, {}],
    [letterKinds.hello, { version: 1, nodeId: '', role: 'gateway' }],
    [letterKinds.hello, { version: 1, nodeId: 'x', role: 'engine' }],
    [letterKinds.hello, null],
  ]
  for (const [kind, body] of bodies) {
    const { send } = setUp().open()
    assert.throws(() => send({ label: label(kind as never), body: json(body) }), LetterError)
  }
  const { send, out, link } = setUp().open()
  send(greeting)
  while (out.length === 0) await turn()
  assert.equal(out[0]!.label.kind, letterKinds.hello)
  assert.equal(link.nodeId, 'g')
  for (const letter of [
    { label: label(letterKinds.fact), body: json({}) },
    { label: label(letterKinds.attach), body: json({ items: [['no id', 1]] }) },
    { label: label(letterKinds.attach), body: json({ items: Array.from({ length: 1001 }, () => [conversation, 0]) }) },
    { label: label(letterKinds.attach), body: json({ items: [[conversation, 1.5]] }) },
    { label: label(letterKinds.detach), body: Buffer.from('{') },
  ]) {
    assert.throws(() => send(letter), LetterError)
  }
})

test('R2 a command without a principal reaches no actor and is answered with an error', async () => {
  const { open, delivered } = setUp()
  const { send, out } = open()
  const on = { shard, epoch: 5, conversation, socket: 3, attempt: conversation }
  send(greeting, { label: label(letterKinds.command, on), body: json({ requestId: 'r' }) })
  await turn()
  assert.equal(delivered.length, 0)
  const frame = JSON.parse(Buffer.from(out[1]!.body).toString()) as Record<string, unknown>
  assert.deepEqual([out[1]!.label.socket, frame['code'], frame['requestId']], [3, 'SERVER', 'r'])
})

test('R2 a command for the nil id, which no conversation has, is answered NOT_FOUND with its id and a trace', async () => {
  const { open, delivered } = setUp()
  const { send, out } = open()
  const on = { shard: 5, epoch: 5, conversation: nilId, principal: conversation, attempt: conversation, trace: 't' }
  send(greeting, { label: label(letterKinds.command, on), body: json({ requestId: 'r' }) })
  await turn()
  assert.equal(delivered.length, 0)
  const { ts: _, ...frame } = JSON.parse(Buffer.from(out[1]!.body).toString()) as Record<string, unknown>
  assert.deepEqual(frame, {
    type: 'error',
    requestId: 'r',
    traceId: 't',
    conversationId: nilId,
    code: 'NOT_FOUND',
    message: 'no such conversation',
    retryable: false,
  })
})

test('R3 a label whose shard is not the conversation’s, or not ours, is refused', async () => {
  const { open, delivered } = setUp()
  const { send, out } = open()
  const on = { conversation, principal: conversation, attempt: conversation }
  const command = (over: object) => ({ label: label(letterKinds.command, { ...on, ...over }), body: json({}) })
  send(greeting, command({ shard: shard ^ 1, epoch: 5 }), command({ shard, epoch: 4 }), command({ shard, epoch: 5 }))
  await turn()
  assert.equal(delivered.length, 1)
  assert.deepEqual(
    out.slice(1).map(l => [l.label.kind, l.label.epoch]),
    [
      [letterKinds.refused, 0],
      [letterKinds.refused, 5],
    ],
  )
})

test('R4 an attach while heads cannot be read is refused, and asked again heals', async () => {
  const { open } = setUp()
  const { send, out } = open()
  const other = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'
  const items = [
    [conversation, 1],
    [other, 2],
  ]
  send(greeting, { label: label(letterKinds.attach, { attempt: other }), body: json({ items }) })
  await turn()
  const attached = out.find(l => l.label.kind === letterKinds.attached)!
  assert.equal(attached.label.attempt, other)
  assert.deepEqual(JSON.parse(Buffer.from(attached.body).toString()), { heads: [], refused: [other, conversation] })
})

test('R5 links are bounded, and a closed one hears nothing more', async () => {
  const { open, relay } = setUp()
  const first = open()
  first.send(greeting)
  for (let n = 1; n < linksPerWorkerMax; n++) open()
  assert.equal(relay.open({ write: () => true, once() {} }), undefined)
  await turn()
  const before = first.out.length
  relay.gone(first.link)
  relay.fanout.toUser(label(letterKinds.user), json({}))
  relay.fanout.answer({ linkId: first.link.linkId }, label(letterKinds.answer), json({}))
  await turn()
  assert.equal(first.out.length, before)
  assert.equal(relay.links, linksPerWorkerMax - 1)
})

test('R6 a sink that is full is waited for, and nothing is lost or reordered', async () => {
  const { relay } = setUp()
  const out: number[] = []
  let drain: (() => void) | undefined
  const link = relay.open({
    write(bytes) {
      out.push(...readBatch(bytes).map(l => l.label.seq))
      return false
    },
    once(_event, then) {
      drain = then
    },
  })!
  link.answer(label(letterKinds.answer, { seq: 1 }), json({}))
  await turn()
  for (const seq of [2, 3]) link.answer(label(letterKinds.answer, { seq }), json({}))
  await turn()
  assert.deepEqual(out, [1])
  drain?.()
  assert.deepEqual(out, [1, 2, 3])
})

test('R7 a letter that may be stored is never answered with a load error: it goes back and comes again', async () => {
  const { open, relay } = setUp()
  relay.serve({ deliver: () => false })
  const { send, out } = open()
  const on = { conversation, principal: conversation, attempt: conversation, shard, epoch: 5, socket: 1 }
  const command = (flags: number) => ({ label: label(letterKinds.command, { ...on, flags }), body: json({}) })
  send(greeting, command(letterFlags.resend), command(0), command(letterFlags.restart))
  await turn()
  assert.deepEqual(
    out.slice(1).map(l => {
      const { reason, code } = JSON.parse(Buffer.from(l.body).toString()) as { reason?: string; code?: string }
      return [l.label.kind, l.label.flags, reason ?? code]
    }),
    [
      [letterKinds.refused, letterFlags.resend, 'busy'],
      [letterKinds.refused, 0, 'behind'],
      [letterKinds.answer, letterFlags.restart, 'OVERLOADED'],
    ],
  )
})

test('R8 a gateway that does not read its answers is refused more, and heard again once it has read', async () => {
  const { open, delivered } = setUp()
  const { send, link } = open()
  const on = { conversation, principal: conversation, attempt: conversation, shard, epoch: 5 }
  const command = { label: label(letterKinds.command, on), body: json({}) }
  send(greeting, command)
  const body = Buffer.alloc(1024 * 1024)
  const letters = Math.ceil((linkUnreadBytesMax + linkCreditBytes) / body.length) + 1
  for (let n = 0; n < letters; n++) link.answer(label(letterKinds.replay), body)
  send(command)
  assert.equal(delivered.length, 1)
  for (let n = 0; n < letters; n++)
    send({ label: label(letterKinds.credit, { seq: body.length, age: 1 }), body: json({}) })
  send(command)
  assert.equal(delivered.length, 2)
})

test('R9 a detach takes back an attach that still waits for its heads', async () => {
  const gate = Promise.withResolvers<Awaited<ReturnType<Directory['heads']>>>()
  const relay = createRelay({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    directory: { heads: () => gate.promise },
    epochOf: () => 5,
    nodeId: 'n',
    incarnation: 'i',
    worker: 0,
  })
  const out: Letter[] = []
  const link = relay.open({ write: bytes => out.push(...readBatch(bytes)) > 0, once() {} })!
  const other = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'
  const attach = (id: string) => ({
    label: label(letterKinds.attach, { attempt: id }),
    body: json({ items: [[id, 1]] }),
  })
  const detach = { label: label(letterKinds.detach), body: json({ items: [other] }) }
  relay.receive(link, write([greeting, attach(conversation), attach(other), detach]))
  gate.resolve(new Map())
  await turn()
  assert.equal(out.filter(l => l.label.kind === letterKinds.attached).length, 2)
  for (const id of [conversation, other])
    relay.fanout.publish(label(letterKinds.fact, { conversation: id, seq: 2 }), json({}))
  await turn()
  assert.deepEqual(
    out.filter(l => l.label.kind === letterKinds.fact).map(l => l.label.conversation),
    [conversation],
  )
})

test('R10 whoever watched a shard that is another’s now hears nothing of it from here', async () => {
  const { open, relay } = setUp()
  const { send, out } = open()
  const attach = { label: label(letterKinds.attach, { attempt: nilId }), body: json({ items: [[conversation, 1]] }) }
  send(greeting, attach)
  const publish = async (seq: number) => {
    relay.fanout.publish(label(letterKinds.fact, { conversation, seq }), json({}))
    await turn()
    return out.filter(l => l.label.kind === letterKinds.fact).map(l => l.label.seq)
  }
  assert.deepEqual(await publish(2), [2])
  relay.moved([{ shard, addr: '10.0.0.2:1', epoch: 6 }])
  assert.deepEqual(await publish(3), [2])
  const moved = out.find(l => l.label.kind === letterKinds.moved)!
  assert.deepEqual(JSON.parse(Buffer.from(moved.body).toString()), { shards: [[shard, '10.0.0.2:1', 6]] })
})

test('R11 heads of an attach wait while many sends do; what is committed meanwhile is pushed', async () => {
  let isCrowded = true
  let reads = 0
  const relay = createRelay({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    directory: {
      async heads() {
        reads++
        return new Map()
      },
    },
    epochOf: () => 5,
    nodeId: 'n',
    incarnation: 'i',
    worker: 0,
    isCrowded: () => isCrowded,
  })
  const out: Letter[] = []
  const link = relay.open({ write: bytes => out.push(...readBatch(bytes)) > 0, once() {} })!
  const attach = { label: label(letterKinds.attach, { attempt: nilId }), body: json({ items: [[conversation, 1]] }) }
  relay.receive(link, write([greeting, attach]))
  relay.fanout.publish(label(letterKinds.fact, { conversation, seq: 2 }), json({}))
  await turn()
  assert.deepEqual([reads, out.some(l => l.label.kind === letterKinds.fact)], [0, true])
  isCrowded = false
  while (!out.some(l => l.label.kind === letterKinds.attached)) await turn()
  assert.equal(reads, 1)
})

test('R12 a head that an actor can prove is told without a read; of a shard that was lost it is read', async () => {
  const [proven, read] = [conversation, '0190a5a0-0000-7000-8000-000000000002']
  const asked: string[][] = []
  let isOwner = true
  const relay = createRelay({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    directory: {
      async heads(ids) {
        asked.push([...ids])
        return new Map(ids.map(id => [id, { head: 3, firstSeq: 1, epoch: 5 }]))
      },
    },
    epochOf: () => (isOwner ? 5 : undefined),
    nodeId: 'n',
    incarnation: 'i',
    worker: 0,
  })
  relay.serve({ deliver: () => true, headOf: id => (id === proven ? 7 : undefined) })
  const out: Letter[] = []
  const link = relay.open({ write: bytes => out.push(...readBatch(bytes)) > 0, once() {} })!
  const attach = (attempt: string, items: [string, number][]) => ({
    label: label(letterKinds.attach, { attempt }),
    body: json({ items }),
  })
  const attached = async (attempt: string) => {
    const is = (l: Letter) => l.label.kind === letterKinds.attached && l.label.attempt === attempt
    while (!out.some(is)) await turn()
    return JSON.parse(Buffer.from(out.find(is)!.body).toString())
  }
  const items: [string, number][] = [
    [proven, 4],
    [read, 3],
  ]
  const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()]
  relay.receive(link, write([greeting, attach(first, items)]))
  assert.deepEqual(await attached(first), { heads: [[proven, 7]], refused: [] })
  assert.deepEqual(asked, [[read]])
  relay.receive(link, write([attach(second, [[proven, 7]])]))
  assert.deepEqual(await attached(second), { heads: [], refused: [] })
  assert.equal(asked.length, 1)
  relay.receive(link, write([attach(third, [[proven, 7]])]))
  isOwner = false
  assert.deepEqual(await attached(third), { heads: [], refused: [proven] })
})
