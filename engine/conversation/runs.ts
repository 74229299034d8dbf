/**
 * Turns of the assistant: queued with their question, one running, text stored before it is shown, one ending each.
 * Rules T1–T12 of SPEC.md. Refuses to know the provider or a timer: starts, deltas and ends come in as events.
 */
import type { Command, Finish } from '#protos/catalogue.ts'
import { assistantId, nameId, stepNamespace } from '#protos/ids.ts'
import { toolCallsPerTurnMax, toolRoundsMax, turnsQueuedMax } from '#protos/limits.ts'
import { called, closed, expired, returned, roundOf, toolCallsOf } from './calls.ts'
import type { Requester } from './effects.ts'
import type { CommandEvent, RunEvent, Tokens, World } from './events.ts'
import { isMember, type Run, replaceRun as replace, runningOf, type State } from './state.ts'
import type { Step } from './step.ts'
import { titled } from './title.ts'
import { typingEnd, typingOn } from './typing.ts'

const endedRunsMax = 32

export function runIdOf(questionId: string, world: Pick<World, 'sha1'>): string {
  return nameId(stepNamespace, questionId, world.sha1)
}

/** The client id under which the answer of a run is stored: the log refuses a second one. */
export function answerClientId(runId: string, world: Pick<World, 'sha1'>): string {
  return nameId(runId, 'answer', world.sha1)
}

export function queueIsFull(state: State): boolean {
  return state.runs.length >= 1 + turnsQueuedMax
}

export function queueRun(
  step: Step,
  question: { requester: string; questionId: string; questionSeq: number; clientMessageId: string; trace: string },
): void {
  const row = {
    ...question,
    id: runIdOf(question.questionId, step.world),
    answerId: step.world.id(),
    status: 'queued' as const,
    createdAt: step.at,
  }
  step.push({ kind: 'side', change: { kind: 'run.queued', run: row } })
  const isBehind = step.state.runs.length > 0
  step.set({ runs: [...step.state.runs, { ...row, text: '', bytes: 0, isTold: isBehind, calls: [] }] })
  if (isBehind) tellPlace(step, step.state.runs.at(-1)!)
}

/** The message is stored and acked; only the turn is not taken. To that socket alone, and REST has none. */
export function tellBusy(step: Step, from: Requester, messageId: string): void {
  if (from.socket === 0) return
  step.push({
    kind: 'user',
    userId: from.principal,
    frame: {
      type: 'error',
      conversationId: step.state.id,
      code: 'BUSY',
      message: 'too many turns wait here',
      retryable: true,
      retryAfterMs: 2000,
      messageId,
    },
    only: from,
  })
}

export function runStep(step: Step, event: RunEvent): void {
  if (event.kind === 'run.titled') return titled(step, event)
  const run = step.state.runs.find(r => r.id === event.runId)
  // A late event of a run that ended meanwhile (stopped, deleted) changes nothing: each run ends once (T9).
  if (!run) return
  switch (event.kind) {
    case 'run.start':
      return start(step, run, event.model)
    case 'run.waiting':
      if (run.status === 'queued' && !run.isTold) {
        tellPlace(step, run)
        replace(step, { ...run, isTold: true })
      }
      return
    case 'run.delta':
      if (run.status === 'running') grow(step, run, event.text)
      return
    case 'run.called': {
      if (run.status !== 'running') return
      const grown = grow(step, run, event.text)
      const isSpent = roundOf(grown) >= toolRoundsMax || grown.calls.length + event.calls.length > toolCallsPerTurnMax
      if (isSpent) return end(step, grown, 'tool_limit', event.tokens)
      return called(step, grown, event.calls)
    }
    case 'run.returned':
      returned(step, run, event.results)
      return
    case 'run.postponed':
      if (run.status !== 'running') return
      step.push({ kind: 'side', change: { kind: 'run.status', runId: run.id, status: 'queued' } })
      replace(step, { ...run, status: 'queued', isTold: true })
      return tellMoves(step)
    case 'run.expired':
      return expired(step, run, event.callIds)
    case 'run.end': {
      const grown = event.text === '' ? run : grow(step, run, event.text)
      if (event.reason !== undefined) {
        step.push({
          kind: 'user',
          userId: run.requester,
          frame: {
            type: 'error',
            conversationId: step.state.id,
            code: event.refusal ? 'RLIMIT' : 'UPSTREAM',
            reason: event.reason,
            message: 'the model did not finish its answer',
            retryable: true,
            ...event.refusal,
            messageId: run.answerId,
          },
        })
      }
      return end(step, grown, event.finish, event.tokens)
    }
    default:
      event satisfies never
  }
}

function start(step: Step, run: Run, model: string): void {
  if (run.status !== 'queued' || runningOf(step.state)) return
  if (typeof run.startedAt === 'number') {
    // It waited for the model in between; that it began is in the log.
    step.push({ kind: 'side', change: { kind: 'run.status', runId: run.id, status: 'running' } })
  } else {
    step.append({
      kind: 'chat.started',
      senderId: assistantId,
      clientId: nameId(run.id, 'started', step.world.sha1),
      messageId: nameId(run.id, 'started-event', step.world.sha1),
      fields: { messageId: run.answerId, inReplyTo: run.questionSeq, requestedBy: run.requester, model },
      trace: run.trace,
    })
    step.push({ kind: 'side', change: { kind: 'run.started', runId: run.id, model, at: step.at } })
  }
  step.push({ kind: 'run.begin', runId: run.id })
  const running: Run = { ...run, status: 'running', startedAt: run.startedAt ?? step.at }
  step.set({ runs: [running, ...step.state.runs.filter(r => r.id !== run.id)] })
  tellMoves(step)
}

