/** The machine of one socket: rules S1 to S14 of SPEC.md, and every phase with every event. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  openSession,
  type Phase,
  type Principal,
  type Session,
  type SessionEffect,
  type SessionEvent,
  scaledRules,
  transition,
} from './session.ts'

const user: Principal = { userId: 'u', sessionId: 's', sessionExpiresAt: 1_000_000 }
const conversationId = '11111111-1111-7111-8111-111111111111'
const otherId = '22222222-2222-7222-8222-222222222222'
const idOf = (n: number) => `33333333-3333-7333-8333-${String(n).padStart(12, '0')}`
const sendText = (n: number, conversation = conversationId) =>
  JSON.stringify({
    type: 'message.send',
    conversationId: conversation,
    clientMessageId: idOf(n),
    content: 'x',
    requestId: `r${n}`,
  })

class Driver {
  session: Session
  effects: SessionEffect[] = []
  /** Ms to wait for the next sends; 0 when absent. */
  waits: number[] = []
  constructor(session: Session) {
    this.session = session
  }
  do(event: SessionEvent): SessionEffect[] {
    const step = transition(this.session, event)
    this.session = step.session
    const all = [...step.effects]
    this.effects.push(...step.effects)
    for (const effect of step.effects) {
      if (effect.kind !== 'admit') continue
      const waitMs = this.waits.shift() ?? 0
      const at = 'at' in event ? event.at : 0
      all.push(...this.do({ kind: 'admitted', send: effect.send, text: effect.text, waitMs, at }))
    }
    return all
  }
  frame(value: unknown, at = 0): SessionEffect[] {
    return this.do({ kind: 'frame', text: typeof value === 'string' ? value : JSON.stringify(value), at })
  }
}

function live(scale = 1): Driver {
  const d = new Driver(openSession(scaledRules(scale), 0))
  d.frame({ type: 'auth', token: 't' })
  d.do({ kind: 'verified', access: user, at: 0 })
  d.do({ kind: 'read', result: 'ok', at: 0 })
  assert.equal(d.session.phase, 'live')
  d.effects = []
  return d
}

const errors = (effects: SessionEffect[]) => effects.filter(e => e.kind === 'error')
const closes = (effects: SessionEffect[]) => effects.flatMap(e => (e.kind === 'close' ? [e.code] : []))
const commands = (effects: SessionEffect[]) => effects.filter(e => e.kind === 'command')

test('S1 no authentication in 5 s closes 4401, also while a credential is judged', () => {
  for (const credential of [undefined, 'bearer', 'cookie'] as const) {
    const d = new Driver(openSession(scaledRules(1), 0, credential))
    assert.deepEqual(d.do({ kind: 'tick', at: 4999, now: 0 }), [])
    const effects = d.do({ kind: 'tick', at: 5000, now: 0 })
    assert.equal(errors(effects)[0]?.failure.reason, 'AUTH_TIMEOUT')
    assert.deepEqual(effects.at(-1), { kind: 'close', code: 4401, reason: 'AUTH_TIMEOUT' })
  }
})

test('S2 another frame before auth is TOKEN_MISSING, auth without a token TOKEN_INVALID', () => {
  for (const [text, reason] of [
    [sendText(1), 'TOKEN_MISSING'],
    ['{"type":"ping"}', 'TOKEN_MISSING'],
    ['', 'TOKEN_MISSING'],
    ['{"type":"auth"', 'TOKEN_MISSING'],
    ['[]', 'TOKEN_MISSING'],
    ['{"type":"auth"}', 'TOKEN_INVALID'],
    ['{"type":"auth","token":5}', 'TOKEN_INVALID'],
    ['{"type":"auth","token":null}', 'TOKEN_INVALID'],
  ] as const) {
    const d = new Driver(openSession(scaledRules(1), 0))
    const effects = d.frame(text)
    assert.equal(errors(effects)[0]?.failure.reason, reason, text)
    assert.deepEqual(effects.at(-1), { kind: 'close', code: 4401, reason }, text)
  }
})

