/**
 * Messages and calls as REST and pages of history tell of them, in the shapes that the fold of the log makes. Pure.
 */
import type { DurableFrame } from '#protos/catalogue.ts'
import { callsToldBy, type TimelineCall, type TimelineMessage } from '#protos/timeline.ts'
import type { MessageDto } from '../wire/api.ts'

export interface Preview {
  seq: number
  messageId: string
  senderId: string
  content: string
  ts: string
  isDeleted: boolean
}

/** The calls of a page before those known: from its events, and where those were not read, from the answers that made them. */
export function callsBefore(
  messages: readonly MessageDto[],
  earlier: readonly TimelineCall[],
  later: readonly TimelineCall[],
): readonly TimelineCall[] {
  const calls = mergeCalls(earlier, later)
  for (const m of messages) {
    calls.unshift(...callsToldBy(m.tool_calls, { seq: m.seq, messageId: m.id, ts: m.created_at }, calls))
  }
  return calls
}

/** A call that began in the earlier part and went on in the later one is one call. */
function mergeCalls(earlier: readonly TimelineCall[], later: readonly TimelineCall[]): TimelineCall[] {
  const merged = later.map(l => {
    const e = earlier.find(c => c.callId === l.callId && c.messageId === l.messageId)
    return e ? { ...l, ...e, ...decidedIn(l), ...(l.status ? { status: l.status, result: l.result } : {}) } : l
  })
  return [...earlier.filter(e => !later.some(c => c.callId === e.callId && c.messageId === e.messageId)), ...merged]
}

function decidedIn({ decision, by, decidedTs }: TimelineCall): Partial<TimelineCall> {
  if (decision === undefined) return {}
  return { decision, ...(by === undefined ? {} : { by }), ...(decidedTs === undefined ? {} : { decidedTs }) }
}

export function previewOf(m: MessageDto): Preview {
  return {
    seq: m.seq,
    messageId: m.id,
    senderId: m.sender_id,
    content: m.content,
    ts: m.created_at,
    isDeleted: m.deleted_at !== null,
  }
}

export function timelineMessage(m: MessageDto): TimelineMessage {
  return {
    seq: m.seq,
    messageId: m.id,
    senderId: m.sender_id,
    role: m.role,
    content: m.content,
    ts: m.created_at,
    deleted: m.deleted_at !== null,
    reactions: new Map(),
    ...(m.client_message_id ? { clientMessageId: m.client_message_id } : {}),
    ...(m.reply_to ? { replyTo: m.reply_to } : {}),
    ...(m.edited_at ? { editedTs: m.edited_at } : {}),
    ...(m.finish ? { finish: m.finish } : {}),
    ...(m.tokens ? { tokens: m.tokens } : {}),
  }
}

/** The last `max` events after one more. What was taken back is in none of them any more, as the server has it. */
export function withEvent(events: readonly DurableFrame[], event: DurableFrame, max: number): readonly DurableFrame[] {
  const next = [...events.slice(1 - max), event]
  if (event.type !== 'message.deleted') return next
  return next.map(e => {
    if (!('messageId' in e) || e.messageId !== event.messageId) return e
    if (e.type === 'message.new') return { ...e, content: '', deleted: true }
    return e.type === 'message.edited' ? { ...e, content: '' } : e
  })
}
