/**
 * The machine of one socket: who it is, which of its frames are served, when it must close. Pure: time comes with events,
 * what shall happen leaves as effects; SPEC.md numbers its rules.
 * Refuses to know sockets, stores and conversations' content: whether a send is stored is the engine's to say.
 */
import { type ClientFrame, parseClientFrame } from '#protos/catalogue.ts'
import type { AuthReason, CloseCode, ErrorCode, Failure } from '#protos/errors.ts'
import { closeCodes } from '#protos/errors.ts'
import { parseId } from '#protos/ids.ts'
import {
  authTimeoutMs,
  badFramesMax,
  badFramesWindowMs,
  controlFramesPerSecondMax,
  floodSecondsMax,
  floodWindowMs,
  framesPerSecondMax,
  heldFramesBytesMax,
  refusalQuietMs,
} from '#protos/limits.ts'
import { type Asked, askedIn, askedOf, objectIn, typeIn } from './asked.ts'

export interface Principal {
  userId: string
  sessionId: string
  /** ms since 1970; the socket closes 4411 then. */
  sessionExpiresAt: number
}

/** What a credential was found to be; `away`: there was nobody to ask. */
export type Access = Principal | { reason: AuthReason } | 'away'

/** connecting: a credential is being judged; authenticating: none came yet; reading: memberships are being read. */
export type Phase = 'connecting' | 'authenticating' | 'reading' | 'live' | 'closing'
export type Credential = 'bearer' | 'cookie' | 'frame'

interface Refusal {
  firstId: string
  code: ErrorCode
  retryAfterMs: number
  lastSendAt: number
}

export interface Session {
  readonly phase: Phase
  readonly rules: SessionRules
  readonly openedAt: number
  readonly credential: Credential | undefined
  readonly principal: Principal | undefined
  /** Of the auth frame: repeated on `ready`. */
  readonly asked: Asked
  /** Frames that came before the socket is live, in order. */
  readonly held: readonly string[]
  readonly heldBytes: number
  readonly secondAt: number
  readonly frames: number
  readonly controls: number
  /** Starts of the last seconds with too many frames. */
  readonly floods: readonly number[]
  readonly bad: readonly number[]
  /** Conversation → the first send that was refused for load (R2). */
  readonly refusals: ReadonlyMap<string, Refusal>
}

export interface SessionRules {
  framesPerSecond: number
  controlsPerSecond: number
}

export type Send = ClientFrame<'message.send' | 'chat.send'>
type Served = Exclude<
  ClientFrame,
  ClientFrame<'auth' | 'ping' | 'room.leave' | 'room.join' | 'presence.watch' | 'message.send' | 'chat.send'>
>

export type SessionEvent =
  | { kind: 'frame'; text: string; at: number }
  /** A ping or pong of the WebSocket itself. */
  | { kind: 'control'; at: number }
  | { kind: 'verified'; access: Access; at: number }
  /** How the read of account and memberships ended; `ready` has been handed to the socket when it is ok. */
  | { kind: 'read'; result: 'ok' | 'away' | 'unusable'; at: number }
  /** The user's send bucket answered: 0 or the ms to wait. */
  | { kind: 'admitted'; send: Send; text: string; waitMs: number; at: number }
  /** A send was refused for load by the engine, the link or a limit of pending sends. */
  | {
      kind: 'refused'
      conversation: string
      clientMessageId: string
      code: ErrorCode
      retryAfterMs: number
      at: number
    }
  | { kind: 'tick'; at: number; now: number }
  /** Someone else decided: revoked, replaced, draining, silent, too slow. */
  | { kind: 'end'; code: CloseCode }

export type SessionEffect =
  | { kind: 'verify'; token: string }
  | { kind: 'read'; principal: Principal }
  | { kind: 'admit'; send: Send; text: string }
  /** To the engine. `durable`: takes its place in the order of this socket's sends to that conversation. */
  | { kind: 'command'; frame: Send | Served; text: string; durable: boolean }
  | { kind: 'join'; frame: ClientFrame<'room.join'>; text: string }
  | { kind: 'leave'; frame: ClientFrame<'room.leave'> }
  | { kind: 'watch'; frame: ClientFrame<'presence.watch'> }
  | { kind: 'pong'; asked: Asked }
  | { kind: 'error'; failure: Failure; asked: Asked; conversationId?: string }
  | { kind: 'close'; code: CloseCode; reason: string }
  /** For the metric: a frame of this type was read. */
  | { kind: 'count'; type: string }

export interface Step {
  session: Session
  effects: SessionEffect[]
}

export function scaledRules(scale: number): SessionRules {
  return {
    framesPerSecond: Math.max(1, Math.floor(framesPerSecondMax * scale)),
    controlsPerSecond: Math.max(1, Math.floor(controlFramesPerSecondMax * scale)),
  }
}

