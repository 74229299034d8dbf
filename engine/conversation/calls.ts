/**
 * Calls of tools within a turn: announced before any is made, returned once, round after round. Rules T13, T16–T20 of
 * SPEC.md. Refuses to make a call or to know a tool: results come in as events.
 */
import { assistantId, nameId } from '#protos/ids.ts'
import { approvalMsMax, toolResultBytesMax } from '#protos/limits.ts'
import type { ToolStatus } from './effects.ts'
import type { RunEvent, World } from './events.ts'
import { type Run, replaceRun, type ToolCall } from './state.ts'
import type { Step } from './step.ts'

type Called = Extract<RunEvent, { kind: 'run.called' }>['calls']

/** The next round's number: 0 before any. */
export function roundOf(run: Run): number {
  return run.calls.length === 0 ? 0 : run.calls.at(-1)!.round + 1
}

/** Whether nothing of the model is under way in the log: the turn can go on from here, whoever owns it (T19). */
export function isAtTools(run: Run): boolean {
  return run.calls.length > 0 && run.bytes === run.calls.at(-1)!.atBytes
}

export function isUndecided(call: ToolCall): boolean {
  return call.status === 'pending' && call.approval === 'required' && call.decision === null
}

export function called(step: Step, run: Run, calls: Called): void {
  const round = roundOf(run)
  const fresh: ToolCall[] = calls.map(({ repeats: _, ...call }, ordinal) => ({
    ...call,
    round,
    ordinal,
    // What only repeats an earlier call makes no effect, so nobody is asked.
    approval: _ === undefined ? call.approval : 'auto',
    expiresAt: _ === undefined && call.approval === 'required' ? step.at + approvalMsMax : null,
    atBytes: run.bytes,
    decision: null,
    status: 'pending',
    result: null,
  }))
  for (const call of fresh) {
    step.append({
      ...stepRow(run, 'called', call.callId, step.world),
      fields: {
        callId: call.callId,
        messageId: run.answerId,
        name: call.name,
        arguments: JSON.parse(call.arguments) as unknown,
        approval: call.approval,
      },
      trace: run.trace,
    })
    const { decision: _d, status: _s, result: _r, ...row } = call
    step.push({
      kind: 'side',
      change: {
        kind: 'tool.called',
        runId: run.id,
        answerId: run.answerId,
        requester: run.requester,
        call: row,
        at: step.at,
      },
    })
  }
  const grown = settleStatus(step, { ...run, calls: [...run.calls, ...fresh] })
  const repeated = calls.flatMap(({ callId, repeats }) => {
    const first = run.calls.find(c => c.callId === repeats)
    return first && first.status !== 'pending' ? [{ callId, status: first.status, result: first.result! }] : []
  })
  if (repeated.length > 0) returned(step, grown, repeated)
}

export function returned(
  step: Step,
  run: Run,
  results: readonly { callId: string; status: ToolStatus; result: string }[],
): Run {
  let calls = run.calls
  for (const { callId, status, result } of results) {
    const call = calls.find(c => c.callId === callId)
    if (call?.status !== 'pending') continue
    step.append({
      ...stepRow(run, 'returned', callId, step.world),
      fields: {
        callId,
        messageId: run.answerId,
        name: call.name,
        status,
        result: JSON.parse(result) as unknown,
      },
      trace: run.trace,
    })
    step.push({
      kind: 'side',
      change: { kind: 'tool.returned', runId: run.id, callId, status, result, at: step.at },
    })
    calls = calls.map(c => (c.callId === callId ? { ...c, status, result } : c))
  }
  return settleStatus(step, { ...run, calls })
}

/** A decision, by a person or (null) by nobody in time; one against it returns at once. */
export function decided(
  step: Step,
  run: Run,
  callId: string,
  decision: 'approve' | 'reject',
  by: string | null,
): { seq: number; messageId: string } {
  const row = step.append({
    ...stepRow(run, 'decided', callId, step.world),
    clientId: decidedClientId(step.state.id, callId, step.world),
    fields: {
      callId,
      messageId: run.answerId,
      name: run.calls.find(c => c.callId === callId)!.name,
      decision,
      ...(by === null ? {} : { by }),
    },
    trace: run.trace,
    hash: decisionHash(callId, decision, step.world),
  })
  step.push({ kind: 'side', change: { kind: 'tool.decided', runId: run.id, callId, decision, by, at: step.at } })
  const calls = run.calls.map(c => (c.callId === callId ? { ...c, decision } : c))
  const next = settleStatus(step, { ...run, calls })
  if (decision === 'reject') {
    const message = by === null ? 'Nobody allowed it in time.' : 'The person who was asked did not allow it.'
    returned(step, next, [refusal(callId, message)])
  }
  return row
}

export function expired(step: Step, run: Run, callIds: readonly string[]): void {
  for (const callId of callIds) {
    const now = step.state.runs.find(r => r.id === run.id) ?? run
    const call = now.calls.find(c => c.callId === callId)
    if (call && isUndecided(call)) decided(step, now, callId, 'reject', null)
  }
}

/** The turn ends: what is open is answered, so that no call stands for ever (T20). */
export function closed(step: Step, run: Run): Run {
  const open = run.calls.filter(c => c.status === 'pending')
  if (open.length === 0) return run
  return returned(
    step,
    run,
    open.map(c => refusal(c.callId, 'The turn ended before its result was known.', 'OperationFailed')),
  )
}

/** Of the answer's event; results as long as they fit. */
export function toolCallsOf(calls: readonly ToolCall[]) {
  let left = toolResultBytesMax
  return calls.map(({ callId, name, status, result }) => {
    left -= result?.length ?? 0
    return { callId, name, status, ...(result === null || left < 0 ? {} : { result: JSON.parse(result) as unknown }) }
  })
}

/** The client id under which a decision is stored: one for each call, whoever decides. */
export function decidedClientId(conversation: string, callId: string, world: Pick<World, 'sha1'>): string {
  return nameId(conversation, `decided ${callId}`, world.sha1)
}

/** The digest by which two decisions on a call are the same (T15). */
export function decisionHash(callId: string, decision: string, world: Pick<World, 'sha256'>): string {
  return world.sha256(JSON.stringify(['tool.decided', callId, decision]))
}

function refusal(callId: string, message: string, error = 'Unauthorized') {
  return { callId, status: 'error' as const, result: JSON.stringify({ success: false, error, message }) }
}

function stepRow(run: Run, what: 'called' | 'decided' | 'returned', callId: string, world: Pick<World, 'sha1'>) {
  return {
    kind: `tool.${what}` as const,
    senderId: assistantId,
    clientId: nameId(run.id, `${what} ${callId}`, world.sha1),
    messageId: nameId(run.id, `${what}-event ${callId}`, world.sha1),
  }
}

/** A turn waits while somebody is to decide. */
function settleStatus(step: Step, run: Run): Run {
  const status = run.calls.some(isUndecided) ? 'waiting' : 'running'
  if (status !== run.status) step.push({ kind: 'side', change: { kind: 'run.status', runId: run.id, status } })
  const next: Run = { ...run, status }
  replaceRun(step, next)
  return next
}
