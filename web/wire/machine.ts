/**
 * The connection as a pure machine: when to open, authenticate, rejoin, resend and give up, and in which order frames leave.
 * It owns the queue of unanswered sends and the highest seq of each conversation; it touches no socket, clock or store.
 * Rules W1–W15 are named by the tests beside it.
 */
import type { ClientFrame, DurableFrame, FleetingFrame, ServerFrame } from '#protos/catalogue.ts'
import { type AfterClose, afterClose } from '#protos/errors.ts'
import { acked, again, answerMsMax, holdDefaultMs, laneDueAt, pump, queueUp, refused, unsent } from './lanes.ts'
import { type Lane, type Moment, newWire, type Turned, type Wire, type WireEffect, type WireEvent } from './wire.ts'

/** First pause before a reconnect is up to this, doubled each time, with full jitter. */
export const backoffFirstMs = 500
export const backoffMaxMs = 30_000
/** A socket that has not opened, or not been answered `ready`, by then is given up. */
export const openingMsMax = 10_000
/** Quiet after which the client asks for a `pong`; the browser hides the server's own pings. */
export const quietMs = 20_000
export const pongMsMax = 10_000

export function transition(wire: Wire, event: WireEvent, at: Moment): Turned {
  switch (event.type) {
    case 'start':
      return begin({ ...wire, ...(event.token ? { token: event.token } : {}), attempt: 0, lostAt: at.now }, at)
    case 'stop':
      return { wire: { ...newWire, phase: 'off', phaseAt: at.now }, effects: [{ type: 'close' }] }
    case 'opened':
      return wire.phase === 'connecting'
        ? { wire: { ...wire, phase: 'authenticating', phaseAt: at.now, heardAt: at.now }, effects: [] }
        : { wire, effects: [] }
    case 'received':
      return receive({ ...clear(wire, 'pingedAt'), heardAt: at.now }, event.frame, at)
    case 'closed':
      return lose(wire, afterClose(event.code), event.code, at)
    case 'refreshed':
      return wire.phase === 'refreshing'
        ? begin({ ...wire, token: event.token }, at)
        : { wire: { ...wire, token: event.token }, effects: [] }
    case 'refresh_failed':
      if (wire.phase !== 'refreshing') return { wire, effects: [] }
      return event.isFinal
        ? { wire: { ...wire, phase: 'stopped', phaseAt: at.now }, effects: [{ type: 'ended', code: 4401 }] }
        : { wire: backOff(clear(wire, 'token'), at), effects: [] }
    case 'online':
    case 'retry':
      return wire.phase === 'waiting' || (wire.phase === 'stopped' && event.type === 'retry')
        ? begin({ ...wire, isOffline: false }, at)
        : { wire: { ...wire, isOffline: false }, effects: [] }
    case 'offline':
      return goOffline(wire, at)
    case 'woke':
      return wake(wire, at)
    case 'send':
      return pump(queueUp(wire, event.letter), event.letter.conversationId, at)
    case 'join':
      return join(wire, event.conversationId, event.head, at)
    case 'leave': {
      if (!wire.joined.has(event.conversationId)) return { wire, effects: [] }
      const joined = new Map(wire.joined)
      joined.delete(event.conversationId)
      const effects: WireEffect[] =
        wire.phase === 'ready'
          ? [{ type: 'write', frame: { type: 'room.leave', conversationId: event.conversationId } }]
          : []
      return { wire: { ...wire, joined }, effects }
    }
    case 'watch':
      return {
        wire: { ...wire, watched: event.userIds },
        effects: wire.phase === 'ready' ? [watchWrite(event.userIds)] : [],
      }
    case 'say':
      return { wire, effects: wire.phase === 'ready' ? [{ type: 'write', frame: event.frame }] : [] }
    default:
      event satisfies never
      return { wire, effects: [] }
  }
}

/** When `woke` is due next, or undefined if nothing waits for time. */
export function dueAt(wire: Wire): number | undefined {
  const times: number[] = []
  if (wire.phase === 'waiting' && wire.retryAt !== undefined) times.push(wire.retryAt)
  if (wire.phase === 'connecting' || wire.phase === 'authenticating') times.push(wire.phaseAt + openingMsMax)
  if (wire.phase === 'ready') {
    times.push(wire.pingedAt === undefined ? wire.heardAt + quietMs : wire.pingedAt + pongMsMax)
    if (wire.leaveAt !== undefined) times.push(wire.leaveAt)
    for (const room of wire.joined.values()) {
      if (room.againAt !== undefined) times.push(room.againAt)
      else if (room.askedAt !== undefined) times.push(room.askedAt + answerMsMax)
    }
    for (const lane of wire.lanes.values()) {
      const due = laneDueAt(lane)
      if (due !== undefined) times.push(due)
    }
  }
  return times.length > 0 ? Math.min(...times) : undefined
}

// --- the socket's life ---------------------------------------------------------------------------------------------

