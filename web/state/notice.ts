/**
 * Whether a frame is worth a notification, and what it says. Pure. Refuses to tell of what is on screen, of what is old and of
 * what concerns somebody else.
 */
import type { ServerFrame } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { t } from '../i18n/t.ts'
import { gist } from '../text/gist.ts'

/** Nothing older is told: whoever comes back after a pause sees the list. */
const freshMs = 60_000
/** An answer that came sooner was waited for. */
const awaitedMs = 10_000

export interface Notice {
  conversationId: string
  /** Gone once this was read. */
  seq: number
  title: string
  body: string
}

/** What has to be known of a conversation and of the one who is to be told. */
export interface Listener {
  me: { id: string; username: string }
  room: { kind: 'dm' | 'group' | 'ai'; name: string }
  /** Somebody looks at this conversation now. */
  isSeen: boolean
  /** Wall time by the server's clock, ms. */
  now: number
  nameOf(userId: string): string
  /** Who asked for an answer and when it began, where that was seen. */
  answer(messageId: string): { requestedBy: string; beganAt: number } | undefined
  mayDecide(requestedBy: string | undefined): boolean
}

export function noticeOf(frame: ServerFrame, listener: Listener): Notice | undefined {
  if (listener.isSeen || (frame.type !== 'tool.called' && frame.type !== 'message.new')) return undefined
  if (listener.now - Date.parse(frame.ts) > freshMs) return undefined
  const { me, room, nameOf } = listener
  const about = { conversationId: frame.conversationId, seq: frame.seq, title: room.name }
  if (frame.type === 'tool.called') {
    if (frame.approval !== 'required' || !listener.mayDecide(listener.answer(frame.messageId)?.requestedBy))
      return undefined
    return { ...about, body: t('list.asksYou') }
  }
  if (frame.senderId === me.id || frame.deleted) return undefined
  const text = gist(frame.content)
  if (frame.senderId === assistantId) {
    const answer = listener.answer(frame.messageId)
    const isAwaited = !answer || Date.parse(frame.ts) - answer.beganAt < awaitedMs
    if (answer?.requestedBy !== me.id || isAwaited) return undefined
    return { ...about, body: text || t('list.noAnswer') }
  }
  if (room.kind === 'dm') return { ...about, body: text }
  if (!mentions(frame.content, me.username)) return undefined
  return { ...about, body: t('list.said', { name: nameOf(frame.senderId), text }) }
}

/** `@name` as a word of its own. */
function mentions(content: string, username: string): boolean {
  if (username === '') return false
  return new RegExp(`(?<![\\w@])@${username.replace(/\W/g, '\\$&')}(?!\\w)`, 'i').test(content)
}
