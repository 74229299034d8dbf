/**
 * Commands of REST to the engine: one letter, one answer, failures as refusals. An outcome that stays unknown is 503 and
 * says so: the caller may try again with the same id. Refuses to decide what a command may do; the actor does.
 */
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import { Refusal, refusalOf, unavailable } from '#gateway/auth/failure.ts'
import { type Command, type FleetingFrame, parseCommand } from '#protos/catalogue.ts'
import { restAnswerMsMax } from '#protos/limits.ts'

export interface Commands {
  /** Resolves with the ack; throws a Refusal for an error frame or an unknown outcome. */
  ask(principal: string, command: Command, trace: string): Promise<FleetingFrame<'ack'>>
  /** A command without an answer: typing and receipts. */
  tell(principal: string, command: Command, trace: string): void
}

const utf8 = new TextEncoder()

export function createCommands(options: {
  engine: Pick<EngineClient, 'request' | 'command'>
  clock: Clock
  groupMembersMax: number
  answerMsMax?: number
  /** Told of each command that changed who is where: for the audit trail. Must not throw. */
  onChanged?: (principal: string, command: Command, trace: string) => void
}): Commands {
  const { engine, clock, groupMembersMax, answerMsMax = restAnswerMsMax, onChanged = () => {} } = options

  /** The engine validates again and counts what fails there as a fault of ours: so nothing bad may leave here. */
  function bytesOf(command: Command): Uint8Array {
    const text = JSON.stringify(command)
    const parsed = parseCommand(text)
    if ('frame' in parsed) return utf8.encode(text)
    throw new Refusal(
      400,
      'INVALID_REQUEST',
      'The request is not valid.',
      parsed.field === undefined ? undefined : { field: snake(parsed.field) },
    )
  }

  return {
    async ask(principal, command, trace) {
      const answer = await engine.request(
        {
          conversation: command.conversationId,
          principal,
          attempt: clock.id(),
          trace,
          body: bytesOf(command),
          durable: true,
        },
        answerMsMax,
      )
      if (answer === undefined) {
        const refusal = unavailable('It is not known yet whether this was stored. Try again with the same id.')
        throw new Refusal(503, refusal.code, refusal.message, { outcome: 'unknown' }, refusal.retryAfterMs)
      }
      const frame = JSON.parse(answer) as FleetingFrame<'ack'> | FleetingFrame<'error'>
      if (frame.type === 'ack') {
        if (!frame.duplicate) onChanged(principal, command, trace)
        return frame
      }
      throw refusalOf(
        frame.code,
        frame.message,
        {
          ...(frame.field === undefined ? {} : { field: snake(frame.field) }),
          ...(frame.reason === undefined ? {} : { reason: frame.reason }),
          ...(frame.reason === 'GROUP_FULL' ? { limit: groupMembersMax } : {}),
        },
        frame.retryAfterMs,
      )
    },

    tell(principal, command, trace) {
      engine.command({
        conversation: command.conversationId,
        principal,
        socket: 0,
        attempt: clock.id(),
        trace,
        body: bytesOf(command),
        durable: false,
        readAt: clock.mono(),
      })
    },
  }
}

function snake(field: string): string {
  return field.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}
