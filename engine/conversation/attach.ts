/**
 * Joining: from where a client can be caught up, and what it is told at the end. Rules J1–J5 of SPEC.md.
 * Refuses to read: the shell confirms the head and fetches what is replayed.
 */
import { replayEventsMax } from '#protos/limits.ts'
import type { Draft } from './effects.ts'
import { runningOf, type State } from './state.ts'

export type Catchup =
  /** Events after `after` up to the head, then room.joined. */
  { kind: 'replay'; after: number } | { kind: 'joined' } | { kind: 'resync'; reason: 'too_far' | 'ahead' | 'gone' }

export function catchup(state: State, afterSeq: number | undefined): Catchup {
  if (afterSeq === undefined) return { kind: 'joined' }
  if (afterSeq > state.head) return { kind: 'resync', reason: 'ahead' }
  if (afterSeq < state.firstSeq - 1) return { kind: 'resync', reason: 'gone' }
  if (state.head - afterSeq > replayEventsMax) return { kind: 'resync', reason: 'too_far' }
  return afterSeq === state.head ? { kind: 'joined' } : { kind: 'replay', after: afterSeq }
}

export function joinedFrame(state: State): Draft<'room.joined'> {
  const run = runningOf(state)
  return {
    type: 'room.joined',
    conversationId: state.id,
    headSeq: state.head,
    firstSeq: state.firstSeq,
    ...(run ? { stream: { messageId: run.answerId, offset: 0, content: run.text } } : {}),
  }
}

export function resyncFrame(state: State, reason: 'too_far' | 'ahead' | 'gone'): Draft<'resync_required'> {
  const { id, firstSeq, head } = state
  return { type: 'resync_required', conversationId: id, reason, firstSeq, headSeq: head }
}
