/**
 * What a room shows, top to bottom, as data: days, the unread line, groups of messages, notices, answers, and what waits.
 * Pure: same room, same rows. Keys stay for life, so an echo becomes its stored message in place.
 */
import type { Finish } from '#protos/catalogue.ts'
import type { Timeline, TimelineCall, TimelineMessage, TimelineNotice } from '#protos/timeline.ts'
import type { Kept } from '../store/outbox.ts'

/** Same sender, same day, at most this long after the row before: one group. */
const groupMs = 5 * 60_000

export interface Pending {
  clientMessageId: string
  content: string
  /** Wall time of writing, ISO. */
  ts: string
  /** Stored already; its message is on its way. */
  storedSeq?: number
  failed?: string
}

export function pendingOf({ letter, writtenAt, failed }: Kept): Pending {
  return {
    clientMessageId: letter.clientMessageId,
    content: letter.content,
    ts: new Date(writtenAt).toISOString(),
    ...(failed === undefined ? {} : { failed }),
  }
}

export interface MessageRowData {
  kind: 'message'
  key: string
  senderId: string
  content: string
  ts: string
  isMine: boolean
  isFirst: boolean
  isLast: boolean
  isDeleted: boolean
  isEdited: boolean
  /** 0: not stored yet. */
  seq: number
  messageId?: string
  clientMessageId?: string
  failed?: string
}

export interface AnswerRowData {
  kind: 'answer'
  key: string
  messageId: string
  text: string
  ts?: string
  isLive: boolean
  isFirst: boolean
  isLast: boolean
  isDeleted: boolean
  seq: number
  finish?: Finish
  outputTokens?: number
  requestedBy?: string
  inReplyTo?: number
  /** What it did with tools, in order. */
  calls: readonly TimelineCall[]
}

export type Row =
  | { kind: 'day'; key: string; ts: string }
  | { kind: 'unread'; key: string }
  | { kind: 'notices'; key: string; notices: TimelineNotice[] }
  | MessageRowData
  | AnswerRowData

export interface RowsOf {
  timeline: Timeline
  pending: readonly Pending[]
  me: string
  /** Only groups tell who came and went. */
  hasNotices: boolean
  /** The line stands before the first message of others above this seq; absent: no line. */
  unreadAfter?: number
}

export function rowsOf({ timeline, pending, me, hasNotices, unreadAfter }: RowsOf): Row[] {
  const rows: Row[] = []
  let day = ''
  let lineIsDue = unreadAfter !== undefined
  const callsOf = Map.groupBy(timeline.calls, call => call.messageId)
  const questions = new Map(timeline.messages.map(m => [m.seq, m.senderId]))
  // The key names the first row of the day: when earlier ones come before it, the day is a new row at a new place.
  const openDay = (ts: string, first: string | number) => {
    const now = new Date(ts).toDateString()
    if (now !== day) rows.push({ kind: 'day', key: `d:${first}`, ts })
    day = now
  }
  const add = (row: MessageRowData | AnswerRowData) => {
    const before = rows.at(-1)
    const isFirst = !follows(before, row)
    if (!isFirst && (before?.kind === 'message' || before?.kind === 'answer')) before.isLast = false
    rows.push({ ...row, isFirst })
  }
  for (const item of bySeq(timeline.messages, hasNotices ? timeline.notices : [])) {
    openDay(item.ts, item.seq)
    if ('type' in item) {
      const last = rows.at(-1)
      if (last?.kind === 'notices') last.notices.push(item)
      else rows.push({ kind: 'notices', key: `n:${item.seq}`, notices: [item] })
      continue
    }
    if (lineIsDue && item.seq > unreadAfter! && item.senderId !== me) {
      rows.push({ kind: 'unread', key: 'unread' })
      lineIsDue = false
    }
    if (item.role === 'assistant') add(answerRow(item, questions.get(item.inReplyTo ?? 0), callsOf.get(item.messageId)))
    else add(messageRow(item, me))
  }
  for (const answer of timeline.answers) {
    const requestedBy = answer.requestedBy ?? questions.get(answer.inReplyTo ?? 0)
    add({
      ...rowDefaults,
      kind: 'answer',
      key: `a:${answer.messageId}`,
      messageId: answer.messageId,
      text: answer.text,
      isLive: true,
      seq: 0,
      calls: callsOf.get(answer.messageId) ?? noCalls,
      ...(answer.inReplyTo === undefined ? {} : { inReplyTo: answer.inReplyTo }),
      ...(requestedBy === undefined ? {} : { requestedBy }),
    })
  }
  for (const wait of pending) {
    openDay(wait.ts, wait.clientMessageId)
    add({
      ...rowDefaults,
      kind: 'message',
      key: `c:${wait.clientMessageId}`,
      senderId: me,
      content: wait.content,
      ts: wait.ts,
      isMine: true,
      isEdited: false,
      seq: wait.storedSeq ?? 0,
      clientMessageId: wait.clientMessageId,
      ...(wait.failed === undefined ? {} : { failed: wait.failed }),
    })
  }
  return rows
}