/** Of sessions that have none: shared, for most sockets of a gateway are idle. Never written; changes make new ones. */
const nothingAsked: Asked = {}
const none: readonly never[] = []
const noRefusals: Session['refusals'] = new Map()

/** A socket that was just opened. `credential`: what the upgrade carried and is being judged. */
export function openSession(rules: SessionRules, at: number, credential?: Credential): Session {
  return {
    phase: credential ? 'connecting' : 'authenticating',
    rules,
    openedAt: at,
    credential,
    principal: undefined,
    asked: nothingAsked,
    held: none,
    heldBytes: 0,
    secondAt: Number.NEGATIVE_INFINITY,
    frames: 0,
    controls: 0,
    floods: none,
    bad: none,
    refusals: noRefusals,
  }
}

export function transition(session: Session, event: SessionEvent): Step {
  if (session.phase === 'closing') return { session, effects: [] }
  switch (event.kind) {
    case 'frame':
      return frame(session, event.text, event.at)
    case 'control': {
      const counted = count(session, event.at, 'controls')
      return counted.isFlooding ? close(counted.session, 4429) : { session: counted.session, effects: [] }
    }
    case 'verified':
      return verified(session, event.access, event.at)
    case 'read':
      return read(session, event.result, event.at)
    case 'admitted':
      return admitted(session, event.send, event.text, event.waitMs, event.at)
    case 'refused':
      return { session: refused(session, event), effects: [] }
    case 'tick':
      return tick(session, event.at, event.now)
    case 'end':
      return close(session, event.code)
    default:
      return event satisfies never
  }
}

function frame(session: Session, text: string, at: number): Step {
  const counted = count(session, at, 'frames')
  const next = counted.session
  if (counted.isOver) {
    const waitMs = Math.max(1, Math.ceil(next.secondAt + 1000 - at))
    const step = overRate(next, text, waitMs, at)
    return counted.isFlooding ? append(step, close(step.session, 4429)) : step
  }
  if (next.phase === 'authenticating') return authenticate(next, text, at)
  if (next.phase === 'connecting' || next.phase === 'reading') return hold(next, text, at)
  return serve(next, text, at)
}

/** Frames that come while a credential is judged or memberships are read wait, in order. */
function hold(session: Session, text: string, at: number): Step {
  if (session.heldBytes + text.length > heldFramesBytesMax) return overRate(session, text, 1000, at)
  return {
    session: { ...session, held: [...session.held, text], heldBytes: session.heldBytes + text.length },
    effects: [],
  }
}

function overRate(session: Session, text: string, waitMs: number, at: number): Step {
  const parsed = parseClientFrame(text)
  const asked = 'frame' in parsed ? askedOf(parsed.frame) : askedIn(text)
  const failure: Failure = { code: 'RLIMIT', message: 'Too many frames a second.', retryAfterMs: waitMs }
  if (!('frame' in parsed)) return { session, effects: [{ kind: 'error', failure, asked }] }
  const f = parsed.frame
  if (f.type !== 'message.send' && f.type !== 'chat.send') {
    return { session, effects: [{ kind: 'error', failure, asked, ...conversationOf(f) }] }
  }
  // It is a send all the same: it keeps a refusal from ending, and does not come before what was refused first.
  const known = session.refusals.get(f.conversationId)
  const first = known && at - known.lastSendAt < refusalQuietMs ? known : undefined
  const retryAfterMs = Math.max(waitMs, refusalQuietMs, first?.retryAfterMs ?? 0)
  const refusal = first ?? { firstId: f.clientMessageId, code: 'RLIMIT', retryAfterMs }
  const refusals = new Map(session.refusals).set(f.conversationId, { ...refusal, lastSendAt: at })
  const effect: SessionEffect = {
    kind: 'error',
    failure: { ...failure, retryAfterMs },
    asked,
    conversationId: f.conversationId,
  }
  return { session: { ...session, refusals }, effects: [effect] }
}

function authenticate(session: Session, text: string, at: number): Step {
  const parsed = parseClientFrame(text)
  if ('frame' in parsed && parsed.frame.type === 'auth') {
    return {
      session: { ...session, phase: 'connecting', credential: 'frame', asked: askedOf(parsed.frame) },
      effects: [
        { kind: 'count', type: 'auth' },
        { kind: 'verify', token: parsed.frame.token },
      ],
    }
  }
  if (!('frame' in parsed) && typeIn(text) === 'auth') {
    if (parsed.field === 'token') return unauthorized(session, 'TOKEN_INVALID', askedIn(text))
    return bad(session, text, parsed.field, at)
  }
  return unauthorized(session, 'TOKEN_MISSING', 'frame' in parsed ? askedOf(parsed.frame) : askedIn(text))
}

