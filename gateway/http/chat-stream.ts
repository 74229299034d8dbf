/**
 * A turn as server-sent events: its frames in their order, and why it failed where it did, before its end. Owns what waits
 * until it can be written. Refuses to end a turn: it goes on when the reader leaves.
 */
import type { ServerResponse } from 'node:http'
import type { FleetingFrame, ServerFrame } from '#protos/catalogue.ts'
import { chatHeartbeatMs } from '#protos/limits.ts'
import type { ChatTurns, Question } from './chat-turn.ts'
import type { Answer } from './route.ts'
import type { Usage } from './usage.ts'

/** Each frame as an event of its type. */
export async function streamed(turns: ChatTurns, usage: Usage, question: Question, now: () => number): Promise<Answer> {
  /** Frames that cannot be written yet: nobody reads, or it is being found out why the turn failed. */
  const held: ServerFrame[] = []
  let out: ServerResponse | undefined
  let isAsking = false
  let isFirst = false
  let isOver = false
  let heartbeat: NodeJS.Timeout | undefined
  const flush = () => {
    if (!out || isAsking) return
    for (const frame of held.splice(0)) out.write(`event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`)
    if (!isOver) return
    clearInterval(heartbeat)
    close()
    out.end()
  }
  const { close } = await turns.follow(question, {
    emit(frame) {
      if (frame.type === 'ack') isFirst = frame.duplicate !== true
      const at = held.push(frame) - 1
      if (frame.type === 'message.new' && frame.finish === 'failed' && isFirst) {
        isAsking = true
        void failureOf(usage, question, frame.messageId, now).then(error => {
          held.splice(at, 0, error)
          isAsking = false
          flush()
        })
      }
      flush()
    },
    unsent: () => out?.writableLength ?? 0,
    ended() {
      isOver = true
      flush()
    },
  })
  return {
    status: 200,
    stream(response) {
      out = response
      // A comment now and then keeps proxies from closing a turn that waits for a person.
      heartbeat = setInterval(() => response.write(': \n\n'), chatHeartbeatMs).unref()
      response.on('close', () => {
        out = undefined
        clearInterval(heartbeat)
        close()
      })
      flush()
    },
  }
}

/** Why a turn failed, as a socket of its requester is told. */
async function failureOf(
  usage: Usage,
  { userId, conversationId, trace }: Question,
  messageId: string,
  now: () => number,
): Promise<FleetingFrame<'error'>> {
  const refusal = await usage.refusalOf(userId, messageId).catch(() => undefined)
  const { left, needed } = refusal?.details ?? {}
  const why = refusal
    ? {
        code: 'RLIMIT' as const,
        reason: 'budget',
        message: `${refusal.message} ${left} left, this needs up to ${needed}.`,
        retryAfterMs: refusal.retryAfterMs ?? 0,
      }
    : { code: 'UPSTREAM' as const, message: 'The model could not answer.' }
  const ts = new Date(now()).toISOString()
  return { type: 'error', ts, conversationId, traceId: trace, messageId, retryable: true, ...why }
}
