/** Rooms on a log that the test holds: gaps, slow sockets, joins, answers in progress. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { assistantId } from '#protos/ids.ts'
import { frameText, payloadOf } from './framing.ts'
import { Flusher, Outbox, type Wire } from './outbox.ts'
import { Peer } from './peer.ts'
import type { LogFrame, Reads, Stretch } from './reads.ts'
import { Rooms } from './rooms.ts'

const id = '11111111-1111-7111-8111-111111111111'
const answerId = '22222222-2222-7222-8222-222222222222'

class SlowWire implements Wire {
  waiting = 0
  got: Record<string, unknown>[] = []
  write(frames: readonly Buffer[]): number {
    for (const frame of frames) this.got.push(JSON.parse(payloadOf(frame).toString()))
    return 1
  }
  unsent(): number {
    return this.waiting
  }
  left(): number {
    return 0
  }
  filled(): void {}
  tooSlow(): void {}
}

function rig() {
  const metrics = openMetrics()
  const flusher = new Flusher(metrics)
  const log: LogFrame[] = []
  let text: string | undefined
  let at = 0
  const reads = {
    frames: async (stretches: readonly Stretch[]) =>
      stretches.map(({ after, events }) => log.filter(f => f.seq > after).slice(0, events)),
    answerText: async () => text,
  } as unknown as Reads
  const clock = { now: () => 1_700_000_000_000, mono: () => at, id: () => answerId, random: () => 0 }
  const attached: (readonly [string, number])[] = []
  const detached: string[] = []
  const rooms = new Rooms({
    clock,
    log: silentLog,
    metrics,
    reads,
    attach: items => attached.push(...items),
    detach: conversation => detached.push(conversation),
    delivered: () => {},
  })
  let peers = 0
  const peer = (userId: string) => {
    const wire = new SlowWire()
    const made = new Peer(++peers, userId, 's', new Outbox(wire, flusher))
    made.state = 'live'
    return { peer: made, wire }
  }
  const event = (seq: number, more: Partial<LogFrame> & { body?: object } = {}): LogFrame => ({
    seq,
    kind: 'message.new',
    senderId: 'sender',
    json: JSON.stringify({ type: 'message.new', seq, ...more.body }),
    ...more,
  })
  const commit = (frame: LogFrame, isSent = true) => {
    log.push(frame)
    if (!isSent) return
    rooms.fact(id, { seq: frame.seq, sender: frame.senderId, frame: frameText(frame.json), leaver: frame.leaver })
  }
  const delta = (offset: number, content: string) =>
    rooms.delta(
      id,
      answerId,
      offset,
      Buffer.byteLength(content),
      Buffer.from(JSON.stringify({ type: 'chat.stream', messageId: answerId, offset, content })),
    )
  return {
    rooms,
    peer,
    event,
    commit,
    delta,
    attached,
    detached,
    store: (value: string) => {
      text = value
    },
    pass: (ms: number) => {
      at += ms
      rooms.tick()
    },
    settle: () => sleep(20),
  }
}
const seqs = (wire: SlowWire) => wire.got.flatMap(f => (f['type'] === 'message.new' ? [f['seq']] : []))
const streamed = (wire: SlowWire) => wire.got.filter(f => f['type'] === 'chat.stream')
const joinedFrame = frameText(JSON.stringify({ type: 'room.joined' }))

test('H2 whatever facts are lost, doubled or late, and however the socket stalls, events come dense and once', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('send', 'lose', 'again', 'stall', 'drain', 'turn'), { maxLength: 60 }),
      async steps => {
        const r = rig()
        const { peer, wire } = r.peer('u')
        r.rooms.sit(peer, id, 0)
        let seq = 0
        for (const step of steps) {
          if (step === 'send') r.commit(r.event(++seq))
          else if (step === 'lose') r.commit(r.event(++seq), false)
          else if (step === 'again' && seq > 0)
            r.rooms.fact(id, { seq, sender: 's', frame: frameText(r.event(seq).json), leaver: undefined })
          else if (step === 'stall') wire.waiting = 1e9
          else if (step === 'turn') await new Promise(setImmediate)
          else if (step === 'drain') {
            wire.waiting = 0
            if (peer.outbox.poll(1)) void r.rooms.catchUp(peer)
          }
        }
        wire.waiting = 0
        if (peer.outbox.poll(2)) void r.rooms.catchUp(peer)
        r.rooms.fill(r.rooms.all.get(id)!, seq)
        for (let i = 0; i < 20 && wire.got.length < seq; i++) {
          await new Promise(setImmediate)
          r.pass(1000)
        }
        assert.deepEqual(
          seqs(wire),
          Array.from({ length: seq }, (_, i) => i + 1),
        )
      },
    ),
    { seed: 20_260_702, numRuns: 200 },
  )
})

test('H5 a removed user gets the event that removes, the notice, and nothing after, also when slow', async () => {
  for (const isSlow of [false, true]) {
    const r = rig()
    const { peer, wire } = r.peer('u')
    const other = r.peer('v')
    const seat = r.rooms.sit(peer, id, 0)
    r.rooms.sit(other.peer, id, 0)
    if (isSlow) wire.waiting = 1e9
    r.commit(r.event(1))
    seat.farewell = frameText('{"type":"conversation.removed"}')
    r.commit(r.event(2, { kind: 'room.member_left', leaver: 'u' }))
    r.commit(r.event(3))
    wire.waiting = 0
    if (peer.outbox.poll(1)) await r.rooms.catchUp(peer)
    await r.settle()
    assert.deepEqual(
      wire.got.map(f => f['seq'] ?? f['type']),
      [1, 2, 'conversation.removed'],
    )
    assert.deepEqual(seqs(other.wire), [1, 2, 3])
    assert.equal(peer.seats.size, 0)
  }
})

test('H5 a removal that is read from the log brings its notice along, and the owner’s later one is known', async () => {
  for (const [isSlow, isTold] of [
    [false, false],
    [true, false],
    [false, true],
  ]) {
    const r = rig()
    const { peer, wire } = r.peer('u')
    const other = r.peer('v')
    const seat = r.rooms.sit(peer, id, 0)
    r.rooms.sit(other.peer, id, 0)
    if (isSlow) wire.waiting = 1e9
    if (isTold) seat.farewell = frameText('{"type":"conversation.removed"}')
    // Stored, and lost with the owner.
    r.commit(r.event(1), false)
    r.commit(r.event(2, { kind: 'room.member_left', leaver: 'u' }), false)
    r.commit(r.event(3))
    await r.settle()
    wire.waiting = 0
    if (peer.outbox.poll(1)) await r.rooms.catchUp(peer)
    await r.settle()
    const last = wire.got.at(-1)!
    assert.deepEqual(
      wire.got.map(f => f['seq'] ?? f['type']),
      [1, 2, 'conversation.removed'],
    )
    if (!isTold) assert.deepEqual([last['conversationId'], typeof last['ts']], [id, 'string'])
    assert.equal(peer.seats.size, 0)
    assert.deepEqual(seqs(other.wire), [1, 2, 3])
    assert.equal(r.rooms.farewells.takeTold(peer, id), !isTold)
    assert.equal(r.rooms.farewells.takeTold(peer, id), false)
    // Added again, the next removal is told as ever.
    r.rooms.farewells.bid(r.rooms.sit(peer, id, 3))
    r.rooms.leave(peer.seats.get(id)!)
    r.rooms.sit(peer, id, 3)
    assert.equal(r.rooms.farewells.takeTold(peer, id), false)
  }
})

test('H4 a replay that the socket cannot take goes on from the log, and room.joined stays behind it', async () => {
  const r = rig()
  const { peer, wire } = r.peer('u')
  const seat = r.rooms.sit(peer, id, 6)
  for (let seq = 1; seq <= 6; seq++) r.commit(r.event(seq), false)
  r.rooms.replay(seat, 3, 's', frameText(r.event(3).json))
  wire.waiting = 1e9
  for (const seq of [4, 5, 6]) r.rooms.replay(seat, seq, 's', frameText(r.event(seq).json))
  r.commit(r.event(7))
  r.rooms.joined(seat, joinedFrame, 6, 2, undefined)
  wire.waiting = 0
  peer.outbox.poll(1)
  await r.rooms.catchUp(peer)
  await r.settle()
  assert.deepEqual(
    wire.got.map(f => f['seq'] ?? f['type']),
    [3, 4, 5, 6, 'room.joined', 7],
  )
})

test('H7 deltas reach only joined seats, contiguous, and a lost one comes merged from the stored text', async () => {
  const r = rig()
  const [a, b] = [r.peer('u'), r.peer('v')]
  const seat = r.rooms.sit(a.peer, id, 0)
  r.rooms.sit(b.peer, id, 0)
  r.rooms.joined(seat, joinedFrame, 0, undefined, { answerId, bytes: 3 })
  r.delta(0, 'abc')
  r.delta(3, 'dé')
  r.store('abcdéfg€')
  r.delta(8, '€')
  await r.settle()
  r.store('abcdéfg€h')
  r.delta(11, 'h')
  await r.settle()
  assert.deepEqual(
    streamed(a.wire).map(f => [f['offset'], f['content']]),
    [
      [3, 'dé'],
      [6, 'fg€'],
      [11, 'h'],
    ],
  )
  assert.equal(streamed(b.wire).length, 0)
})

test('H8 chat.done waits for the answer’s event and its text, comes once, and is made again when it was lost', async () => {
  const content = 'hello €'
  const bytes = Buffer.byteLength(content)
  const answer = (r: ReturnType<typeof rig>, seq: number) =>
    r.event(seq, { senderId: assistantId, body: { messageId: answerId, finish: 'stop', content, role: 'assistant' } })
  const done = { frame: frameText('{"type":"chat.done"}'), seq: 1, answerId, bytes }

  const early = rig()
  const { peer, wire } = early.peer('u')
  const seat = early.rooms.sit(peer, id, 0)
  early.rooms.joined(seat, joinedFrame, 0, undefined, undefined)
  early.delta(0, 'hel')
  early.store(content)
  early.rooms.done(id, done)
  await early.settle()
  assert.ok(!wire.got.some(f => f['type'] === 'chat.done'))
  early.commit(answer(early, 1))
  early.rooms.done(id, done)
  await early.settle()
  assert.deepEqual(
    wire.got.map(f => f['type']),
    ['room.joined', 'chat.stream', 'message.new', 'chat.stream', 'chat.done'],
  )
  assert.equal(
    streamed(wire)
      .map(f => f['content'])
      .join(''),
    content,
  )

  const lost = rig()
  const late = lost.peer('u')
  lost.rooms.joined(lost.rooms.sit(late.peer, id, 0), joinedFrame, 0, undefined, undefined)
  lost.store(content)
  lost.commit(answer(lost, 1), false)
  lost.rooms.fill(lost.rooms.all.get(id)!, 1)
  await lost.settle()
  lost.pass(2000)
  await lost.settle()
  lost.pass(2000)
  const made = late.wire.got.filter(f => f['type'] === 'chat.done')
  assert.equal(made.length, 1)
  assert.equal(made[0]!['sha256'], createHash('sha256').update(content).digest('hex'))
  assert.equal(made[0]!['bytes'], bytes)
})

test('H8 an answer that begins before the chat.done of the last came makes no text of that come twice', async () => {
  const next = '33333333-3333-7333-8333-333333333333'
  const r = rig()
  const { peer, wire } = r.peer('u')
  r.rooms.joined(r.rooms.sit(peer, id, 0), joinedFrame, 0, undefined, undefined)
  r.store('hello')
  r.delta(0, 'hello')
  r.commit(r.event(1, { senderId: assistantId, body: { messageId: answerId, content: 'hello', role: 'assistant' } }))
  const of = (messageId: string, offset: number, content: string) =>
    r.rooms.delta(
      id,
      messageId,
      offset,
      Buffer.byteLength(content),
      Buffer.from(JSON.stringify({ type: 'chat.stream', messageId, offset, content })),
    )
  of(next, 0, 'wor')
  r.rooms.done(id, { frame: frameText('{"type":"chat.done"}'), seq: 1, answerId, bytes: 5 })
  of(next, 3, 'ld')
  await r.settle()
  assert.deepEqual(
    wire.got.slice(1).map(f => [f['type'], f['offset']]),
    [
      ['chat.stream', 0],
      ['message.new', undefined],
      ['chat.stream', 0],
      ['chat.done', undefined],
      ['chat.stream', 3],
    ],
  )
})

test('H8 no text of an answer comes after its chat.done, when a link that lagged brings it late', async () => {
  const next = '33333333-3333-7333-8333-333333333333'
  const content = 'hello'
  for (const hasNextBegun of [false, true]) {
    const r = rig()
    const [before, after] = [r.peer('u'), r.peer('v')]
    r.rooms.joined(r.rooms.sit(before.peer, id, 0), joinedFrame, 0, undefined, undefined)
    r.store(content)
    r.delta(0, 'he')
    const body = { messageId: answerId, finish: 'stop', content, role: 'assistant' }
    r.commit(r.event(1, { senderId: assistantId, body }), false)
    r.rooms.fill(r.rooms.all.get(id)!, 1)
    await r.settle()
    r.rooms.joined(r.rooms.sit(after.peer, id, 1), joinedFrame, 1, undefined, undefined)
    r.pass(2000)
    await r.settle()
    if (hasNextBegun) {
      r.rooms.delta(id, next, 0, 1, Buffer.from(JSON.stringify({ type: 'chat.stream', messageId: next, offset: 0 })))
    }
    r.delta(0, 'he')
    r.delta(2, 'llo')
    // Nor is it owed to a socket that is caught up later.
    before.wire.waiting = after.wire.waiting = 1e9
    r.commit(r.event(2))
    before.wire.waiting = after.wire.waiting = 0
    for (const { peer } of [before, after]) if (peer.outbox.poll(1)) await r.rooms.catchUp(peer)
    await r.settle()
    const told = ({ wire }: typeof before) =>
      wire.got.flatMap(f => (f['messageId'] === answerId ? [[f['type'], f['offset']]] : []))
    assert.deepEqual(told(before), [
      ['chat.stream', 0],
      ['message.new', undefined],
      ['chat.stream', 2],
      ['chat.done', undefined],
    ])
    assert.deepEqual(told(after), [])
    assert.deepEqual([seqs(before.wire), seqs(after.wire)], [[1, 2], [2]])
  }
})

test('H1 a room is attached where its first seat begins and detached with its last', () => {
  const r = rig()
  const [a, b] = [r.peer('u'), r.peer('v')]
  const seat = r.rooms.sit(a.peer, id)
  assert.deepEqual(r.attached, [])
  r.rooms.begin([[seat, 5]])
  const second = r.rooms.sit(b.peer, id, 7)
  assert.deepEqual(r.attached, [[id, 5]])
  r.rooms.leave(seat)
  assert.deepEqual(r.detached, [])
  r.rooms.leave(second)
  assert.deepEqual(r.detached, [id])
})
