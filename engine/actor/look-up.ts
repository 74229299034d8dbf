/**
 * Which row of the log answers a command that may have been served before, and how it is found. Refuses to judge it.
 */

import { decidedClientId } from '#engine/conversation/calls.ts'
import type { Asked, Requester } from '#engine/conversation/effects.ts'
import type { Stored } from '#engine/conversation/events.ts'
import { lastSeqOf, type Recent } from '#engine/conversation/recent.ts'
import { answerClientId, runIdOf } from '#engine/conversation/runs.ts'
import type { Command } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'
import { recentIdsMax } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { Waiting } from './mailbox.ts'

/** Reads what a letter's decision asks for; it is not ready until then. `head`: before the read, rows up to it are seen. */
export async function prepare(
  item: Waiting,
  what: Asked,
  conversation: string,
  context: Pick<Context, 'reads' | 'world'>,
  head: number,
): Promise<void> {
  const { command, from } = item
  item.isReady = false
  if (what === 'stored') {
    item.stored = (await lookUp(command, from, conversation, context)) ?? null
    item.lookedUpAt = head
  } else if (what === 'replied') {
    const seq = command.type === 'message.send' ? command.replyTo : undefined
    item.replied = seq !== undefined && (await context.reads.isMessage({ conversation, seq }))
  } else item.blocks = await context.reads.blocksBetween(from.principal, otherOf(command) ?? from.principal)
  item.isReady = true
}

/** A look-up so old that its id may have come and gone among the recent ones since: it is made again. */
export function isStale({ command, stored, lookedUpAt }: Waiting, head: number): boolean {
  return command.type === 'message.status' && stored === null && head - (lookedUpAt ?? 0) > recentIdsMax / 2
}

/** Whether an id like this was stored lately: it would be asked for anyway, one by one. */
export function isKnown(command: Command, recent: Recent): boolean {
  return 'clientMessageId' in command && lastSeqOf(recent, command.clientMessageId) !== undefined
}

/** Whether a served command leaves a row that can be found again. */
export function needsLookUp(command: Command): boolean {
  return command.type === 'chat.stop' || command.type === 'tool.decide' || clientIdOf(command, '') !== undefined
}

async function lookUp(
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
  if (command.type === 'tool.decide') {
    const { callId } = command
    const clientId = decidedClientId(conversation, callId, world)
    const [decided, requester] = await Promise.all([
      reads.stored({ conversation, senderId: assistantId, clientId }),
      reads.requester({ conversation, callId }),
    ])
    return decided && { ...decided, ...(requester === undefined ? {} : { requester }) }
  }
  const clientId = clientIdOf(command, from.attempt)
  return clientId === undefined ? undefined : reads.stored({ conversation, senderId: from.principal, clientId })
}

/** The other of the pair that a dm command names. */
function otherOf(command: Command): string | undefined {
  if (command.type === 'block.set') return command.userId
  return command.type === 'conversation.create' ? command.members[1]?.userId : undefined
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
