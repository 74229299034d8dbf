/**
 * What is true of every state and every log, whatever happened. Tests check it after each step; a broken one throws with
 * the rule's id. Refuses to repair.
 */
import { assistantId } from '#protos/ids.ts'
import { turnsQueuedMax } from '#protos/limits.ts'
import type { EventRow, SegmentRow } from './effects.ts'
import type { State } from './state.ts'

export class BrokenInvariant extends Error {
  override name = 'BrokenInvariant'
  readonly rule: string

  constructor(rule: string, message: string) {
    super(`${rule}: ${message}`)
    this.rule = rule
  }
}

function must(isTrue: boolean, rule: string, message: string): void {
  if (!isTrue) throw new BrokenInvariant(rule, message)
}

export function checkState(state: State, utf8Bytes: (text: string) => number): void {
  must(state.head >= state.firstSeq - 1, 'N1', `head ${state.head} below the first seq ${state.firstSeq}`)
  must(state.exists || (state.head === 0 && state.members.size === 0), 'C1', 'events without a conversation')
  must(state.runs.length <= 1 + turnsQueuedMax, 'T4', `${state.runs.length} turns`)
  must(state.runs.filter(r => r.status !== 'queued').length <= 1, 'T4', 'two turns run')
  must(
    state.runs.every((r, i) => i === 0 || r.status === 'queued'),
    'T4',
    'the running turn is not first',
  )
  must(new Set(state.runs.map(r => r.id)).size === state.runs.length, 'T1', 'a turn is there twice')
  for (const run of state.runs) {
    must(run.bytes === utf8Bytes(run.text), 'T6', `run ${run.id}: ${run.bytes} bytes counted`)
    must(
      run.status !== 'queued' || run.bytes === 0 || Boolean(run.startedAt),
      'T6',
      `run ${run.id} has text before it started`,
    )
    must(run.text.isWellFormed(), 'T6', `run ${run.id} ends in half a character`)
    must(run.questionSeq <= state.head, 'T1', `run ${run.id} has no question`)
  }
  must(!state.isDeleted || state.runs.length === 0, 'C7', 'a turn outlives its conversation')
  if (state.exists && state.kind === 'dm') must(state.members.size === 2, 'C3', `${state.members.size} in a dm`)
  if (state.exists && state.kind !== 'dm') {
    must(
      [...state.members.values()].some(m => m.role === 'owner'),
      'M6',
      'nobody owns it',
    )
  }
  must(!state.members.has(assistantId), 'M4', 'the assistant is a member')
  for (const [userId, p] of state.positions) {
    must(p.read <= state.head && p.delivered <= state.head, 'P1', `${userId} is beyond the head`)
    must(p.read <= p.delivered, 'P2', `${userId} read what was not delivered`)
  }
}

/** A whole log: dense, one id once, one ending per run, segments that make up their answers. */
export function checkLog(
  rows: readonly EventRow[],
  segments: readonly SegmentRow[],
  utf8Bytes: (text: string) => number,
): void {
  rows.forEach((row, i) => {
    must(row.seq === i + 1, 'N1', `seq ${row.seq} at place ${i + 1}`)
  })
  const ids = rows.map(r => `${r.senderId} ${r.clientId}`)
  must(new Set(ids).size === ids.length, 'D1', 'one client id is stored twice')
  const texts = new Map<string, string>()
  for (const s of segments) {
    const text = texts.get(s.runId) ?? ''
    must(utf8Bytes(text) === s.offset, 'T6', `segment of ${s.runId} at ${s.offset}, text ends at ${utf8Bytes(text)}`)
    texts.set(s.runId, text + s.text)
  }
  const answers = rows.filter(r => r.kind === 'message.new' && r.senderId === assistantId)
  must(new Set(answers.map(r => r.messageId)).size === answers.length, 'T9', 'a turn ended twice')
  const contents = new Set(answers.map(r => (JSON.parse(r.body) as { content: string }).content))
  if (answers.length > 0 && texts.size > 0) {
    const open = [...texts.values()].filter(t => !contents.has(t))
    must(open.length <= 1, 'T9', `${open.length} streamed texts are no answer`)
  }
}