test('S3 a bad token says why and closes 4401, a bad cookie is ignored', () => {
  for (const reason of ['TOKEN_EXPIRED', 'TOKEN_INVALID', 'TOKEN_REVOKED'] as const) {
    const d = new Driver(openSession(scaledRules(1), 0))
    d.frame({ type: 'auth', token: 't', requestId: 'q' })
    const effects = d.do({ kind: 'verified', access: { reason }, at: 1 })
    assert.deepEqual(errors(effects)[0]?.asked, { requestId: 'q' })
    assert.deepEqual(effects.at(-1), { kind: 'close', code: 4401, reason })
    const cookie = new Driver(openSession(scaledRules(1), 0, 'cookie'))
    assert.deepEqual(cookie.do({ kind: 'verified', access: { reason }, at: 1 }), [])
    assert.equal(cookie.session.phase, 'authenticating')
    assert.ok(cookie.frame({ type: 'auth', token: 't' }).some(e => e.kind === 'verify'))
  }
})

test('S4 frames before ready wait and are served in order', () => {
  const d = new Driver(openSession(scaledRules(1), 0))
  d.frame({ type: 'auth', token: 't' })
  assert.deepEqual(d.frame(sendText(1), 1), [])
  d.do({ kind: 'verified', access: user, at: 2 })
  assert.deepEqual(d.frame({ type: 'ping' }, 3), [])
  const effects = d.do({ kind: 'read', result: 'ok', at: 4 })
  assert.deepEqual(
    effects.filter(e => e.kind !== 'count').map(e => e.kind),
    ['admit', 'pong', 'command'],
  )
})

test('S4 a frame behind a bad cookie still authenticates', () => {
  const d = new Driver(openSession(scaledRules(1), 0, 'cookie'))
  d.frame({ type: 'auth', token: 't' })
  const effects = d.do({ kind: 'verified', access: { reason: 'TOKEN_INVALID' }, at: 1 })
  assert.ok(effects.some(e => e.kind === 'verify'))
})

test('S5 a second auth is VALIDATION of type and no bad frame', () => {
  const d = live()
  for (let i = 0; i < 9; i++) {
    const [, error] = d.frame({ type: 'auth', token: 't', requestId: 'a' }, i)
    assert.ok(error?.kind === 'error' && error.failure.code === 'VALIDATION' && error.failure.field === 'type')
  }
  assert.equal(d.session.phase, 'live')
})

test('S6 the fifth bad frame within 10 s closes 4400, a fifth after that does not', () => {
  const bad = ['nope', '[]', '{"type":"nope"}', '{"type":"ping","x":1}', 'null']
  const quick = live()
  assert.deepEqual(closes(bad.flatMap((text, i) => quick.frame(text, i * 2000))), [4400])
  const slow = live()
  assert.deepEqual(closes(bad.flatMap((text, i) => slow.frame(text, i * 2500))), [])
  assert.equal(errors(slow.effects).length, 5)
  assert.deepEqual(
    errors(slow.effects).map(e => e.failure.field),
    [undefined, undefined, 'type', 'x', undefined],
  )
})

test('S7 the 51st frame of a second is RLIMIT, not served, and the next second is free', () => {
  const d = live()
  for (let i = 0; i < 50; i++) assert.equal(d.frame({ type: 'ping' }, 1000 + i).at(-1)?.kind, 'pong', `frame ${i}`)
  const over = d.frame({ type: 'ping', requestId: 'z' }, 1100)
  const error = errors(over)[0]!
  assert.equal(error.failure.code, 'RLIMIT')
  assert.equal(error.failure.retryAfterMs, 900)
  assert.deepEqual(error.asked, { requestId: 'z' })
  assert.equal(d.frame({ type: 'ping' }, 2000).at(-1)?.kind, 'pong')
})

test('S7 the scale multiplies the rate', () => {
  const d = live(0.1)
  for (let i = 0; i < 5; i++) d.frame({ type: 'ping' }, 1000)
  assert.equal(errors(d.frame({ type: 'ping' }, 1001)).length, 1)
})

