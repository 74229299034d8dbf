/**
 * The chat API: one question, one answer, as JSON or as a stream of the turn's frames; and decisions on calls that wait.
 * A request that goes away leaves its turn running; the same client_message_id finds it again.
 */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { Clock } from '#engine/ops/clock.ts'
import type { Db } from '#gateway/auth/db.ts'
import { forbidden, invalid, limited, notFound, Refusal, unavailable } from '#gateway/auth/failure.ts'
import type { ServerFrame } from '#protos/catalogue.ts'
import { nameId, parseId } from '#protos/ids.ts'
import {
  chatPostponedLookMs,
  chatWaitMsMax,
  contentBytesMax,
  contentCharsMax,
  quotaRetryMs,
  toolCallIdCharsMax,
} from '#protos/limits.ts'
import { streamed } from './chat-stream.ts'
import type { ChatTurns, Question, ToolCallView } from './chat-turn.ts'
import type { Commands } from './commands.ts'
import { exampleChat, exampleContext, exampleDecision, exampleUsage } from './examples.ts'
import type { Limiter } from './limiter.ts'
import type { Reader } from './reader.ts'
import { type Answer, type Context, type RouteSpec, route, strict } from './route.ts'
import * as s from './schemas.ts'
import type { Usage } from './usage.ts'

const sha1 = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest()
const noTokens = { input: 0, output: 0, total: 0 }