const noCalls: readonly TimelineCall[] = []
const rowDefaults = { isFirst: true, isLast: true, isDeleted: false } as const

function bySeq(messages: readonly TimelineMessage[], notices: readonly TimelineNotice[]) {
  const all: (TimelineMessage | TimelineNotice)[] = []
  let n = 0
  for (const message of messages) {
    while (n < notices.length && notices[n]!.seq < message.seq) all.push(notices[n++]!)
    all.push(message)
  }
  return all.concat(notices.slice(n))
}

function messageRow(m: TimelineMessage, me: string): MessageRowData {
  const isMine = m.senderId === me
  return {
    ...rowDefaults,
    kind: 'message',
    key: isMine && m.clientMessageId ? `c:${m.clientMessageId}` : `m:${m.messageId}`,
    senderId: m.senderId,
    content: m.content,
    ts: m.ts,
    isMine,
    isDeleted: m.deleted,
    isEdited: m.editedTs !== undefined,
    seq: m.seq,
    messageId: m.messageId,
    ...(m.clientMessageId === undefined ? {} : { clientMessageId: m.clientMessageId }),
  }
}

function answerRow(
  m: TimelineMessage,
  requestedBy: string | undefined,
  calls: readonly TimelineCall[] = noCalls,
): AnswerRowData {
  return {
    ...rowDefaults,
    kind: 'answer',
    key: `a:${m.messageId}`,
    messageId: m.messageId,
    text: m.content,
    ts: m.ts,
    isLive: false,
    isDeleted: m.deleted,
    seq: m.seq,
    calls,
    ...(m.finish === undefined ? {} : { finish: m.finish }),
    ...(m.tokens === undefined ? {} : { outputTokens: m.tokens.output }),
    ...(m.inReplyTo === undefined ? {} : { inReplyTo: m.inReplyTo }),
    ...(requestedBy === undefined ? {} : { requestedBy }),
  }
}

function follows(before: Row | undefined, row: MessageRowData | AnswerRowData): boolean {
  if (before?.kind !== 'message' || row.kind !== 'message') return false
  return before.senderId === row.senderId && Date.parse(row.ts) - Date.parse(before.ts) <= groupMs
}

/** How far an own message got. It never claims more than the receipts say. */
export type Tick = 'pending' | 'stored' | 'delivered' | 'read'

export interface Position {
  readSeq: number
  deliveredSeq: number
}

/** Above this many members a row only says that it is stored. */
const tickMembersMax = 100

export function tickOf(seq: number, others: readonly (Position | undefined)[]): Tick {
  if (seq === 0) return 'pending'
  if (others.length === 0 || others.length >= tickMembersMax) return 'stored'
  if (others.every(o => o !== undefined && o.readSeq >= seq)) return 'read'
  return others.some(o => o !== undefined && Math.max(o.deliveredSeq, o.readSeq) >= seq) ? 'delivered' : 'stored'
}