test('S8 five flooded seconds within 10 s close 4429, four do not', () => {
  const flood = (d: Driver, at: number) => {
    let effects: SessionEffect[] = []
    for (let i = 0; i < 52; i++) effects = [...effects, ...d.frame({ type: 'ping' }, at + i)]
    return closes(effects)
  }
  const quick = live()
  assert.deepEqual(
    [1000, 3000, 5000, 7000, 9000].map(at => flood(quick, at)),
    [[], [], [], [], [4429]],
  )
  const slow = live()
  assert.deepEqual(
    [1000, 4000, 7000, 10_000, 13_000].flatMap(at => flood(slow, at)),
    [],
  )
  const controls = live()
  const codes: number[] = []
  for (let second = 1; second <= 5; second++) {
    for (let i = 0; i < 101; i++) codes.push(...closes(controls.do({ kind: 'control', at: second * 1000 + i })))
  }
  assert.deepEqual(codes, [4429])
})

test('S9 a send without a token is RLIMIT with the bucket’s wait, and never floods', () => {
  const d = live()
  d.waits = Array.from({ length: 400 }, () => 700)
  for (let i = 0; i < 400; i++) d.frame(sendText(i), i * 25)
  const all = errors(d.effects)
  assert.equal(all.length, 400)
  assert.ok(all.every(e => e.failure.code === 'RLIMIT' && e.failure.retryAfterMs! >= 700))
  assert.deepEqual(closes(d.effects), [])
  assert.equal(commands(d.effects).length, 0)
})

test('S10 behind a refusal later sends of the pair are refused until the first id comes again', () => {
  const d = live()
  d.do({
    kind: 'refused',
    conversation: conversationId,
    clientMessageId: idOf(1),
    code: 'OVERLOADED',
    retryAfterMs: 400,
    at: 0,
  })
  const second = errors(d.frame(sendText(2), 10))[0]!
  assert.equal(second.failure.code, 'OVERLOADED')
  assert.ok(second.failure.retryAfterMs! >= 400)
  assert.equal(second.conversationId, conversationId)
  assert.equal(commands(d.frame(sendText(3, otherId), 11)).length, 1, 'another conversation is served')
  assert.equal(commands(d.frame({ type: 'message.status', conversationId, clientMessageId: idOf(1) }, 12)).length, 1)
  assert.equal(commands(d.frame(sendText(1), 20)).length, 1, 'the first id is served')
  assert.equal(commands(d.frame(sendText(2), 21)).length, 1, 'and those behind it')
})

test('S10 a second without a send ends a refusal, a send within it does not', () => {
  const d = live()
  d.do({
    kind: 'refused',
    conversation: conversationId,
    clientMessageId: idOf(1),
    code: 'RLIMIT',
    retryAfterMs: 1,
    at: 0,
  })
  assert.equal(commands(d.frame(sendText(2), 900)).length, 0)
  assert.equal(commands(d.frame(sendText(3), 1800)).length, 0)
  assert.equal(commands(d.frame(sendText(4), 2800)).length, 1)
})

test('S10 who waits as long as told may also go on with another message', () => {
  const d = live()
  d.waits = [300]
  const first = errors(d.frame(sendText(1), 0))[0]!.failure.retryAfterMs!
  assert.equal(commands(d.frame(sendText(2), first)).length, 1)
  d.do({
    kind: 'refused',
    conversation: otherId,
    clientMessageId: idOf(1),
    code: 'OVERLOADED',
    retryAfterMs: 1,
    at: 5000,
  })
  const behind = errors(d.frame(sendText(2, otherId), 5500))[0]!.failure.retryAfterMs!
  assert.equal(commands(d.frame(sendText(3, otherId), 5500 + behind)).length, 1)
})