export function chatRoutes(deps: {
  /** Absent where no hub runs: turns cannot be followed. */
  turns: ChatTurns | undefined
  reader: Reader
  commands: Commands
  clock: Clock
  limiter: Limiter
  usage: Usage
  db: Db
}): RouteSpec[] {
  const { turns, reader, commands, clock, limiter, usage, db } = deps

  async function create(self: string, id: string, trace: string): Promise<void> {
    const waitMs = limiter.take('conversations', self)
    if (waitMs > 0) throw limited('conversations', waitMs)
    const members = [{ userId: self, role: 'owner' as const }]
    await commands.ask(self, { type: 'conversation.create', conversationId: id, kind: 'ai', members }, trace)
  }

  /** The conversation that is meant, made if none is. One that cannot be meant comes with a fresh one to use. */
  async function conversationFor(given: string | null | undefined, clientMessageId: string | undefined, c: Context) {
    const self = c.principal.userId
    if (given === null || given === undefined) {
      // The same question again finds the conversation that it made.
      const id = clientMessageId === undefined ? clock.id() : nameId(self, `chat ${clientMessageId}`, sha1)
      if (!(clientMessageId !== undefined && (await reader.membership(id, self)))) await create(self, id, c.requestId)
      return id
    }
    const id = parseId(given)
    if (id) return id
    const fresh = clock.id()
    await create(self, fresh, c.requestId)
    throw new Refusal(400, 'INVALID_REQUEST', 'This is no conversation’s id.', {
      field: 'conversation_id',
      new_conversation_id: fresh,
    })
  }

  /** A question that is in the log finds its answer whatever is left of the day. */
  async function isStored(conversationId: string, self: string, clientMessageId: string | undefined): Promise<boolean> {
    if (clientMessageId === undefined) return false
    const { rows } = await db.query(
      'select 1 from event where sender_id = $1 and conversation_id = $2 and client_id = $3',
      [self, conversationId, clientMessageId],
    )
    return rows.length > 0
  }

  /** Of the asker alone: what is left out tells whom they have blocked. Undefined: no answer to them. */
  async function shownFor(answerId: string, self: string) {
    const { rows } = await db.query<{ round: number | null; seqs: number[]; at: string }>(
      `select x.round, x.seqs::float8[] as seqs, to_char(x.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
         from ai_run r join conversation c on c.id = r.conversation_id and c.deleted_at is null
         join conversation_member m on m.conversation_id = r.conversation_id and m.user_id = r.requester
         left join ai_context x on x.run_id = r.id
        where r.answer_id = $1 and r.requester = $2 order by x.round`,
      [answerId, self],
    )
    return rows[0] && rows.flatMap(({ round, seqs, at }) => (round === null ? [] : [{ round, seqs, at }]))
  }

  async function mustBeChat(id: string, self: string): Promise<number> {
    const found = await reader.membership(id, self)
    if (!found) throw notFound('There is no such conversation.')
    const { rows } = await db.query<{ kind: string }>('select kind from conversation where id = $1', [id])
    if (rows[0]?.kind === 'dm')
      throw invalid('The assistant takes no part in a direct conversation.', 'conversation_id')
    return found.head_seq
  }

  return [
    route({
      method: 'POST',
      path: '/:user_id/chat',
      auth: 'bearer',
      tag: 'assistant',
      summary: 'Asks the assistant; with `stream` the frames of the turn come as server-sent events.',
      params: strict({ user_id: Type.String({ minLength: 1, maxLength: 500 }) }),
      body: strict({
        conversation_id: Type.Optional(Type.Unsafe<string | null>({ type: ['string', 'null'], maxLength: 500 })),
        message: Type.String({ minLength: 1, maxLength: contentCharsMax }),
        stream: Type.Optional(Type.Boolean()),
        client_message_id: Type.Optional(s.Id),
      }),
      bodyExample: { message: 'Show my tasks', stream: true },
      streams: true,
      answers: { 200: { schema: s.Chat, example: exampleChat, doc: 'The answer, or what it waits for.' } },
      refusals: [403, 404, 409],
      async handle(c) {
        const self = c.principal.userId
        if (parseId(c.params.user_id) !== self) throw forbidden('This is not your path.')
        const { message, stream = false } = c.body
        if (!/\S/u.test(message) || Buffer.byteLength(message) > contentBytesMax)
          throw invalid('A message has 1 to 4096 characters, not only white space.', 'message')
        if (!turns) throw unavailable('Turns cannot be followed here.')
        const clientMessageId = c.body.client_message_id?.toLowerCase()
        const conversationId = await conversationFor(c.body.conversation_id, clientMessageId, c)
        const head = await mustBeChat(conversationId, self)
        // To ask for an answer again is no question: it costs nothing of what a person may ask.
        if (!(await isStored(conversationId, self, clientMessageId))) {
          const { waitMs, limit } = limiter.takeSend(self, conversationId)
          if (waitMs > 0) throw limited(limit, waitMs)
          await usage.mustHave(self)
        }
        const question = {
          userId: self,
          sessionId: c.principal.sessionId,
          conversationId,
          head,
          clientMessageId: clientMessageId ?? clock.id(),
          content: message,
          trace: c.requestId,
        }
        return stream ? streamed(turns, usage, question, () => clock.now()) : await whole(turns, usage, question)
      },
    }),
    route({
      method: 'GET',
      path: '/me/usage',
      auth: 'bearer',
      tag: 'assistant',
      summary: 'What one’s questions have cost today (UTC) and what is left.',
      answers: { 200: { schema: s.Usage, example: exampleUsage, doc: 'Tokens of the day.' } },
      refusals: [],
      handle: async c => ({ status: 200, body: await usage.of(c.principal.userId) }),
    }),
    route({
      method: 'GET',
      path: '/messages/:id/context',
      auth: 'bearer',
      tag: 'assistant',
      summary: 'Which events of the conversation the model was shown for an answer to oneself, request by request.',
      params: s.MessagePath,
      answers: {
        200: {
          schema: s.listOf(s.Shown),
          example: exampleContext,
          doc: 'By seq, never their text: read it by history.',
        },
      },
      refusals: [404],
      async handle(c) {
        const items = await shownFor(c.params.id.toLowerCase(), c.principal.userId)
        if (!items) throw notFound('There is no such answer to a question of yours.')
        return { status: 200, body: { items } }
      },
    }),
    route({
      method: 'POST',
      path: '/conversations/:id/tools/:call_id',
      auth: 'bearer',
      tag: 'assistant',
      summary: 'Allows or refuses a tool call that waits; once.',
      params: strict({ id: s.Id, call_id: Type.String({ minLength: 1, maxLength: toolCallIdCharsMax }) }),
      body: strict({ decision: s.Decision }),
      bodyExample: { decision: 'approve' },
      answers: { 200: { schema: s.Decided, example: exampleDecision, doc: 'Decided; `duplicate` if it was before.' } },
      refusals: [403, 404, 409],
      async handle(c) {
        const { id, call_id: callId } = c.params
        const { decision } = c.body
        const ack = await commands.ask(
          c.principal.userId,
          { type: 'tool.decide', conversationId: id, callId, decision },
          c.requestId,
        )
        const body = {
          conversation_id: id,
          call_id: callId,
          decision,
          seq: ack.seq!,
          duplicate: ack.duplicate ?? false,
        }
        return { status: 200, body }
      },
    }),
  ]
}

