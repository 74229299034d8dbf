/**
 * How an actor says no: an error answer, or a refusal for load that takes later sends of the same socket with it, so that
 * order survives (R2). Refuses to decide when.
 */
import type { Requester } from '#engine/conversation/effects.ts'
import { errorFields, type Failure } from '#protos/errors.ts'
import type { Context } from './context.ts'
import type { Mailbox, Waiting } from './mailbox.ts'
import type { Delivery } from './ports.ts'

/** Milliseconds since the gateway read it. */
export function ageOf({ label, arrivedAt }: Delivery, mono: number): number {
  return label.age + mono - arrivedAt
}

export function isSend({ command }: Waiting): boolean {
  return command.type === 'message.send' || command.type === 'chat.send'
}

export function fail(
  context: Context,
  place: { conversation: string; shard: number },
  to: Requester,
  failure: Failure,
) {
  const frame = { type: 'error', conversationId: place.conversation, ...errorFields(failure) }
  context.letters.answer({ ...place, epoch: context.epochOf(place.shard) ?? 0 }, to, frame)
}

export function refuse(
  { refuser }: Context,
  mailbox: Mailbox,
  delivery: Delivery,
  code: 'UNAVAILABLE' | 'RLIMIT',
  retryAfterMs: number,
): void {
  refuser.overloaded(delivery, code, retryAfterMs)
  const { socket } = delivery.label
  if (socket === 0) return
  // Later sends of the socket that wait here already would overtake the refused one.
  const { linkId } = delivery.origin
  const isLater = (item: Waiting) =>
    item.delivery.label.socket === socket && item.delivery.origin.linkId === linkId && isSend(item)
  for (const item of mailbox.remove(isLater)) refuser.overloaded(item.delivery, code, retryAfterMs)
}