function grow(step: Step, run: Run, text: string): Run {
  if (text === '') return run
  const bytes = step.world.utf8Bytes(text)
  step.push({ kind: 'segment', segment: { runId: run.id, offset: run.bytes, text } })
  step.push({ kind: 'delta', answerId: run.answerId, offset: run.bytes, text, bytes, trace: run.trace })
  const grown = { ...run, text: run.text + text, bytes: run.bytes + bytes }
  replace(step, grown)
  return grown
}

/** The one ending of a run (T9): its message, its row, its slot, then chat.done and everybody who stopped it. */
export function end(step: Step, run: Run, finish: Finish, tokens: Tokens): void {
  const { calls } = closed(step, run)
  const { seq } = step.append({
    kind: 'message.new',
    senderId: assistantId,
    clientId: answerClientId(run.id, step.world),
    messageId: run.answerId,
    fields: {
      messageId: run.answerId,
      senderId: assistantId,
      role: 'assistant',
      content: run.text,
      ...(calls.length > 0 ? { toolCalls: toolCallsOf(calls) } : {}),
      tokens,
      finish,
      inReplyTo: run.questionSeq,
    },
    trace: run.trace,
  })
  step.push({ kind: 'side', change: { kind: 'run.ended', runId: run.id, finish, bytes: run.bytes, at: step.at } })
  step.push({
    kind: 'done',
    answerId: run.answerId,
    frame: {
      type: 'chat.done',
      conversationId: step.state.id,
      messageId: run.answerId,
      seq,
      finish,
      tokens,
      bytes: run.bytes,
      sha256: step.world.sha256(run.text),
    },
    trace: run.trace,
  })
  for (const to of step.state.stops.get(run.id) ?? []) step.ack(to, { messageId: run.answerId, seq, duplicate: false })
  const stops = new Map(step.state.stops)
  stops.delete(run.id)
  const ended = [{ questionId: run.questionId, answerId: run.answerId, seq }, ...step.state.ended]
  const place = step.state.runs.findIndex(r => r.id === run.id)
  step.set({ runs: step.state.runs.filter(r => r.id !== run.id), stops, ended: ended.slice(0, endedRunsMax) })
  if (run.status === 'queued') tellMoves(step, place)
}

/** Any member may stop any turn, by the answer's id or the question's (T7, T8). */
export function stop(step: Step, event: CommandEvent<Command<'chat.stop'>>): void {
  const { command, from } = event
  const { messageId } = command
  const { state } = step
  if (!isMember(state, from.principal)) return step.notFound(from)
  const run = state.runs.find(r => r.answerId === messageId || r.questionId === messageId)
  if (run && run.status === 'queued') {
    step.set({ stops: new Map(state.stops).set(run.id, [...(state.stops.get(run.id) ?? []), from]) })
    return end(step, run, 'stopped', noTokens)
  }
  if (run) {
    step.set({ stops: new Map(state.stops).set(run.id, [...(state.stops.get(run.id) ?? []), from]) })
    return step.push({ kind: 'run.abort', runId: run.id })
  }
  const ended = state.ended.find(r => r.answerId === messageId || r.questionId === messageId)
  if (ended) return step.ack(from, { messageId: ended.answerId, seq: ended.seq, duplicate: true })
  if (event.stored === undefined) return step.push({ kind: 'ask', what: 'stored' })
  if (event.stored) {
    return step.ack(from, { messageId: event.stored.messageId, seq: event.stored.seq, duplicate: true })
  }
  step.fail(from, { code: 'NOT_FOUND', field: 'messageId', message: 'no such turn' })
}

/** The conversation goes: every turn ends with what it has (C7). */
export function endAll(step: Step): void {
  for (const run of step.state.runs) {
    if (run.status !== 'queued') step.push({ kind: 'run.abort', runId: run.id })
    end(step, run, 'stopped', estimateTokens(run))
  }
}

export const noTokens: Tokens = { input: 0, output: 0, total: 0 }

/** Tokens of an answer whose provider did not say: four characters each. */
export function estimateTokens(run: Pick<Run, 'text'>): Tokens {
  const output = Math.ceil(run.text.length / 4)
  return { input: 0, output, total: output }
}

/** While a turn runs and has shown nothing, the assistant types. */
export function assistantTypes(step: Step, before: State): void {
  const now = runningOf(step.state)
  const then = runningOf(before)
  const isThinking = now !== undefined && now.bytes === 0
  const wasThinking = then !== undefined && then.bytes === 0
  if (isThinking && now.id !== then?.id) typingOn(step, assistantId)
  else if (!isThinking && wasThinking) typingEnd(step, assistantId)
}

function tellPlace(step: Step, run: Run): void {
  const queued = step.state.runs.filter(r => r.status === 'queued')
  const position = queued.findIndex(r => r.id === run.id) + 1
  if (position === 0) return
  const { clientMessageId, requester } = run
  step.push({
    kind: 'user',
    userId: requester,
    frame: { type: 'chat.queued', conversationId: step.state.id, clientMessageId, position },
  })
}

/** Turns from this place on have moved; those before have not. */
function tellMoves(step: Step, from = 0): void {
  for (const run of step.state.runs.slice(from)) if (run.status === 'queued') tellPlace(step, run)
}