function begin(wire: Wire, at: Moment): Turned {
  const next = { ...clear(wire, 'retryAt'), phaseAt: at.now, lostAt: wire.lostAt ?? at.now }
  return wire.token
    ? { wire: { ...next, phase: 'connecting' }, effects: [{ type: 'open', token: wire.token }] }
    : { wire: { ...next, phase: 'refreshing' }, effects: [{ type: 'refresh' }] }
}

function lose(wire: Wire, after: AfterClose, code: number, at: Moment): Turned {
  if (wire.phase === 'off' || wire.phase === 'stopped' || wire.phase === 'waiting') return { wire, effects: [] }
  const lost = forgetSocket(wire, at)
  switch (after) {
    case 'stop':
      return { wire: { ...lost, phase: 'stopped', phaseAt: at.now }, effects: [{ type: 'ended', code }] }
    case 'refresh':
      return { wire: { ...lost, phase: 'refreshing', phaseAt: at.now }, effects: [{ type: 'refresh' }] }
    case 'reconnect':
      return { wire: backOff(lost, at), effects: [] }
    default:
      after satisfies never
      return { wire, effects: [] }
  }
}

function backOff(wire: Wire, at: Moment): Wire {
  const pause = at.random * Math.min(backoffMaxMs, backoffFirstMs * 2 ** wire.attempt)
  const waiting: Wire = { ...clear(wire, 'retryAt'), phase: 'waiting', phaseAt: at.now, attempt: wire.attempt + 1 }
  return wire.isOffline ? waiting : { ...waiting, retryAt: at.now + pause }
}

function goOffline(wire: Wire, at: Moment): Turned {
  const offline = { ...wire, isOffline: true }
  if (wire.phase === 'off' || wire.phase === 'stopped') return { wire: offline, effects: [] }
  return { wire: backOff(forgetSocket(offline, at), at), effects: [{ type: 'close' }] }
}

function giveUp(wire: Wire, at: Moment): Turned {
  return { wire: backOff(forgetSocket(wire, at), at), effects: [{ type: 'close' }] }
}

/** What was sent on a lost socket has an unknown outcome: it goes again, in order, with the same ids. */
function forgetSocket(wire: Wire, at: Moment): Wire {
  const lanes = new Map<string, Lane>()
  for (const [id, lane] of wire.lanes) {
    lanes.set(id, { ...lane, queue: lane.queue.map(unsent) })
  }
  const joined = new Map([...wire.joined.keys()].map(id => [id, {}]))
  return { ...clear(clear(wire, 'pingedAt'), 'leaveAt'), lanes, joined, lostAt: wire.lostAt ?? at.now }
}

function wake(wire: Wire, at: Moment): Turned {
  switch (wire.phase) {
    case 'waiting':
      return wire.retryAt !== undefined && wire.retryAt <= at.now ? begin(wire, at) : { wire, effects: [] }
    case 'connecting':
    case 'authenticating':
      return wire.phaseAt + openingMsMax <= at.now ? giveUp(wire, at) : { wire, effects: [] }
    case 'ready':
      return wakeReady(wire, at)
    case 'off':
    case 'refreshing':
    case 'stopped':
      return { wire, effects: [] }
    default:
      wire.phase satisfies never
      return { wire, effects: [] }
  }
}

function wakeReady(wire: Wire, at: Moment): Turned {
  if (wire.leaveAt !== undefined && wire.leaveAt <= at.now) {
    const lost = forgetSocket({ ...wire, attempt: 0 }, at)
    return { wire: { ...lost, phase: 'waiting', phaseAt: at.now, retryAt: at.now }, effects: [{ type: 'close' }] }
  }
  if (wire.pingedAt !== undefined && wire.pingedAt + pongMsMax <= at.now) return giveUp(wire, at)
  let next = wire
  const effects: WireEffect[] = []
  if (wire.pingedAt === undefined && wire.heardAt + quietMs <= at.now) {
    next = { ...next, pingedAt: at.now }
    effects.push({ type: 'write', frame: { type: 'ping' } })
  }
  for (const [id, room] of wire.joined) {
    const due = room.againAt ?? (room.askedAt === undefined ? undefined : room.askedAt + answerMsMax)
    if (due !== undefined && due <= at.now) {
      const asked = ask(next, id, at)
      next = asked.wire
      effects.push(...asked.effects)
    }
  }
  for (const id of wire.lanes.keys()) {
    const pumped = pump(again(next, id, at), id, at)
    next = pumped.wire
    effects.push(...pumped.effects)
  }
  return { wire: next, effects }
}

// --- frames in ---------------------------------------------------------------------------------------------------------

