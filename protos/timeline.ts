/**
 * Folds the facts of one conversation into the view that people see. The web app, the tests and the simulation use this
 * one fold; its last question is whether every client's fold equals a fresh snapshot.
 * Pure: same facts, same view. Facts at or below the highest seq seen are dropped; a hole is reported, never papered over.
 */
import type { DurableFrame, FleetingFrame, MemberRole, ToolPolicy } from './catalogue.ts'

export interface TimelineMessage {
  seq: number
  messageId: string
  senderId: string
  role: 'user' | 'assistant'
  content: string
  ts: string
  clientMessageId?: string
  replyTo?: number
  editedTs?: string
  deleted: boolean
  finish?: DurableFrame<'message.new'>['finish']
  tokens?: DurableFrame<'message.new'>['tokens']
  inReplyTo?: number
  /** emoji → user ids, in the order of first use. */
  reactions: ReadonlyMap<string, readonly string[]>
}

/** A change of people or settings that the room shows as one line. */
export interface TimelineNotice {
  seq: number
  ts: string
  type: 'room.member_joined' | 'room.member_left' | 'room.member_role' | 'room.updated'
  userId?: string
  by?: string
  role?: MemberRole
  title?: string | null
  toolPolicy?: ToolPolicy
}

/** An answer in progress: text so far. It becomes a message by `message.new`, ended by `chat.done`. */
export interface TimelineAnswer {
  messageId: string
  inReplyTo?: number
  requestedBy?: string
  text: string
  /** UTF-8 bytes of `text`; the next delta must start here. */
  bytes: number
}

/** One call of a tool within an answer. Ids of calls are the model's: they are unique only within their answer. */
export interface TimelineCall {
  seq: number
  /** Of the answer it belongs to. */
  messageId: string
  callId: string
  name: string
  /** Absent where only the finished answer told of the call. */
  arguments?: unknown
  approval: 'auto' | 'required'
  ts: string
  decision?: 'approve' | 'reject'
  /** Who decided; absent on a decision: nobody did in time. */
  by?: string
  decidedTs?: string
  /** Absent: it has not returned. */
  status?: 'success' | 'error'
  result?: unknown
}

export interface Timeline {
  /** Highest seq folded; 0 before any. */
  head: number
  /** Lowest seq folded; history before it is fetched by pages. */
  tail: number
  messages: readonly TimelineMessage[]
  notices: readonly TimelineNotice[]
  members: ReadonlyMap<string, MemberRole>
  title: string | null | undefined
  toolPolicy: ToolPolicy | undefined
  answers: readonly TimelineAnswer[]
  /** Within an answer in the order in which they were called. */
  calls: readonly TimelineCall[]
}

export const emptyTimeline: Timeline = {
  head: 0,
  tail: 0,
  messages: [],
  notices: [],
  members: new Map(),
  title: undefined,
  toolPolicy: undefined,
  answers: [],
  calls: [],
}

/** A timeline that knows everything up to `head` by other means (a page of history) and goes on from there. */
export function timelineFrom(head: number, messages: readonly TimelineMessage[]): Timeline {
  return { ...emptyTimeline, head, tail: messages[0]?.seq ?? head + 1, messages }
}

export type Folded = { timeline: Timeline } | { hole: { after: number; got: number } }

/** The next durable fact. Dropped if known already; a hole is answered, and the timeline stays as it was. */
export function foldFact(timeline: Timeline, fact: DurableFrame): Folded {
  if (fact.seq <= timeline.head) return { timeline }
  if (timeline.head > 0 && fact.seq !== timeline.head + 1) return { hole: { after: timeline.head, got: fact.seq } }
  const next = { ...applyFact(timeline, fact), head: fact.seq }
  return { timeline: timeline.tail === 0 ? { ...next, tail: fact.seq } : next }
}

function applyFact(t: Timeline, f: DurableFrame): Timeline {
  switch (f.type) {
    case 'message.new':
      return {
        ...t,
        messages: [...t.messages, messageOf(f)],
        answers: t.answers.filter(a => a.messageId !== f.messageId),
        calls: withCallsOf(t.calls, f),
      }
    case 'message.edited':
      return change(t, f.messageId, m => ({ ...m, content: f.content, editedTs: f.ts }))
    case 'message.deleted':
      return change(t, f.messageId, m => ({ ...m, content: '', deleted: true }))
    case 'reaction.updated':
      return change(t, f.messageId, m => ({ ...m, reactions: react(m.reactions, f.emoji, f.userId, f.added) }))
    case 'room.member_joined':
    case 'room.member_role':
      return {
        ...t,
        notices: [...t.notices, noticeOf(f)],
        members: f.userId ? new Map(t.members).set(f.userId, f.role ?? 'member') : t.members,
      }
    case 'room.member_left': {
      const members = new Map(t.members)
      if (f.userId) members.delete(f.userId)
      return { ...t, notices: [...t.notices, noticeOf(f)], members }
    }
    case 'room.updated':
      return {
        ...t,
        notices: [...t.notices, noticeOf(f)],
        title: f.title === undefined ? t.title : f.title,
        toolPolicy: f.toolPolicy ?? t.toolPolicy,
      }
    case 'chat.started': {
      if (t.answers.some(a => a.messageId === f.messageId)) return t
      const answer: TimelineAnswer = {
        messageId: f.messageId,
        inReplyTo: f.inReplyTo,
        requestedBy: f.requestedBy,
        text: '',
        bytes: 0,
      }
      return { ...t, answers: [...t.answers, answer] }
    }
    case 'tool.called':
    case 'tool.decided':
    case 'tool.returned':
      return { ...t, calls: withFact(t.calls, f) }
    default:
      f satisfies never
      return t
  }
}

