/** The title of a conversation that nobody has given one: which it has at first, and how the assistant gives it one (T23). */
import { assistantId, nameId } from '#protos/ids.ts'
import type { RunEvent } from './events.ts'
import type { State } from './state.ts'
import type { Step } from './step.ts'

export const defaultTitle = 'New Conversation'

/** Only those that are a person's and the assistant's are given one: in a group a title is the members' own. */
export function lacksTitle(state: State): boolean {
  return state.exists && !state.isDeleted && state.kind === 'ai' && state.title === defaultTitle
}

export function titled(step: Step, { runId, title }: Extract<RunEvent, { kind: 'run.titled' }>): void {
  if (!lacksTitle(step.state) || title === defaultTitle) return
  step.append({
    kind: 'room.updated',
    senderId: assistantId,
    clientId: nameId(runId, 'titled', step.world.sha1),
    messageId: nameId(runId, 'titled-event', step.world.sha1),
    fields: { title, by: assistantId },
    trace: '',
  })
  step.set({ title })
  step.push({ kind: 'side', change: { kind: 'conversation.updated', title } })
}