function receive(wire: Wire, frame: ServerFrame, at: Moment): Turned {
  switch (frame.type) {
    case 'ready':
      return becomeReady(wire, frame, at)
    case 'ack':
      return acked(wire, frame, at)
    case 'error':
      return failed(wire, frame, at)
    case 'room.joined': {
      const joined = wire.joined.has(frame.conversationId)
        ? new Map(wire.joined).set(frame.conversationId, {})
        : wire.joined
      return { wire: { ...wire, joined }, effects: [{ type: 'deliver', frame }] }
    }
    case 'resync_required': {
      const joined = new Map(wire.joined)
      joined.delete(frame.conversationId)
      return { wire: { ...wire, joined }, effects: [{ type: 'deliver', frame }] }
    }
    case 'conversation.added': {
      const heads = new Map(wire.heads).set(frame.conversationId, frame.conversation.headSeq)
      return { wire: { ...wire, heads }, effects: [{ type: 'deliver', frame }] }
    }
    case 'conversation.removed': {
      const heads = new Map(wire.heads)
      const joined = new Map(wire.joined)
      heads.delete(frame.conversationId)
      joined.delete(frame.conversationId)
      return { wire: { ...wire, heads, joined }, effects: [{ type: 'deliver', frame }] }
    }
    case 'server.draining':
      return { wire: { ...wire, leaveAt: at.now + frame.reconnectInMs }, effects: [] }
    case 'pong':
      return { wire, effects: [] }
    case 'chat.queued':
    case 'chat.stream':
    case 'chat.done':
    case 'typing':
    case 'receipt.updated':
    case 'presence':
      return { wire, effects: [{ type: 'deliver', frame }] }
    default:
      return durable(wire, frame, at)
  }
}

function becomeReady(wire: Wire, frame: FleetingFrame<'ready'>, at: Moment): Turned {
  const heads = new Map<string, number>()
  for (const c of [...frame.conversations, ...frame.others]) heads.set(c.id, c.headSeq)
  // A joined room goes on from what was folded: its join brings what came meanwhile.
  for (const id of wire.joined.keys()) heads.set(id, wire.heads.get(id) ?? heads.get(id) ?? 0)
  let next: Wire = { ...clear(wire, 'lostAt'), phase: 'ready', phaseAt: at.now, attempt: 0, heads }
  const effects: WireEffect[] = [{ type: 'deliver', frame }]
  for (const id of wire.joined.keys()) {
    const asked = ask(next, id, at)
    next = asked.wire
    effects.push(...asked.effects)
  }
  if (wire.watched.length > 0) effects.push(watchWrite(wire.watched))
  for (const id of wire.lanes.keys()) {
    const pumped = pump(next, id, at)
    next = pumped.wire
    effects.push(...pumped.effects)
  }
  return { wire: next, effects }
}

/** Dense or not delivered: known events are dropped, a hole in a joined room is closed by another join. */
function durable(wire: Wire, frame: DurableFrame, at: Moment): Turned {
  const head = wire.heads.get(frame.conversationId)
  if (head !== undefined && frame.seq <= head) return { wire, effects: [] }
  const room = wire.joined.get(frame.conversationId)
  if (room && head !== undefined && frame.seq > head + 1) {
    return room.askedAt === undefined ? ask(wire, frame.conversationId, at) : { wire, effects: [] }
  }
  const heads = new Map(wire.heads).set(frame.conversationId, frame.seq)
  return { wire: { ...wire, heads }, effects: [{ type: 'deliver', frame }] }
}

// --- rooms -----------------------------------------------------------------------------------------------------------------

function join(wire: Wire, id: string, head: number, at: Moment): Turned {
  const next: Wire = {
    ...wire,
    heads: new Map(wire.heads).set(id, head),
    joined: new Map(wire.joined).set(id, {}),
  }
  return wire.phase === 'ready' ? ask(next, id, at) : { wire: next, effects: [] }
}

function ask(wire: Wire, id: string, at: Moment): Turned {
  const joined = new Map(wire.joined).set(id, { askedAt: at.now })
  const frame: ClientFrame<'room.join'> = {
    type: 'room.join',
    conversationId: id,
    afterSeq: wire.heads.get(id) ?? 0,
    requestId: joinRequest(id),
  }
  return { wire: { ...wire, joined }, effects: [{ type: 'write', frame }] }
}

const joinRequest = (id: string) => `join:${id}`

const watchWrite = (userIds: readonly string[]): WireEffect => ({
  type: 'write',
  frame: { type: 'presence.watch', userIds: [...userIds] },
})

function failed(wire: Wire, error: FleetingFrame<'error'>, at: Moment): Turned {
  const ofSend = refused(wire, error, at)
  if (ofSend) return ofSend
  for (const [id, room] of wire.joined) {
    if (error.requestId !== joinRequest(id) || room.askedAt === undefined) continue
    const joined = new Map(wire.joined)
    if (error.retryable) joined.set(id, { againAt: at.now + (error.retryAfterMs ?? holdDefaultMs) })
    else joined.delete(id)
    const effects: WireEffect[] = error.retryable
      ? []
      : [{ type: 'deliver', frame: { ...error, conversationId: error.conversationId ?? id } }]
    return { wire: { ...wire, joined }, effects }
  }
  return { wire, effects: [{ type: 'deliver', frame: error }] }
}

function clear<K extends 'retryAt' | 'pingedAt' | 'leaveAt' | 'lostAt' | 'token'>(wire: Wire, key: K): Omit<Wire, K> {
  const { [key]: _, ...rest } = wire
  return rest
}