/** Waits for the end, or until somebody is to decide on a call. */
async function whole(turns: ChatTurns, usage: Usage, question: Question): Promise<Answer> {
  const { conversationId } = question
  let text = ''
  let end: Extract<ServerFrame, { type: 'message.new' }> | undefined
  const settled = Promise.withResolvers<void>()
  const { answerId, close } = await turns.follow(question, {
    emit(frame) {
      if (frame.type === 'chat.stream') text += frame.content
      else if (frame.type === 'message.new') end = frame
      else if (frame.type === 'tool.called' && frame.approval === 'required') settled.resolve()
    },
    unsent: () => 0,
    ended: () => settled.resolve(),
  })
  const timer = setTimeout(() => settled.resolve(), chatWaitMsMax)
  let isPostponed = false
  // Nothing is said in the room of a turn that goes back to the queue, so it is looked for.
  const looking = setInterval(() => {
    turns.isPostponed(answerId).then(
      found => {
        if (!found) return
        isPostponed = true
        settled.resolve()
      },
      () => {},
    )
  }, chatPostponedLookMs)
  try {
    const before = end ? undefined : await turns.calls(conversationId, answerId)
    if (!before?.isWaiting) await settled.promise
    const { calls, isWaiting } = await turns.calls(conversationId, answerId)
    if (!end && isPostponed) {
      const details = { outcome: 'queued', conversation_id: conversationId, message_id: answerId }
      const message = 'The model has no quota now. The question waits and will be answered once.'
      throw new Refusal(503, 'SERVICE_UNAVAILABLE', message, details, quotaRetryMs)
    }
    if (!end && !isWaiting) {
      const details = { outcome: 'unknown', conversation_id: conversationId, message_id: answerId }
      throw new Refusal(
        503,
        'SERVICE_UNAVAILABLE',
        'The answer is not complete yet. Ask again with the same id.',
        details,
        1000,
      )
    }
    // Where a tool has done something the request was no failure: sent again it would be done again.
    if (end?.finish === 'failed' && end.content === '' && !calls.some(call => call.status === 'success')) {
      const refusal = await usage.refusalOf(question.userId, answerId)
      if (refusal) throw refusal
      const details = { conversation_id: conversationId, message_id: answerId }
      throw new Refusal(
        503,
        'SERVICE_UNAVAILABLE',
        'The model cannot be reached now. Try again shortly.',
        details,
        1000,
      )
    }
    return { status: 200, body: chatOf(conversationId, answerId, end?.content ?? text, calls, end?.tokens ?? noTokens) }
  } finally {
    clearTimeout(timer)
    clearInterval(looking)
    close()
  }
}

function chatOf(
  conversationId: string,
  answerId: string,
  response: string,
  calls: ToolCallView[],
  tokens: typeof noTokens,
) {
  return { conversation_id: conversationId, message_id: answerId, response, tool_calls: calls, tokens }
}
