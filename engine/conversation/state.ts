/**
 * What a conversation is between two events. The first part is the log's and is drafted, then committed or thrown away;
 * the second is fleeting (positions, typing) and never waits for a commit. Values are shared, never changed in place.
 */
import type { ConversationKind, MemberRole, ToolPolicy } from '#protos/catalogue.ts'
import type { Requester, RunRow, ToolCallRow, ToolStatus } from './effects.ts'
import { noRecent, type Recent } from './recent.ts'

export interface Member {
  readonly role: MemberRole
  readonly joinedSeq: number
  /** Seq of the event that gave the role, where this activation saw it. */
  readonly roleSeq?: number
}

export interface ToolCall extends Readonly<ToolCallRow> {
  readonly decision: 'approve' | 'reject' | null
  readonly status: 'pending' | ToolStatus
  /** JSON; null while pending. */
  readonly result: string | null
}

export interface Run extends Readonly<RunRow> {
  /** The answer so far: what is stored, or will be with this draft. */
  readonly text: string
  /** UTF-8 bytes of `text`. */
  readonly bytes: number
  /** The requester was told a place in the queue. */
  readonly isTold: boolean
  /** In order of round and place. */
  readonly calls: readonly ToolCall[]
}

export interface EndedRun {
  readonly questionId: string
  readonly answerId: string
  readonly seq: number
}

export interface Position {
  readonly read: number
  readonly delivered: number
  /** Monotonic ms of the last receipt.updated about this user. */
  readonly sentAt: number
  /** A move of `delivered` was not told yet. */
  readonly isOwed: boolean
  /** Not flushed yet. */
  readonly isDirty: boolean
}

export interface Typing {
  /** Monotonic ms. */
  readonly until: number
  readonly sentAt: number
  readonly isOn: boolean
}

export interface State {
  readonly id: string
  readonly exists: boolean
  readonly kind: ConversationKind
  readonly title: string | null
  readonly toolPolicy: ToolPolicy
  readonly createdBy: string
  readonly isDeleted: boolean
  readonly head: number
  readonly firstSeq: number
  readonly members: ReadonlyMap<string, Member>
  /** Of a dm: `${blocker}>${blocked}`. Undefined: not read (only while the dm does not exist). */
  readonly blocks: ReadonlySet<string> | undefined
  /** The running one, if any, comes first. */
  readonly runs: readonly Run[]
  /** The latest runs that ended while this activation lived. */
  readonly ended: readonly EndedRun[]
  /** Who waits for a run to end because they stopped it. */
  readonly stops: ReadonlyMap<string, readonly Requester[]>
  readonly recent: Recent
  // --- fleeting
  readonly positions: ReadonlyMap<string, Position>
  readonly typing: ReadonlyMap<string, Typing>
}

/** A conversation as the log has it. */
export interface Snapshot {
  id: string
  kind: ConversationKind
  title: string | null
  toolPolicy: ToolPolicy
  createdBy: string
  deleted: boolean
  head: number
  firstSeq: number
  members: { userId: string; role: MemberRole; joinedSeq: number; readSeq: number; deliveredSeq: number }[]
  runs: (RunRow & { prefix: string; calls: ToolCall[] })[]
  blocks: string[]
}

/** Most conversations have none of these, and all that lie in memory would have empty ones of their own: half a kilobyte. */
const noBlocks: State['blocks'] = new Set<string>()
const noRuns: State['runs'] = []
const noneEnded: State['ended'] = []
const noStops: State['stops'] = new Map()
const noTyping: State['typing'] = new Map()

export function absentState(id: string): State {
  return {
    id,
    exists: false,
    kind: 'dm',
    title: null,
    toolPolicy: 'requester',
    createdBy: '',
    isDeleted: false,
    head: 0,
    firstSeq: 1,
    members: new Map(),
    blocks: undefined,
    runs: noRuns,
    ended: noneEnded,
    stops: noStops,
    recent: noRecent,
    positions: new Map(),
    typing: noTyping,
  }
}

/**
 * The state that the log gives, with what only memory knew before: recent ids, stops, typing, positions not flushed yet.
 * `snapshot` undefined: the conversation does not exist.
 */
export function stateFrom(
  id: string,
  snapshot: Snapshot | undefined,
  before: State | undefined,
  utf8Bytes: (text: string) => number,
): State {
  const base = before ?? absentState(id)
  const recent: Recent = { base: base.recent.base, added: undefined }
  if (!snapshot) return { ...absentState(id), recent, blocks: undefined }
  const positions = new Map<string, Position>()
  for (const m of snapshot.members) {
    const known = base.positions.get(m.userId)
    const read = Math.max(m.readSeq, known?.read ?? 0)
    const delivered = Math.max(m.deliveredSeq, known?.delivered ?? 0, read)
    positions.set(m.userId, {
      read,
      delivered,
      sentAt: known?.sentAt ?? Number.NEGATIVE_INFINITY,
      isOwed: known?.isOwed ?? false,
      isDirty: known?.isDirty ?? false,
    })
  }
  const runs = snapshot.runs.map(({ prefix, ...run }) => ({
    ...run,
    text: prefix,
    bytes: utf8Bytes(prefix),
    isTold: base.runs.find(r => r.id === run.id)?.isTold ?? false,
  }))
  return {
    ...base,
    exists: true,
    kind: snapshot.kind,
    title: snapshot.title,
    toolPolicy: snapshot.toolPolicy,
    createdBy: snapshot.createdBy,
    isDeleted: snapshot.deleted,
    head: snapshot.head,
    firstSeq: snapshot.firstSeq,
    members: new Map(snapshot.members.map(m => [m.userId, { role: m.role, joinedSeq: m.joinedSeq }])),
    blocks: snapshot.blocks.length === 0 ? noBlocks : new Set(snapshot.blocks),
    runs:
      runs.length === 0
        ? noRuns
        : [...runs.filter(r => r.status !== 'queued'), ...runs.filter(r => r.status === 'queued')],
    recent,
    positions,
  }
}

/** Whether the user may see and write here at all; everything else is NOT_FOUND. */
export function isMember(state: State, userId: string): boolean {
  return state.exists && !state.isDeleted && state.members.has(userId)
}

/** Whether one of a dm's two has blocked the other. */
export function isBlocked(state: State): boolean {
  return state.kind === 'dm' && (state.blocks?.size ?? 0) > 0
}

/** Puts a run's next form where it was. */
export function replaceRun(step: { state: State; set(change: Partial<State>): void }, run: Run): void {
  step.set({ runs: step.state.runs.map(r => (r.id === run.id ? run : r)) })
}

export function runningOf(state: State): Run | undefined {
  const first = state.runs[0]
  return first && first.status !== 'queued' ? first : undefined
}
