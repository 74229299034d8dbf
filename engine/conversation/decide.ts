/**
 * Decisions on calls that need approval: who may, what is the same decision again, what comes too late. Rules T14 and T15
 * of SPEC.md. A decision belongs to one call, and so to its turn, its requester and its exact arguments.
 */
import type { Command } from '#protos/catalogue.ts'
import { decided, decisionHash, isUndecided } from './calls.ts'
import type { CommandEvent } from './events.ts'
import { isMember, type State } from './state.ts'
import type { Step } from './step.ts'

export function decide(step: Step, event: CommandEvent<Command<'tool.decide'>>): void {
  const { command, from } = event
  const { callId, decision } = command
  const { state } = step
  if (!isMember(state, from.principal)) return step.notFound(from)
  const run = state.runs.find(r => r.calls.some(c => c.callId === callId && c.approval === 'required'))
  if (run && !mayDecide(state, run.requester, from.principal)) {
    return step.fail(from, { code: 'FORBIDDEN', message: 'others decide on this call' })
  }
  const call = run?.calls.find(c => c.callId === callId)
  if (run && call && isUndecided(call)) {
    // Its end is an event of its own, owed to the log already.
    if (step.at >= (call.expiresAt ?? 0)) return step.fail(from, { code: 'CONFLICT', message: 'it is too late' })
    const { seq, messageId } = decided(step, run, callId, decision, from.principal)
    return step.ack(from, { messageId, seq, duplicate: false })
  }
  // Decided already, perhaps before this activation: the log says how.
  if (event.stored === undefined) return step.push({ kind: 'ask', what: 'stored' })
  if (event.stored === null) return step.fail(from, { code: 'NOT_FOUND', field: 'callId', message: 'no such call' })
  const { requester } = event.stored
  if (requester !== undefined && !mayDecide(state, requester, from.principal)) {
    return step.fail(from, { code: 'FORBIDDEN', message: 'others decide on this call' })
  }
  const hash = decisionHash(callId, decision, step.world)
  if (hash !== event.stored.bodyHash) {
    return step.fail(from, { code: 'CONFLICT', message: 'it was decided otherwise' })
  }
  step.ack(from, { messageId: event.stored.messageId, seq: event.stored.seq, duplicate: true })
}

/** The requester, or whom the room's policy names. */
function mayDecide(state: State, requester: string, userId: string): boolean {
  if (userId === requester) return true
  switch (state.toolPolicy) {
    case 'requester':
      return false
    case 'admins':
      return state.members.get(userId)?.role !== 'member'
    case 'members':
      return true
    default:
      return state.toolPolicy satisfies never
  }
}
