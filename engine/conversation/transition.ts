/**
 * The conversation's one machine: transition(state, event, world) → state and effects. The switch is here, the leaves
 * compute. Same state, event and world: same answer. SPEC.md holds the rules.
 */

import type { Command, CommandType } from '#protos/catalogue.ts'
import { deliveredEveryMs, receiptMembersMax } from '#protos/limits.ts'
import { decide } from './decide.ts'
import type { Effect } from './effects.ts'
import type { CommandEvent, Event, World } from './events.ts'
import { add, block, changeRole, create, destroy, remove, update } from './members.ts'
import { receiptDelivered, receiptRead, receiptsOfSends, receiptTick } from './receipts.ts'
import { addedSends, foldRecent } from './recent.ts'
import { assistantTypes, runStep, stop } from './runs.ts'
import { send, status } from './send.ts'
import { isMember, type State } from './state.ts'
import { Step } from './step.ts'
import { typingCommand, typingEnd, typingTick } from './typing.ts'

export interface Decision {
  state: State
  effects: Effect[]
}

export function transition(state: State, event: Event, world: World): Decision {
  const step = new Step(state, world, event)
  switch (event.kind) {
    case 'command':
      onCommand(step, event)
      break
    case 'run.start':
    case 'run.waiting':
    case 'run.delta':
    case 'run.called':
    case 'run.returned':
    case 'run.postponed':
    case 'run.titled':
    case 'run.expired':
    case 'run.end':
      runStep(step, event)
      break
    case 'tick':
      typingTick(step)
      receiptTick(step)
      break
    case 'settled':
      settle(step, state, event.draft)
      break
    default:
      event satisfies never
  }
  return { state: step.state, effects: step.effects }
}

/** Whether a command waits its turn in the mailbox; the others act at once on what is committed. */
export function isOrdered(type: CommandType): boolean {
  switch (type) {
    case 'typing.start':
    case 'typing.stop':
    case 'receipt.read':
    case 'receipt.delivered':
    case 'room.join':
      return false
    default:
      return true
  }
}

function onCommand(step: Step, event: CommandEvent): void {
  const { command, from } = event
  if (isEventCommand(command) && event.stored) {
    // The same attempt, replayed by its gateway: the first answer was lost, the event was not (D5).
    return step.ack(from, { messageId: event.stored.messageId, seq: event.stored.seq, duplicate: false })
  }
  if (event.isExpired && isEventCommand(command)) {
    return step.push({ kind: 'refuse', to: from, code: 'UNAVAILABLE', retryAfterMs: 1000 })
  }
  switch (command.type) {
    case 'message.send':
    case 'chat.send':
      return send(step, { ...event, command })
    case 'message.status':
      return status(step, { ...event, command })
    case 'chat.stop':
      return stop(step, { ...event, command })
    case 'tool.decide':
      return decide(step, { ...event, command })
    case 'conversation.create':
      return create(step, { ...event, command })
    case 'conversation.update':
      return update(step, { ...event, command })
    case 'conversation.delete':
      return destroy(step, { ...event, command })
    case 'member.add':
      return add(step, { ...event, command })
    case 'member.remove':
      return remove(step, { ...event, command })
    case 'member.role':
      return changeRole(step, { ...event, command })
    case 'block.set':
      return block(step, { ...event, command })
    case 'typing.start':
    case 'typing.stop':
      return typingCommand(step, from, command.type === 'typing.start')
    case 'receipt.read':
      return receiptRead(step, { ...event, command })
    case 'receipt.delivered':
      return receiptDelivered(step, { ...event, command })
    case 'room.join':
      if (!isMember(step.state, from.principal)) return step.notFound(from)
      return step.push({ kind: 'join', to: from, afterSeq: command.afterSeq })
    case 'message.edit':
    case 'message.delete':
    case 'reaction.add':
    case 'reaction.remove':
      return step.fail(from, { code: 'VALIDATION', field: 'type', message: `${command.type} is not available yet` })
    default:
      command satisfies never
  }
}

/** Commands whose own attempt id is the client id of the event they make. */
function isEventCommand(command: Command): boolean {
  switch (command.type) {
    case 'conversation.create':
    case 'conversation.update':
    case 'conversation.delete':
    case 'member.add':
    case 'member.remove':
    case 'member.role':
    case 'block.set':
      return true
    default:
      return false
  }
}

/** The draft is the log's now; what is fleeting went on meanwhile and is kept. */
function settle(step: Step, before: State, draft: State): void {
  const sends = addedSends(draft.recent)
  let { positions, typing } = before
  if (draft.members !== before.members) {
    positions = new Map([...positions].filter(([userId]) => draft.members.has(userId)))
    typing = new Map([...typing].filter(([userId]) => draft.members.has(userId) || !before.members.has(userId)))
  }
  step.set({ ...draft, positions, typing, recent: foldRecent(draft.recent, step.world.rules.recentIdsMax) })
  receiptsOfSends(step, sends)
  if (typing.size > 0) for (const { senderId } of sends) typingEnd(step, senderId)
  assistantTypes(step, before)
}

/** Monotonic ms at which time alone changes something here; undefined when it does not. */
export function wakeAt(state: State): number | undefined {
  let at = Number.POSITIVE_INFINITY
  for (const t of state.typing.values()) at = Math.min(at, t.until)
  if (state.members.size <= receiptMembersMax) {
    for (const p of state.positions.values()) if (p.isOwed) at = Math.min(at, p.sentAt + deliveredEveryMs)
  }
  return at === Number.POSITIVE_INFINITY ? undefined : at
}
