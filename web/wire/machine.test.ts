import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ClientFrame, ServerFrame } from '#protos/catalogue.ts'
import { answerMsMax, inFlightMax, serverFailuresMax } from './lanes.ts'
import { backoffFirstMs, backoffMaxMs, dueAt, openingMsMax, pongMsMax, quietMs, transition } from './machine.ts'
import { newWire, type Outgoing, type Wire, type WireEffect, type WireEvent } from './wire.ts'

const ts = '2026-01-01T00:00:00.000Z'
const room = '00000000-0000-7000-8000-000000000001'
const other = '00000000-0000-7000-8000-000000000002'
const me = '00000000-0000-7000-8000-0000000000ff'

const idOf = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, '0')}`
const letter = (n: number, conversationId = room): Outgoing => ({
  type: 'message.send',
  conversationId,
  clientMessageId: idOf(1000 + n),
  content: `text ${n}`,
})
const ready = (headSeq = 5): ServerFrame => ({
  type: 'ready',
  ts,
  userId: me,
  sessionId: me,
  serverTime: ts,
  heartbeatMs: 15_000,
  conversations: [{ id: room, type: 'dm', headSeq, readSeq: 0, unread: 0 }],
  others: [{ id: other, headSeq: 9 }],
})
const message = (seq: number, conversationId = room): ServerFrame => ({
  type: 'message.new',
  ts,
  conversationId,
  seq,
  messageId: idOf(seq),
  senderId: me,
  role: 'user',
  content: 'x',
})
const ack = (n: number, seq: number): ServerFrame => ({
  type: 'ack',
  ts,
  conversationId: room,
  clientMessageId: letter(n).clientMessageId,
  messageId: idOf(seq),
  seq,
  requestId: letter(n).clientMessageId,
})
const refusal = (n: number, code: 'RLIMIT' | 'FORBIDDEN' | 'BUSY' | 'SERVER', retryAfterMs?: number): ServerFrame => ({
  type: 'error',
  ts,
  code,
  message: 'no',
  retryable: code !== 'FORBIDDEN',
  requestId: letter(n).clientMessageId,
  ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
})

/** Drives the machine by hand: the world is a clock, a list of what left and one of what was told. */
class Drive {
  wire: Wire = newWire
  now = 0
  random = 0.5
  effects: WireEffect[] = []

  tell(event: WireEvent): this {
    const turned = transition(this.wire, event, { now: this.now, random: this.random })
    this.wire = turned.wire
    this.effects.push(...turned.effects)
    return this
  }

  receive(...frames: ServerFrame[]): this {
    for (const frame of frames) this.tell({ type: 'received', frame })
    return this
  }

  /** Lets time pass up to the next thing that is due, and wakes the machine there. */
  wake(): this {
    const due = dueAt(this.wire)
    assert.notEqual(due, undefined, 'nothing is due')
    this.now = Math.max(this.now, due!)
    return this.tell({ type: 'woke' })
  }

  connect(headSeq = 5): this {
    return this.tell({ type: 'start', token: 'T' }).tell({ type: 'opened' }).receive(ready(headSeq))
  }

  again(): this {
    return this.wake().tell({ type: 'opened' }).receive(ready())
  }

  take(): WireEffect[] {
    return this.effects.splice(0)
  }

  writes(): ClientFrame[] {
    return this.take().flatMap(e => (e.type === 'write' ? [e.frame] : []))
  }

  sent(): string[] {
    return this.writes().flatMap(f => (f.type === 'message.send' ? [f.content] : []))
  }
}

test('W1 a socket opens with the token and nothing leaves before ready', () => {
  const d = new Drive().tell({ type: 'send', letter: letter(1) }).tell({ type: 'start', token: 'T' })
  assert.deepEqual(d.take(), [{ type: 'open', token: 'T' }])
  d.tell({ type: 'opened' })
  assert.deepEqual(d.take(), [])
  d.receive(ready())
  assert.deepEqual(d.sent(), ['text 1'])
})

test('W2 a lost socket comes back with full jitter, doubled up to the cap, and ready starts over', () => {
  const d = new Drive().connect()
  d.random = 0.999999
  const pauses: number[] = []
  for (let i = 0; i < 9; i++) {
    d.tell({ type: 'closed', code: 1006 })
    pauses.push(Math.round(d.wire.retryAt! - d.now))
    d.wake()
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000])
  d.tell({ type: 'opened' }).receive(ready()).tell({ type: 'closed', code: 1012 })
  assert.ok(d.wire.retryAt! - d.now <= backoffFirstMs)
  d.random = 0
  d.wake().tell({ type: 'closed', code: 1006 })
  assert.equal(d.wire.retryAt, d.now)
  assert.ok(backoffMaxMs === 30_000)
})

test('W3 close codes decide: stay away, refresh the token first, or come back', () => {
  for (const code of [1002, 1003, 1007, 1009, 4400, 4403, 4410]) {
    const d = new Drive().connect()
    d.take()
    d.tell({ type: 'closed', code })
    assert.equal(d.wire.phase, 'stopped', String(code))
    assert.deepEqual(d.take(), [{ type: 'ended', code }])
  }
  for (const code of [4401, 4411]) {
    const d = new Drive().connect()
    d.take()
    d.tell({ type: 'closed', code })
    assert.deepEqual(d.take(), [{ type: 'refresh' }])
    d.tell({ type: 'refreshed', token: 'U' })
    assert.deepEqual(d.take(), [{ type: 'open', token: 'U' }])
  }
  for (const code of [1006, 1008, 1012, 1013, 4408, 4409, 4420, 4429, 3999]) {
    assert.equal(new Drive().connect().tell({ type: 'closed', code }).wire.phase, 'waiting', String(code))
  }
})

test('W4 a refresh that nobody answers is tried again, one that is refused ends the session', () => {
  const d = new Drive().connect().tell({ type: 'closed', code: 4401 })
  d.tell({ type: 'refresh_failed', isFinal: false })
  assert.equal(d.wire.phase, 'waiting')
  d.take()
  d.wake()
  assert.deepEqual(d.take(), [{ type: 'refresh' }])
  d.tell({ type: 'refresh_failed', isFinal: true })
  assert.deepEqual(d.take(), [{ type: 'ended', code: 4401 }])
})

test('W5 joined rooms are joined again from the highest seq that was delivered', () => {
  const d = new Drive().connect(5).tell({ type: 'join', conversationId: room, head: 5 })
  d.receive(message(6), message(7))
  d.take()
  d.tell({ type: 'closed', code: 1006 }).wake().tell({ type: 'opened' }).receive(ready(12))
  const joins = d.writes().filter(f => f.type === 'room.join')
  assert.deepEqual(joins, [{ type: 'room.join', conversationId: room, afterSeq: 7, requestId: `join:${room}` }])
})

test('W6 known events are dropped, a hole is closed by a join and never delivered', () => {
  const d = new Drive().connect(5).tell({ type: 'join', conversationId: room, head: 5 })
  d.receive({ type: 'room.joined', ts, conversationId: room, headSeq: 5, firstSeq: 1, requestId: `join:${room}` })
  d.take()
  d.receive(message(5), message(6), message(6), message(9), message(10))
  const effects = d.take()
  const delivered = effects.flatMap(e => (e.type === 'deliver' && e.frame.type === 'message.new' ? [e.frame.seq] : []))
  assert.deepEqual(delivered, [6])
  const joins = effects.filter(e => e.type === 'write' && e.frame.type === 'room.join')
  assert.equal(joins.length, 1)
  d.receive(message(7), message(8), message(9), message(10))
  const seqs = d.take().flatMap(e => (e.type === 'deliver' && e.frame.type === 'message.new' ? [e.frame.seq] : []))
  assert.deepEqual(seqs, [7, 8, 9, 10])
})

test('W7 unanswered sends leave again after a reconnect, in order, with the same ids', () => {
  const d = new Drive().connect()
  for (const n of [1, 2, 3]) d.tell({ type: 'send', letter: letter(n) })
  d.receive(ack(1, 6))
  d.take()
  d.tell({ type: 'closed', code: 1006 })
    .tell({ type: 'send', letter: letter(4) })
    .again()
  const frames = d.writes().flatMap(f => (f.type === 'message.send' ? [f] : []))
  assert.deepEqual(
    frames.map(f => [f.clientMessageId, f.requestId]),
    [2, 3, 4].map(n => [letter(n).clientMessageId, letter(n).clientMessageId]),
  )
})

test('W8 after a refusal for load one send at a time leaves, the first refused first', () => {
  const d = new Drive().connect()
  for (const n of [1, 2, 3]) d.tell({ type: 'send', letter: letter(n) })
  assert.deepEqual(d.sent(), ['text 1', 'text 2', 'text 3'])
  d.receive(refusal(1, 'RLIMIT', 700), refusal(2, 'RLIMIT', 700), refusal(3, 'RLIMIT', 900))
  assert.deepEqual(
    d.take().map(e => e.type),
    ['held', 'held', 'held'],
  )
  assert.equal(dueAt(d.wire), 900)
  d.wake()
  assert.deepEqual(d.sent(), ['text 1'])
  d.receive(ack(1, 6))
  assert.deepEqual(d.sent(), ['text 2'])
  d.receive(ack(2, 7), ack(3, 8))
  d.take()
  d.tell({ type: 'send', letter: letter(4) }).tell({ type: 'send', letter: letter(5) })
  assert.deepEqual(d.sent(), ['text 4', 'text 5'], 'an empty queue ends the caution')
})

test('W9 a refusal for good is told and does not hold up the next send', () => {
  for (const code of ['FORBIDDEN', 'BUSY'] as const) {
    const d = new Drive().connect()
    d.tell({ type: 'send', letter: letter(1) }).tell({ type: 'send', letter: letter(2) })
    d.take()
    d.receive(refusal(1, code))
    const told = d.take()
    assert.equal(told[0]?.type, 'refused')
    d.receive(ack(2, 6))
    assert.equal(d.take()[0]?.type, 'stored')
    assert.equal(d.wire.lanes.size, 0)
  }
  const d = new Drive().connect().tell({ type: 'send', letter: letter(1) })
  for (let i = 0; i < serverFailuresMax; i++) {
    d.receive(refusal(1, 'SERVER'))
    if (i < serverFailuresMax - 1) d.wake()
  }
  assert.equal(d.take().at(-1)?.type, 'refused')
})

test('W10 a send without any answer goes again with the same id', () => {
  const d = new Drive().connect().tell({ type: 'send', letter: letter(1) })
  d.take()
  d.now = answerMsMax
  d.receive({ type: 'pong', ts }).tell({ type: 'woke' })
  assert.deepEqual(d.sent(), ['text 1'])
})

test('W11 a silent socket is asked, then given up; one that does not open is given up too', () => {
  const d = new Drive().connect()
  d.take()
  d.wake()
  assert.equal(d.now, quietMs)
  assert.deepEqual(d.writes(), [{ type: 'ping' }])
  d.wake()
  assert.equal(d.now, quietMs + pongMsMax)
  assert.equal(d.wire.phase, 'waiting')
  assert.deepEqual(d.take(), [{ type: 'close' }])
  d.wake()
  d.wake()
  assert.equal(d.wire.phase, 'waiting')
  assert.ok(d.now >= quietMs + pongMsMax + openingMsMax)
})

test('W12 offline closes the socket and waits for online; sends wait too', () => {
  const d = new Drive().connect()
  d.take()
  d.tell({ type: 'offline' }).tell({ type: 'send', letter: letter(1) })
  assert.deepEqual(d.take(), [{ type: 'close' }])
  assert.equal(dueAt(d.wire), undefined)
  d.tell({ type: 'online' })
  assert.deepEqual(d.take(), [{ type: 'open', token: 'T' }])
  d.tell({ type: 'opened' }).receive(ready())
  assert.deepEqual(d.sent(), ['text 1'])
})

test('W13 a draining gateway is left when it asked, without a pause', () => {
  const d = new Drive().connect().receive({ type: 'server.draining', ts, reconnectInMs: 300 })
  d.take()
  d.wake()
  assert.equal(d.now, 300)
  d.wake()
  assert.deepEqual(d.take(), [{ type: 'close' }, { type: 'open', token: 'T' }])
})

test('W14 no conversation ever has more than the limit on the wire', () => {
  const d = new Drive().connect()
  for (let n = 0; n < inFlightMax + 10; n++) d.tell({ type: 'send', letter: letter(n) })
  assert.equal(d.sent().length, inFlightMax)
  d.receive(ack(0, 6))
  assert.equal(d.sent().length, 1)
})

test('W15 whatever the network does, every send is told as stored once, and order survives refusals and cuts', t => {
  const seed = Date.now() & 0x7fff_ffff
  t.diagnostic(`seed ${seed}`)
  const step = fc.constantFrom('send', 'answer', 'refuse', 'cut', 'lose', 'wake', 'offline', 'online')
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const d = new Drive().connect()
      const stored: string[] = []
      const told: string[] = []
      let written: string[] = []
      let onWire: string[] = []
      // A server by the rules: it stores in order and, after refusing one, refuses until the first refused comes again.
      let refusedFirst: string | undefined
      let servedAt = 0
      const serve = (isRefusing: boolean) => {
        const id = onWire.shift()
        if (id === undefined) return
        if (d.now - servedAt >= 1000) refusedFirst = undefined
        servedAt = d.now
        if (!stored.includes(id) && (isRefusing || (refusedFirst !== undefined && refusedFirst !== id))) {
          refusedFirst ??= id
          const n = written.indexOf(id)
          d.receive({ ...refusal(n, 'RLIMIT', 50), requestId: id } as ServerFrame)
          return
        }
        if (refusedFirst === id) refusedFirst = undefined
        if (!stored.includes(id)) stored.push(id)
        d.receive({ ...ack(written.indexOf(id), 6 + stored.indexOf(id)) } as ServerFrame)
      }
      const absorb = () => {
        for (const e of d.take()) {
          if (e.type === 'write' && e.frame.type === 'message.send') onWire.push(e.frame.clientMessageId)
          if (e.type === 'stored') told.push(e.letter.clientMessageId)
          if (e.type === 'close') {
            onWire = []
            refusedFirst = undefined
          }
        }
      }
      const act = (name: string) => {
        if (name === 'send') {
          const next = letter(written.length)
          written = [...written, next.clientMessageId]
          d.tell({ type: 'send', letter: next })
        } else if (name === 'answer') serve(false)
        else if (name === 'refuse') serve(true)
        else if (name === 'cut') {
          d.tell({ type: 'closed', code: 1006 })
          onWire = []
          refusedFirst = undefined
        } else if (name === 'lose') onWire.shift()
        else if (name === 'wake' && dueAt(d.wire) !== undefined) d.wake()
        else if (name === 'offline' || name === 'online') d.tell({ type: name })
        absorb()
        if (d.wire.phase === 'connecting') d.tell({ type: 'opened' }).receive(ready())
        absorb()
      }
      steps.forEach(act)
      for (let i = 0; i < 2000 && told.length < written.length; i++) {
        act('online')
        act('answer')
        if (onWire.length === 0) act('wake')
      }
      assert.deepEqual([...told].sort(), [...written].sort(), 'each is told as stored exactly once')
      if (!steps.includes('lose')) assert.deepEqual(stored, written, 'the order of writing is the order of the log')
    }),
    { seed, numRuns: 200 },
  )
})
