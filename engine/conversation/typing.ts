/**
 * Who types: on for five seconds, told at most once in two, never to a blocked dm. Rules Y1–Y4 of SPEC.md.
 * Lives beside the log, not in it.
 */
import { assistantId } from '#protos/ids.ts'
import { typingMs, typingRepeatMs } from '#protos/limits.ts'
import type { Requester } from './effects.ts'
import { isBlocked, isMember, runningOf } from './state.ts'
import type { Step } from './step.ts'

export function typingCommand(step: Step, from: Requester, isStart: boolean): void {
  if (!isMember(step.state, from.principal)) return step.notFound(from)
  if (isBlocked(step.state)) return
  if (isStart) typingOn(step, from.principal)
  else typingEnd(step, from.principal)
}

export function typingOn(step: Step, userId: string): void {
  const before = step.state.typing.get(userId)
  // Only a repeated start is spared the others; one after a stop is news.
  const isDue = !before?.isOn || step.mono - before.sentAt >= typingRepeatMs
  const until = step.mono + typingMs
  const sentAt = isDue ? step.mono : before.sentAt
  step.set({ typing: new Map(step.state.typing).set(userId, { until, sentAt, isOn: true }) })
  if (isDue) step.push({ kind: 'typing', userId, on: true })
}

export function typingEnd(step: Step, userId: string): void {
  const before = step.state.typing.get(userId)
  if (!before?.isOn) return
  step.set({ typing: new Map(step.state.typing).set(userId, { ...before, isOn: false }) })
  step.push({ kind: 'typing', userId, on: false })
}

/** Ends what ran out. The assistant goes on typing while its turn has shown nothing. */
export function typingTick(step: Step): void {
  for (const [userId, typing] of step.state.typing) {
    if (typing.until > step.mono) continue
    const run = userId === assistantId ? runningOf(step.state) : undefined
    if (typing.isOn && run && run.bytes === 0) {
      typingOn(step, userId)
      continue
    }
    typingEnd(step, userId)
    const rest = new Map(step.state.typing)
    rest.delete(userId)
    step.set({ typing: rest })
  }
}
