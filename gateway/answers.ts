/**
 * How far a seat has got with the text of answers in progress, and the frames about them that are made here because their
 * link lost them. Refuses to read the log and to write to a socket; that is rooms.ts.
 */
import { createHash } from 'node:crypto'
import { type Framed, frameText } from './framing.ts'
import type { PendingDone, Seat } from './peer.ts'
import type { LogFrame } from './reads.ts'

/** Answers whose text is remembered behind the one in progress. */
export const answersKeptMax = 16

/** The byte up to which this seat has the text of an answer. */
export function streamedTo(seat: Seat, answerId: string): number {
  return seat.streamId === answerId ? seat.streamEnd : (seat.streamsPast.get(answerId) ?? 0)
}

/** Another answer may begin before the chat.done of the last has come: what was pushed of it is still known then. */
export function streamed(seat: Seat, answerId: string, end: number): void {
  if (seat.streamId !== answerId) {
    if (seat.streamId !== '') {
      seat.streamsPast.set(seat.streamId, seat.streamEnd)
      if (seat.streamsPast.size > answersKeptMax) seat.streamsPast.delete(seat.streamsPast.keys().next().value!)
    }
    seat.streamsPast.delete(answerId)
    seat.streamId = answerId
  }
  seat.streamEnd = end
}

/** Whoever joined after the answer's end has read its text as an event. */
export function isTextComplete(seat: Seat, done: PendingDone): boolean {
  if (seat.streamId === done.answerId || seat.streamsPast.has(done.answerId)) {
    return streamedTo(seat, done.answerId) >= done.bytes
  }
  return done.bytes === 0 || seat.joinedHead >= done.seq
}

/** The answer whose text this seat still lacks, the ended ones first. */
export function openStream(seat: Seat): string | undefined {
  if (!seat.isJoined) return undefined
  const done = seat.dones[0]
  if (done && seat.last >= done.seq && !isTextComplete(seat, done)) return done.answerId
  const { streamId, streamEnd } = seat.room
  if (streamId === '' || done?.answerId === streamId) return undefined
  const at = streamedTo(seat, streamId)
  return at < streamEnd ? streamId : undefined
}

export function wantedBytes(seat: Seat, answerId: string): number {
  const done = seat.dones[0]
  if (done?.answerId === answerId) return done.bytes
  return seat.room.streamId === answerId ? seat.room.streamEnd : 0
}

/** `now`: wall ms. */
export function deltaFrame(
  conversationId: string,
  messageId: string,
  offset: number,
  content: string,
  now: number,
): Framed {
  const ts = new Date(now).toISOString()
  return frameText(JSON.stringify({ type: 'chat.stream', conversationId, messageId, offset, content, ts }))
}

/** The chat.done that was lost with its link. `now`: wall ms. */
export function doneFrom(conversationId: string, answer: LogFrame, now: number): PendingDone {
  const { messageId, finish, tokens, content, traceId } = JSON.parse(answer.json)
  const bytes = Buffer.byteLength(content)
  const sha256 = createHash('sha256').update(content).digest('hex')
  const frame = {
    type: 'chat.done',
    ts: new Date(now).toISOString(),
    conversationId,
    messageId,
    seq: answer.seq,
    finish,
    tokens: tokens ?? { input: 0, output: 0, total: 0 },
    bytes,
    sha256,
    ...(traceId === undefined ? {} : { traceId }),
  }
  return { frame: frameText(JSON.stringify(frame)), seq: answer.seq, answerId: messageId, bytes }
}