function verified(session: Session, access: Access, at: number): Step {
  if (session.phase !== 'connecting') return { session, effects: [] }
  if (access === 'away') return away(session)
  if ('reason' in access) {
    if (session.credential !== 'cookie') return unauthorized(session, access.reason, session.asked)
    // A bad cookie is as good as none: the first frame may still authenticate.
    return drainHeld({ ...session, phase: 'authenticating', credential: undefined }, at)
  }
  return {
    session: { ...session, phase: 'reading', principal: access },
    effects: [{ kind: 'read', principal: access }],
  }
}

function read(session: Session, result: 'ok' | 'away' | 'unusable', at: number): Step {
  if (session.phase !== 'reading') return { session, effects: [] }
  switch (result) {
    case 'ok':
      return drainHeld({ ...session, phase: 'live' }, at)
    case 'away':
      return away(session)
    case 'unusable': {
      const failure: Failure = { code: 'FORBIDDEN', message: 'This account cannot be used here.' }
      return append({ session, effects: [{ kind: 'error', failure, asked: session.asked }] }, close(session, 4403))
    }
    default:
      return result satisfies never
  }
}

function away(session: Session): Step {
  const failure: Failure = { code: 'UNAVAILABLE', message: 'Please try again shortly.', retryAfterMs: 1000 }
  return append({ session, effects: [{ kind: 'error', failure, asked: session.asked }] }, close(session, 1013))
}

function drainHeld(session: Session, at: number): Step {
  const held = session.held
  let step: Step = { session: { ...session, held: none, heldBytes: 0 }, effects: [] }
  for (const text of held) {
    if (step.session.phase === 'closing') break
    const phase = step.session.phase
    const next =
      phase === 'live'
        ? serve(step.session, text, at)
        : phase === 'authenticating'
          ? authenticate(step.session, text, at)
          : hold(step.session, text, at)
    step = append(step, next)
  }
  return step
}

function serve(session: Session, text: string, at: number): Step {
  const parsed = parseClientFrame(text)
  if (!('frame' in parsed)) return bad(session, text, parsed.field, at)
  const f = parsed.frame
  const counted: SessionEffect = { kind: 'count', type: f.type }
  switch (f.type) {
    case 'auth':
      return {
        session,
        effects: [
          counted,
          {
            kind: 'error',
            failure: { code: 'VALIDATION', field: 'type', message: 'This socket is authenticated.' },
            asked: askedOf(f),
          },
        ],
      }
    case 'ping':
      return { session, effects: [counted, { kind: 'pong', asked: askedOf(f) }] }
    case 'room.leave':
      return { session, effects: [counted, { kind: 'leave', frame: f }] }
    case 'room.join':
      return { session, effects: [counted, { kind: 'join', frame: f, text }] }
    case 'presence.watch':
      return { session, effects: [counted, { kind: 'watch', frame: f }] }
    case 'message.send':
    case 'chat.send':
      return append({ session, effects: [counted] }, send(session, f, text, at))
    case 'typing.start':
    case 'typing.stop':
    case 'receipt.read':
      return { session, effects: [counted, { kind: 'command', frame: f, text, durable: false }] }
    case 'message.edit':
    case 'message.delete':
    case 'reaction.add':
    case 'reaction.remove':
    case 'chat.stop':
    case 'tool.decide':
    case 'message.status':
      return { session, effects: [counted, { kind: 'command', frame: f, text, durable: true }] }
    default:
      return f satisfies never
  }
}

/** R2: behind a send that was refused for load, later ones are refused too, so that trying again in order keeps the order. */
function send(session: Session, f: Send, text: string, at: number): Step {
  const refusal = session.refusals.get(f.conversationId)
  if (!refusal) return { session, effects: [{ kind: 'admit', send: f, text }] }
  const isOver = refusal.firstId === f.clientMessageId || at - refusal.lastSendAt >= refusalQuietMs
  const refusals = new Map(session.refusals)
  if (isOver) {
    refusals.delete(f.conversationId)
    return { session: { ...session, refusals }, effects: [{ kind: 'admit', send: f, text }] }
  }
  refusals.set(f.conversationId, { ...refusal, lastSendAt: at })
  return {
    session: { ...session, refusals },
    effects: [
      {
        kind: 'error',
        failure: {
          code: refusal.code,
          message: 'An earlier message of this conversation was refused; send that one again first.',
          // Whoever goes on with another message instead is served after that, too.
          retryAfterMs: Math.max(refusal.retryAfterMs, refusalQuietMs),
        },
        asked: askedOf(f),
        conversationId: f.conversationId,
      },
    ],
  }
}