const utf8 = new TextEncoder()

/** A delta of an answer in progress. One that does not continue the text is dropped: the next join brings it whole. */
export function foldDelta(t: Timeline, f: FleetingFrame<'chat.stream'>): Timeline {
  const at = t.answers.findIndex(a => a.messageId === f.messageId)
  const answer = t.answers[at]
  if (!answer || answer.bytes !== f.offset) return t
  const grown = { ...answer, text: answer.text + f.content, bytes: answer.bytes + utf8.encode(f.content).length }
  return { ...t, answers: t.answers.with(at, grown) }
}

/** What a join says of the answer in progress: its text so far replaces what was known. */
export function foldJoined(t: Timeline, f: FleetingFrame<'room.joined'>): Timeline {
  return f.stream ? withText(t, f.stream.messageId, f.stream.content) : t
}

/** An answer in progress, its text so far known by other means than its deltas. */
export function withText(t: Timeline, messageId: string, text: string): Timeline {
  const rest = t.answers.filter(a => a.messageId !== messageId)
  const known = t.answers.find(a => a.messageId === messageId)
  return { ...t, answers: [...rest, { ...known, messageId, text, bytes: utf8.encode(text).length }] }
}

export function messageOf(f: DurableFrame<'message.new'>): TimelineMessage {
  return {
    seq: f.seq,
    messageId: f.messageId,
    senderId: f.senderId,
    role: f.role,
    content: f.content,
    ts: f.ts,
    deleted: f.deleted ?? false,
    reactions: new Map(),
    ...(f.clientMessageId === undefined ? {} : { clientMessageId: f.clientMessageId }),
    ...(f.replyTo === undefined ? {} : { replyTo: f.replyTo }),
    ...(f.finish === undefined ? {} : { finish: f.finish }),
    ...(f.tokens === undefined ? {} : { tokens: f.tokens }),
    ...(f.inReplyTo === undefined ? {} : { inReplyTo: f.inReplyTo }),
  }
}

type ToolFact = DurableFrame<'tool.called' | 'tool.decided' | 'tool.returned'>

function withFact(calls: readonly TimelineCall[], f: ToolFact): readonly TimelineCall[] {
  const at = calls.findLastIndex(c => c.callId === f.callId && c.messageId === f.messageId)
  // A call from before the first fact that is known here: what is told of it now must do.
  const known = calls[at] ?? {
    ...{ seq: f.seq, messageId: f.messageId, callId: f.callId, name: f.name ?? '', ts: f.ts },
    approval: f.approval ?? (f.type === 'tool.decided' ? 'required' : 'auto'),
    ...(f.arguments === undefined ? {} : { arguments: f.arguments }),
  }
  const told = { ...known, ...toldBy(f) }
  return at < 0 ? [...calls, told] : calls.with(at, told)
}

function toldBy(f: ToolFact): Partial<TimelineCall> {
  switch (f.type) {
    case 'tool.called':
      return {}
    case 'tool.decided':
      return { decision: f.decision ?? 'reject', decidedTs: f.ts, ...(f.by === undefined ? {} : { by: f.by }) }
    case 'tool.returned':
      return {
        status: f.status === 'success' ? 'success' : 'error',
        ...(f.result === undefined ? {} : { result: f.result }),
      }
    default:
      return f satisfies never
  }
}

/** A finished answer names its calls: those whose own facts lie before the first one known here are taken from it. */
function withCallsOf(calls: readonly TimelineCall[], f: DurableFrame<'message.new'>): readonly TimelineCall[] {
  return f.toolCalls ? [...callsToldBy(f.toolCalls, f, calls), ...calls] : calls
}

export function callsToldBy(
  told: NonNullable<DurableFrame<'message.new'>['toolCalls']>,
  answer: { seq: number; messageId: string; ts: string },
  known: readonly TimelineCall[],
): TimelineCall[] {
  const { seq, messageId, ts } = answer
  const has = new Set(known.filter(c => c.messageId === messageId).map(c => c.callId))
  return told
    .filter(c => !has.has(c.callId))
    .map(c => ({
      ...{ seq, messageId, callId: c.callId, name: c.name, approval: 'auto' as const, ts },
      ...(c.status === 'pending' ? {} : { status: c.status }),
      ...(c.result === undefined ? {} : { result: c.result }),
    }))
}

function noticeOf(f: DurableFrame<TimelineNotice['type']>): TimelineNotice {
  return {
    seq: f.seq,
    ts: f.ts,
    type: f.type,
    ...(f.userId === undefined ? {} : { userId: f.userId }),
    ...(f.by === undefined ? {} : { by: f.by }),
    ...(f.role === undefined ? {} : { role: f.role }),
    ...(f.title === undefined ? {} : { title: f.title }),
    ...(f.toolPolicy === undefined ? {} : { toolPolicy: f.toolPolicy }),
  }
}

function change(t: Timeline, messageId: string, to: (m: TimelineMessage) => TimelineMessage): Timeline {
  const at = t.messages.findLastIndex(m => m.messageId === messageId)
  return at < 0 ? t : { ...t, messages: t.messages.with(at, to(t.messages[at]!)) }
}

function react(all: ReadonlyMap<string, readonly string[]>, emoji: string, userId: string, added: boolean) {
  const users = all.get(emoji) ?? []
  if (added === users.includes(userId)) return all
  const next = new Map(all)
  const left = added ? [...users, userId] : users.filter(u => u !== userId)
  if (left.length === 0) next.delete(emoji)
  else next.set(emoji, left)
  return next
}