test('S10 a send beyond the rate of frames is a send too: it keeps a refusal alive and waits no less than the first', () => {
  const d = live()
  d.do({
    kind: 'refused',
    conversation: conversationId,
    clientMessageId: idOf(1),
    code: 'OVERLOADED',
    retryAfterMs: 5000,
    at: 0,
  })
  for (let i = 0; i < 50; i++) d.frame({ type: 'ping' }, 800)
  const over = errors(d.frame(sendText(2), 900))[0]!
  assert.deepEqual([over.failure.code, over.failure.retryAfterMs], ['RLIMIT', 5000])
  assert.equal(commands(d.frame(sendText(3), 1850)).length, 0, 'the second without a send is not over')
  assert.equal(commands(d.frame(sendText(1), 1860)).length, 1)
  // A refusal that a second of quiet has ended does not stand for one that comes later.
  const late = live()
  late.do({
    kind: 'refused',
    conversation: conversationId,
    clientMessageId: idOf(1),
    code: 'RLIMIT',
    retryAfterMs: 1,
    at: 0,
  })
  for (let i = 0; i < 50; i++) late.frame({ type: 'ping' }, 3000)
  assert.equal(commands(late.frame(sendText(2), 3100)).length, 0, 'over the rate')
  assert.equal(commands(late.frame(sendText(3), 4050)).length, 0, 'behind the one that was over the rate')
  assert.equal(commands(late.frame(sendText(2), 4060)).length, 1)
})

test('S10 sends that are tried again in order keep their order', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 5, maxLength: 40 }), refusals => {
      const d = live(1000)
      d.waits = refusals.map(n => (n === 0 ? 50 : 0))
      const served: number[] = []
      // A client that sends 8 in a row and then all refused ones again in order.
      let todo = Array.from({ length: 8 }, (_, i) => i)
      for (let round = 0; todo.length > 0 && round < 100; round++) {
        const again: number[] = []
        for (const n of todo) {
          const effects = d.frame(sendText(n), round * 10)
          if (commands(effects).length > 0) served.push(n)
          else again.push(n)
        }
        todo = again
      }
      assert.deepEqual(served, [0, 1, 2, 3, 4, 5, 6, 7])
    }),
    { seed: 20_260_701 },
  )
})

test('S11 the session’s end closes 4411 and others’ decisions close with their codes', () => {
  const d = live()
  assert.deepEqual(closes(d.do({ kind: 'tick', at: 1, now: 999_999 })), [])
  assert.deepEqual(closes(d.do({ kind: 'tick', at: 2, now: 1_000_000 })), [4411])
  for (const code of [4408, 4409, 4410, 4420, 1012] as const) {
    assert.deepEqual(closes(live().do({ kind: 'end', code })), [code])
  }
})

test('S12 an error to a bad frame repeats ids that are valid themselves', () => {
  const d = live()
  const asked = (text: string) => errors(d.frame(text, Math.random() * 1e6))[0]!.asked
  assert.deepEqual(asked('{"type":"ping","requestId":"r","traceId":"t","x":1}'), { requestId: 'r', traceId: 't' })
  assert.deepEqual(asked(JSON.stringify({ type: 'ping', requestId: 'r'.repeat(65) })), {})
  assert.deepEqual(asked('{"type":"ping","requestId":"\\ud800"}'), {})
  const wide = '😀'.repeat(64)
  assert.deepEqual(asked(JSON.stringify({ type: 'ping', requestId: wide, x: 1 })), { requestId: wide })
  const long = {
    type: 'message.send',
    conversationId,
    clientMessageId: idOf(1),
    requestId: 'r',
    content: 'x'.repeat(60_000),
  }
  assert.deepEqual(asked(JSON.stringify(long)), { requestId: 'r' }, 'however long the frame is')
})

test('S13 a database that is away is UNAVAILABLE and 1013, an unusable account 4403', () => {
  for (const [result, code, close] of [
    ['away', 'UNAVAILABLE', 1013],
    ['unusable', 'FORBIDDEN', 4403],
  ] as const) {
    const d = new Driver(openSession(scaledRules(1), 0))
    d.frame({ type: 'auth', token: 't' })
    d.do({ kind: 'verified', access: user, at: 0 })
    const effects = d.do({ kind: 'read', result, at: 1 })
    assert.equal(errors(effects)[0]?.failure.code, code)
    assert.deepEqual(closes(effects), [close])
  }
})