function admitted(session: Session, f: Send, text: string, waitMs: number, at: number): Step {
  if (session.phase !== 'live') return { session, effects: [] }
  if (waitMs <= 0) return { session, effects: [{ kind: 'command', frame: f, text, durable: true }] }
  const retryAfterMs = Math.max(Math.ceil(waitMs), refusalQuietMs)
  const failure: Failure = { code: 'RLIMIT', message: 'Too many messages.', retryAfterMs }
  return {
    session: refused(session, { ...refusalOf(f, 'RLIMIT', retryAfterMs), at }),
    effects: [{ kind: 'error', failure, asked: askedOf(f), conversationId: f.conversationId }],
  }
}

function refusalOf(f: Send, code: ErrorCode, retryAfterMs: number) {
  return { conversation: f.conversationId, clientMessageId: f.clientMessageId, code, retryAfterMs }
}

interface RefusedSend {
  conversation: string
  clientMessageId: string
  code: ErrorCode
  retryAfterMs: number
  at: number
}

function refused(session: Session, r: RefusedSend): Session {
  if (session.refusals.has(r.conversation)) return session
  const refusals = new Map(session.refusals)
  // Those that a second of quiet has ended are only in the way; the map stays as small as what is refused now.
  for (const [conversation, old] of refusals) {
    if (r.at - old.lastSendAt >= refusalQuietMs) refusals.delete(conversation)
  }
  refusals.set(r.conversation, {
    firstId: r.clientMessageId,
    code: r.code,
    retryAfterMs: r.retryAfterMs,
    lastSendAt: r.at,
  })
  return { ...session, refusals }
}

function bad(session: Session, text: string, field: string | undefined, at: number): Step {
  const times = [...session.bad.filter(t => at - t < badFramesWindowMs), at]
  const conversation = parseId(objectIn(text)?.['conversationId'])
  const step: Step = {
    session: { ...session, bad: times },
    effects: [
      { kind: 'count', type: 'bad' },
      {
        kind: 'error',
        failure: {
          code: 'VALIDATION',
          message: field === undefined ? 'This is no JSON object.' : 'A field is not valid.',
          ...(field === undefined ? {} : { field }),
        },
        asked: askedIn(text),
        ...(conversation === undefined ? {} : { conversationId: conversation }),
      },
    ],
  }
  return times.length >= badFramesMax ? append(step, close(step.session, 4400)) : step
}

/** Whether a tick would change anything: asked of every socket several times a second, it makes nothing. */
export function isTickDue(session: Session, at: number, now: number): boolean {
  return isLate(session, at) || (session.principal !== undefined && now >= session.principal.sessionExpiresAt)
}

function isLate({ phase, openedAt }: Session, at: number): boolean {
  return (phase === 'authenticating' || phase === 'connecting') && at - openedAt >= authTimeoutMs
}

function tick(session: Session, at: number, now: number): Step {
  if (!isTickDue(session, at, now)) return { session, effects: [] }
  return isLate(session, at) ? unauthorized(session, 'AUTH_TIMEOUT', {}) : close(session, 4411)
}

function unauthorized(session: Session, reason: AuthReason, asked: Asked): Step {
  const failure: Failure = { code: 'UNAUTHORIZED', reason, message: 'Please authenticate.' }
  return append({ session, effects: [{ kind: 'error', failure, asked }] }, close(session, 4401, reason))
}

function close(session: Session, code: CloseCode, reason: string = closeCodes[code].reason): Step {
  return {
    session: { ...session, phase: 'closing', held: none, heldBytes: 0, refusals: noRefusals },
    effects: [{ kind: 'close', code, reason }],
  }
}

function append(first: Step, then: Step): Step {
  return { session: then.session, effects: [...first.effects, ...then.effects] }
}

/** Counts in seconds that begin with their first frame. A second over the limit counts once, whatever went over. */
function count(session: Session, at: number, what: 'frames' | 'controls') {
  const isNew = at - session.secondAt >= 1000
  let next: Session = isNew ? { ...session, secondAt: at, frames: 0, controls: 0 } : session
  next = { ...next, [what]: next[what] + 1 }
  const limit = what === 'frames' ? next.rules.framesPerSecond : next.rules.controlsPerSecond
  const isOver = next[what] > limit
  if (!isOver || next.floods.at(-1) === next.secondAt) return { session: next, isOver, isFlooding: false }
  const floods = [...next.floods.filter(t => at - t < floodWindowMs), next.secondAt]
  return { session: { ...next, floods }, isOver, isFlooding: floods.length >= floodSecondsMax }
}

function conversationOf(f: ClientFrame): { conversationId?: string } {
  return 'conversationId' in f ? { conversationId: f.conversationId } : {}
}
