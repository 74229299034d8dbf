/**
 * Routes of messages: history, raw events, sending, reading. A page of history or events that is returned also moves the
 * reader's delivered position. Sends share their rate with the user's sockets.
 */
import { Type } from 'typebox'
import type { Clock } from '#engine/ops/clock.ts'
import { invalid, limited, notFound } from '#gateway/auth/failure.ts'
import type { Positions } from '#gateway/positions.ts'
import type { Command } from '#protos/catalogue.ts'
import { parseId } from '#protos/ids.ts'
import { attachmentsMax, eventsPageDefault, eventsPageMax, historyPageDefault, historyPageMax } from '#protos/limits.ts'
import { mentionsAssistant } from '#protos/mention.ts'
import type { Commands } from './commands.ts'
import { exampleEvents, exampleMessage } from './examples.ts'
import type { Limiter } from './limiter.ts'
import type { Mark, Reader } from './reader.ts'
import { type RouteSpec, route, strict } from './route.ts'
import { pageSize } from './routes-people.ts'
import * as s from './schemas.ts'

const MarkText = Type.Optional(Type.String({ minLength: 1, maxLength: 40 }))

export function messageRoutes(deps: {
  reader: Reader
  commands: Commands
  clock: Clock
  limiter: Limiter
  positions: Positions
}): RouteSpec[] {
  const { reader, commands, clock, limiter, positions } = deps

  async function membership(conversation: string, userId: string) {
    const found = await reader.membership(conversation, userId)
    if (!found) throw notFound('There is no such conversation.')
    return found
  }

  return [
    route({
      method: 'GET',
      path: '/conversations/:id/messages',
      auth: 'bearer',
      tag: 'messages',
      summary: 'Messages before or after a seq, a message id or a time, newest last.',
      params: s.ConversationPath,
      query: strict({ before: MarkText, after: MarkText, limit: s.pageLimit(historyPageDefault, historyPageMax) }),
      answers: {
        200: {
          schema: s.listOf(s.Message),
          example: { items: [exampleMessage], next: '17' },
          doc: 'A page; `next` is the `before` (or `after`) of the next one.',
        },
      },
      refusals: [404],
      async handle(c) {
        const { before, after } = c.query
        if (before !== undefined && after !== undefined) throw invalid('Either before or after.', 'after')
        const limit = pageSize(c.query.limit, historyPageDefault, historyPageMax)
        const direction = after === undefined ? 'before' : 'after'
        const mark = parseMark(before ?? after, direction)
        const self = c.principal.userId
        const conversationId = c.params.id
        await membership(conversationId, self)
        const page = await reader.history(conversationId, self, { direction, limit, ...(mark ? { mark } : {}) })
        if (!page) throw invalid('There is no such message here.', direction)
        const last = page.items.at(-1)
        if (last) {
          commands.tell(self, { type: 'receipt.delivered', conversationId, seq: last.seq }, c.requestId)
        }
        const far = direction === 'before' ? page.items[0] : last
        return { status: 200, body: { items: page.items, ...(page.hasMore && far ? { next: String(far.seq) } : {}) } }
      },
    }),
    route({
      method: 'GET',
      path: '/conversations/:id/events',
      auth: 'bearer',
      tag: 'messages',
      summary: 'The raw log: frames as on the socket.',
      params: s.ConversationPath,
      query: strict({ after: Type.Optional(s.Digits), limit: s.pageLimit(eventsPageDefault, eventsPageMax) }),
      answers: {
        200: {
          schema: strict({
            items: Type.Array(Type.Unsafe<object>({ type: 'object', additionalProperties: true })),
            first_seq: Type.Integer(),
            head_seq: Type.Integer(),
          }),
          example: exampleEvents,
          doc: 'Events above `after`, oldest first.',
        },
      },
      refusals: [404],
      async handle(c) {
        const limit = pageSize(c.query.limit, eventsPageDefault, eventsPageMax)
        const after = seqOf(c.query.after ?? '0', 'after')
        const conversationId = c.params.id
        const self = c.principal.userId
        const { first_seq, head_seq } = await membership(conversationId, self)
        const items = await reader.events(conversationId, self, after, limit)
        const last = items.at(-1)
        if (last !== undefined) {
          const { seq } = JSON.parse(last) as { seq: number }
          commands.tell(self, { type: 'receipt.delivered', conversationId, seq }, c.requestId)
        }
        return { status: 200, json: `{"items":[${items.join(',')}],"first_seq":${first_seq},"head_seq":${head_seq}}` }
      },
    }),
    route({
      method: 'POST',
      path: '/conversations/:id/messages',
      auth: 'bearer',
      tag: 'messages',
      summary: 'Sends a message. The same client_message_id again answers the first one.',
      params: s.ConversationPath,
      body: strict({
        content: s.Content,
        client_message_id: Type.Optional(s.Id),
        reply_to: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
        attachments: Type.Optional(Type.Array(s.Id, { maxItems: attachmentsMax })),
      }),
      bodyExample: { content: 'Hello', client_message_id: '018f3b21-9c1d-7aa0-9d3e-5b1f0c7e2a44' },
      answers: {
        200: { schema: s.Message, example: exampleMessage, doc: 'Was stored already.' },
        201: { schema: s.Message, example: exampleMessage, doc: 'Is stored now.' },
      },
      refusals: [403, 404, 409],
      async handle(c) {
        const self = c.principal.userId
        const conversationId = c.params.id
        const { content, client_message_id, reply_to, attachments } = c.body
        const { waitMs, limit } = limiter.takeSend(self, mentionsAssistant(content) ? conversationId : undefined)
        if (waitMs > 0) throw limited(limit, waitMs)
        const command: Command<'message.send'> = {
          type: 'message.send',
          conversationId,
          clientMessageId: client_message_id?.toLowerCase() ?? clock.id(),
          content,
          ...(reply_to === undefined ? {} : { replyTo: reply_to }),
          ...(attachments === undefined || attachments.length === 0 ? {} : { attachments }),
        }
        const ack = await commands.ask(self, command, c.requestId)
        positions.note(self, conversationId, ack.seq!)
        const message = await reader.message(conversationId, ack.seq!, self)
        if (!message) throw notFound('There is no such conversation.')
        return { status: ack.duplicate ? 200 : 201, body: message }
      },
    }),
    route({
      method: 'POST',
      path: '/messages/:id/read',
      auth: 'bearer',
      tag: 'messages',
      summary: 'Moves one’s read position up to this message.',
      params: s.MessagePath,
      isBodyOptional: true,
      answers: {
        200: {
          schema: strict({ conversation_id: Type.String(), read_seq: Type.Integer() }),
          example: { conversation_id: exampleMessage.conversation_id, read_seq: 17 },
          doc: 'The position asked for; one’s own never goes back.',
        },
      },
      refusals: [404],
      async handle(c) {
        const self = c.principal.userId
        const at = await reader.positionOf(c.params.id, self)
        if (!at) throw notFound('There is no such message.')
        commands.tell(self, { type: 'receipt.read', conversationId: at.conversation_id, seq: at.seq }, c.requestId)
        positions.note(self, at.conversation_id, at.seq)
        return { status: 200, body: { conversation_id: at.conversation_id, read_seq: at.seq } }
      },
    }),
  ]
}

/** A seq, a message id or a time; nothing for the newest page. */
function parseMark(text: string | undefined, field: string): Mark | undefined {
  if (text === undefined) return undefined
  if (/^\d{1,16}$/.test(text)) return { seq: seqOf(text, field) }
  const id = parseId(text)
  if (id) return { id }
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/.test(text)
  const at = isTime ? Date.parse(text) : Number.NaN
  // A day that its month does not have would roll over into the next.
  const isDay = isTime && new Date(`${text.slice(0, 10)}T00:00:00Z`).getUTCDate() === Number(text.slice(8, 10))
  if (!isDay || Number.isNaN(at)) throw invalid('A seq, a message id or a time.', field)
  return { at }
}

function seqOf(text: string, field: string): number {
  const seq = Number(text)
  if (!Number.isSafeInteger(seq)) throw invalid('This seq is out of range.', field)
  return seq
}