test('S13 a credential of which nobody can be asked is UNAVAILABLE and 1013, a cookie too', () => {
  for (const credential of ['bearer', 'cookie'] as const) {
    const d = new Driver(openSession(scaledRules(1), 0, credential))
    const effects = d.do({ kind: 'verified', access: 'away', at: 1 })
    assert.equal(errors(effects)[0]?.failure.code, 'UNAVAILABLE')
    assert.deepEqual(closes(effects), [1013])
  }
})

const inPhase: Record<Phase, () => Session> = {
  connecting: () => openSession(scaledRules(1), 0, 'bearer'),
  authenticating: () => openSession(scaledRules(1), 0),
  reading: () => ({ ...live().session, phase: 'reading' }),
  live: () => live().session,
  closing: () => ({ ...live().session, phase: 'closing' }),
}
const send = { type: 'message.send', conversationId, clientMessageId: idOf(1), content: 'x' } as const
const everyEvent: Record<SessionEvent['kind'], SessionEvent> = {
  frame: { kind: 'frame', text: '{"type":"ping"}', at: 1 },
  control: { kind: 'control', at: 1 },
  verified: { kind: 'verified', access: user, at: 1 },
  read: { kind: 'read', result: 'ok', at: 1 },
  admitted: { kind: 'admitted', send, text: '', waitMs: 0, at: 1 },
  refused: {
    kind: 'refused',
    conversation: conversationId,
    clientMessageId: idOf(1),
    code: 'RLIMIT',
    retryAfterMs: 1,
    at: 1,
  },
  tick: { kind: 'tick', at: 6000, now: 0 },
  end: { kind: 'end', code: 4410 },
}
/** What each event comes to in each phase: the phase after it and the kinds of effect. */
const table: Record<Phase, Record<SessionEvent['kind'], [Phase, string]>> = {
  connecting: {
    frame: ['connecting', ''],
    control: ['connecting', ''],
    verified: ['reading', 'read'],
    read: ['connecting', ''],
    admitted: ['connecting', ''],
    refused: ['connecting', ''],
    tick: ['closing', 'error close'],
    end: ['closing', 'close'],
  },
  authenticating: {
    frame: ['closing', 'error close'],
    control: ['authenticating', ''],
    verified: ['authenticating', ''],
    read: ['authenticating', ''],
    admitted: ['authenticating', ''],
    refused: ['authenticating', ''],
    tick: ['closing', 'error close'],
    end: ['closing', 'close'],
  },
  reading: {
    frame: ['reading', ''],
    control: ['reading', ''],
    verified: ['reading', ''],
    read: ['live', ''],
    admitted: ['reading', ''],
    refused: ['reading', ''],
    tick: ['reading', ''],
    end: ['closing', 'close'],
  },
  live: {
    frame: ['live', 'count pong'],
    control: ['live', ''],
    verified: ['live', ''],
    read: ['live', ''],
    admitted: ['live', 'command'],
    refused: ['live', ''],
    tick: ['live', ''],
    end: ['closing', 'close'],
  },
  closing: {
    frame: ['closing', ''],
    control: ['closing', ''],
    verified: ['closing', ''],
    read: ['closing', ''],
    admitted: ['closing', ''],
    refused: ['closing', ''],
    tick: ['closing', ''],
    end: ['closing', ''],
  },
}

test('S14 every phase with every event comes to what the table says, and closing stays closed', () => {
  for (const [phase, row] of Object.entries(table) as [Phase, (typeof table)[Phase]][]) {
    for (const [kind, [after, effects]] of Object.entries(row) as [SessionEvent['kind'], [Phase, string]][]) {
      const before = inPhase[phase]()
      const step = transition(before, everyEvent[kind])
      assert.equal(step.session.phase, after, `${phase} × ${kind}`)
      assert.equal(step.effects.map(e => e.kind).join(' '), effects, `${phase} × ${kind}`)
    }
  }
})
