/**
 * The unanswered sends, a lane for each conversation: what may leave now, what a refusal means, when to send again.
 * Pure; the socket's life is machine.ts's.
 */
import type { FleetingFrame } from '#protos/catalogue.ts'
import { refusalQuietMs } from '#protos/limits.ts'
import type { Lane, Moment, Outgoing, Queued, Turned, Wire, WireEffect } from './wire.ts'

/** A send without any answer is sent again with the same id: above the 12 s within which a server must know. */
export const answerMsMax = 15_000
/** Unanswered sends per conversation on the wire: far below the server's 256, and a reconnect resends little. */
export const inFlightMax = 32
/** A send that the server fails to serve this often is shown as failed. */
export const serverFailuresMax = 5
/** A refusal that names no time is waited out this long. */
export const holdDefaultMs = 1000

const emptyLane: Lane = { queue: [], holdUntil: 0, single: false }

export function queueUp(wire: Wire, letter: Outgoing): Wire {
  const lane = wire.lanes.get(letter.conversationId) ?? emptyLane
  if (lane.queue.some(q => q.letter.clientMessageId === letter.clientMessageId)) return wire
  return setLane(wire, letter.conversationId, { ...lane, queue: [...lane.queue, { letter, failures: 0, refusals: 0 }] })
}

/** Sends of a conversation that got no answer at all are unknown, so they count as not sent. */
export function again(wire: Wire, id: string, at: Moment): Wire {
  const lane = wire.lanes.get(id)
  if (!lane?.queue.some(q => q.sentAt !== undefined && q.sentAt + answerMsMax <= at.now)) return wire
  return setLane(wire, id, { ...lane, queue: lane.queue.map(unsent) })
}

/** Writes what may leave now, in order. */
export function pump(wire: Wire, id: string, at: Moment): Turned {
  const lane = wire.lanes.get(id)
  if (wire.phase !== 'ready' || !lane || lane.holdUntil > at.now) return { wire, effects: [] }
  let room = (lane.single ? 1 : inFlightMax) - lane.queue.filter(q => q.sentAt !== undefined).length
  const effects: WireEffect[] = []
  const queue = lane.queue.map(q => {
    if (q.sentAt !== undefined || room <= 0) return q
    room--
    effects.push({ type: 'write', frame: { ...q.letter, requestId: q.letter.clientMessageId } })
    return { ...q, sentAt: at.now }
  })
  return effects.length > 0 ? { wire: setLane(wire, id, { ...lane, queue }), effects } : { wire, effects }
}

export function acked(wire: Wire, ack: FleetingFrame<'ack'>, at: Moment): Turned {
  const found = find(wire, ack.clientMessageId)
  if (!found) return { wire, effects: [] }
  const pumped = pump(without(wire, found.letter), found.letter.conversationId, at)
  return { wire: pumped.wire, effects: [{ type: 'stored', letter: found.letter, ack }, ...pumped.effects] }
}

/** An error that answers a send; undefined if it answers none. */
export function refused(wire: Wire, error: FleetingFrame<'error'>, at: Moment): Turned | undefined {
  const found = find(wire, error.requestId)
  if (!found) return undefined
  const { letter } = found
  const id = letter.conversationId
  const failures = found.failures + (error.code === 'SERVER' ? 1 : 0)
  // BUSY means five questions wait already: a person decides whether to ask again.
  if (!error.retryable || error.code === 'BUSY' || error.code === 'UPSTREAM' || failures >= serverFailuresMax) {
    const pumped = pump(without(wire, letter), id, at)
    return { wire: pumped.wire, effects: [{ type: 'refused', letter, error }, ...pumped.effects] }
  }
  const lane = wire.lanes.get(id)!
  // Refused twice: perhaps the server waits for another id first. Its patience ends after this much quiet.
  const leastMs = found.refusals > 0 ? refusalQuietMs + 100 : 0
  const holdUntil = Math.max(lane.holdUntil, at.now + Math.max(leastMs, error.retryAfterMs ?? holdDefaultMs))
  const queue = lane.queue.map(q => (q === found ? { letter, failures, refusals: q.refusals + 1 } : q))
  return {
    wire: setLane(wire, id, { queue, holdUntil, single: true }),
    effects: error.code === 'RLIMIT' ? [{ type: 'held', conversationId: id, until: holdUntil }] : [],
  }
}

/** A send as it was before it left. */
export const unsent = ({ letter, failures, refusals }: Queued): Queued => ({ letter, failures, refusals })

function find(wire: Wire, clientMessageId: string | undefined): Queued | undefined {
  if (clientMessageId === undefined) return undefined
  for (const lane of wire.lanes.values()) {
    const found = lane.queue.find(q => q.letter.clientMessageId === clientMessageId)
    if (found) return found
  }
  return undefined
}

function without(wire: Wire, letter: Outgoing): Wire {
  const lane = wire.lanes.get(letter.conversationId)!
  const queue = lane.queue.filter(q => q.letter.clientMessageId !== letter.clientMessageId)
  return setLane(wire, letter.conversationId, { ...lane, queue, single: lane.single && queue.length > 0 })
}

function setLane(wire: Wire, id: string, lane: Lane): Wire {
  const lanes = new Map(wire.lanes)
  if (lane.queue.length === 0) lanes.delete(id)
  else lanes.set(id, lane)
  return { ...wire, lanes }
}

/** When a lane wants to be looked at again. */
export function laneDueAt(lane: Lane): number | undefined {
  const oldest = lane.queue.find(q => q.sentAt !== undefined)
  if (oldest) return oldest.sentAt! + answerMsMax
  return lane.queue.length > 0 ? lane.holdUntil : undefined
}
