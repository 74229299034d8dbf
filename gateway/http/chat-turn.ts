/**
 * One turn of the assistant as an HTTP request sees it: the question is sent once, then the frames of its answer come until
 * chat.done. Owns which frames belong to the turn and what is said of one that has ended. Refuses to know HTTP.
 */
import { createHash } from 'node:crypto'
import type { Db } from '#gateway/auth/db.ts'
import { unavailable } from '#gateway/auth/failure.ts'
import type { ChatListeners, Sink } from '#gateway/chat-listener.ts'
import type { DurableFrame, FleetingFrame, ServerFrame } from '#protos/catalogue.ts'
import type { Commands } from './commands.ts'
import type { Reader } from './reader.ts'

export interface Question {
  userId: string
  sessionId: string
  conversationId: string
  head: number
  clientMessageId: string
  content: string
  trace: string
}

export interface ToolCallView {
  tool_name: string
  tool_id: string
  status: 'success' | 'error' | 'pending'
  result: unknown
}

export interface ChatTurns {
  /**
   * Sends the question and answers how it was taken. `emit` gets the turn's frames in order, `ack` first, `chat.done` last;
   * `ended` comes once, after it or when no more will come. Throws a Refusal, and then nothing was emitted.
   */
  follow(
    question: Question,
    to: { emit(frame: ServerFrame): void; unsent(): number; ended(): void },
  ): Promise<{ answerId: string; close: () => void }>
  /** The calls of an answer so far. `isWaiting`: somebody is to decide. */
  calls(conversationId: string, answerId: string): Promise<{ calls: ToolCallView[]; isWaiting: boolean }>
  /** Whether the turn had begun and waits in the queue again, because the model has no quota. */
  isPostponed(answerId: string): Promise<boolean>
}

export function createChatTurns(deps: {
  listeners: ChatListeners
  commands: Commands
  reader: Reader
  db: Db
  now: () => number
}): ChatTurns {
  const { listeners, commands, reader, db, now } = deps

  /** The answer's event, once it is in the log. */
  async function answerOf({ conversationId, userId }: Question, answerId: string) {
    const { rows } = await db.query<{ seq: number }>(
      `select seq::float8 as seq from event where message_id = $1 and conversation_id = $2 and kind = 'message.new'`,
      [answerId, conversationId],
    )
    if (!rows[0]) return undefined
    const [json] = await reader.events(conversationId, userId, rows[0].seq - 1, 1)
    return json === undefined ? undefined : (JSON.parse(json) as DurableFrame<'message.new'>)
  }

  return {
    async follow(question, to) {
      const { userId, conversationId, clientMessageId, content, trace } = question
      let answerId: string | undefined
      let isOver = false
      const held: ServerFrame[] = []
      const over = () => {
        if (isOver) return
        isOver = true
        to.ended()
      }
      const pass = (frame: ServerFrame) => {
        if (isOver || !('messageId' in frame) || frame.messageId !== answerId) return
        to.emit(frame)
        if (frame.type === 'chat.done') over()
      }
      const sink: Sink = {
        frame: frame => (answerId === undefined ? void held.push(frame) : pass(frame)),
        unsent: () => to.unsent(),
        ended: over,
      }
      const listened = await listeners.listen(question, conversationId, question.head, sink)
      try {
        const ack = await commands.ask(userId, { type: 'chat.send', conversationId, clientMessageId, content }, trace)
        const { rows } = await db.query<{ answer_id: string; status: string }>(
          'select answer_id, status from ai_run where conversation_id = $1 and question_seq = $2',
          [conversationId, ack.seq],
        )
        if (!rows[0]) throw unavailable('The turn of this message is not known.')
        const found =
          ack.duplicate && rows[0].status === 'ended' ? await answerOf(question, rows[0].answer_id) : undefined
        to.emit(ack)
        answerId = rows[0].answer_id
        const { stream } = listened.joined
        if (found) {
          to.emit(found)
          to.emit(doneOf(found, now()))
          over()
        } else if (stream?.messageId === answerId && stream.content !== '') {
          const ts = new Date(now()).toISOString()
          to.emit({ type: 'chat.stream', ts, conversationId, messageId: answerId, offset: 0, content: stream.content })
        }
        for (const frame of held.splice(0)) pass(frame)
        return { answerId, close: () => listened.close() }
      } catch (error) {
        listened.close()
        throw error
      }
    },

    async isPostponed(answerId) {
      const { rows } = await db.query(
        `select 1 from ai_run where answer_id = $1 and status = 'queued' and started_at is not null`,
        [answerId],
      )
      return rows.length > 0
    },

    async calls(conversationId, answerId) {
      const { rows } = await db.query<{
        tool_name: string
        tool_id: string
        status: ToolCallView['status']
        result: string | null
        is_waiting: boolean
      }>(
        `select name as tool_name, call_id as tool_id, status, case when status <> 'pending' then result::text end as result,
                approval = 'required' and decision is null and status = 'pending' as is_waiting
           from tool_call where conversation_id = $1 and answer_id = $2 order by round, ordinal`,
        [conversationId, answerId],
      )
      return {
        calls: rows.map(({ tool_name, tool_id, status, result }) => ({
          tool_name,
          tool_id,
          status,
          result: result === null ? null : (JSON.parse(result) as unknown),
        })),
        isWaiting: rows.some(row => row.is_waiting),
      }
    },
  }
}

function doneOf(answer: DurableFrame<'message.new'>, now: number): FleetingFrame<'chat.done'> {
  const {
    conversationId,
    messageId,
    seq,
    finish = 'stop',
    tokens = { input: 0, output: 0, total: 0 },
    content,
  } = answer
  return {
    type: 'chat.done',
    ts: new Date(now).toISOString(),
    conversationId,
    messageId,
    seq,
    finish,
    tokens,
    bytes: Buffer.byteLength(content),
    sha256: createHash('sha256').update(content).digest('hex'),
  }
}
