/**
 * Which row of the log answers a command that may have been served before, and how it is found. Refuses to judge it.
 */
import type { Requester } from '#engine/conversation/effects.ts'
import type { Stored } from '#engine/conversation/events.ts'
import { answerClientId, runIdOf } from '#engine/conversation/runs.ts'
import type { Command } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import type { Context } from './context.ts'

/** Whether a served command leaves a row that can be found again. */
export function needsLookUp(command: Command): boolean {
  return command.type === 'chat.stop' || clientIdOf(command, '') !== undefined
}

export async function lookUp(
  command: Command,
  from: Requester,
  conversation: string,
  { reads, world }: Pick<Context, 'reads' | 'world'>,
): Promise<Stored | undefined> {
  if (command.type === 'chat.stop') {
    // The id may be the question's, from which the answer's row has its client id, or the answer's own.
    const { messageId } = command
    const clientId = answerClientId(runIdOf(messageId, world), world)
    const [byQuestion, byAnswer] = await Promise.all([
      reads.stored({ conversation, senderId: assistantId, clientId }),
      reads.message({ conversation, messageId }),
    ])
    return byQuestion ?? (byAnswer?.senderId === assistantId ? byAnswer : undefined)
  }
  const clientId = clientIdOf(command, from.attempt)
  return clientId === undefined ? undefined : reads.stored({ conversation, senderId: from.principal, clientId })
}

function clientIdOf(command: Command, attempt: string): string | undefined {
  switch (command.type) {
    case 'message.send':
    case 'chat.send':
    case 'message.status':
      return command.clientMessageId
    case 'conversation.create':
    case 'conversation.update':
    case 'member.add':
    case 'member.remove':
    case 'member.role':
      return attempt
    default:
      return undefined
  }
}
