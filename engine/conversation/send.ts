/**
 * Sends (message.send, chat.send) and message.status: who may, what is a duplicate, which number it gets.
 * Rules S1–S9 and D1–D6 of SPEC.md. Refuses to look anything up: what the log must say is asked for.
 */
import type { Command } from '#protos/catalogue.ts'
import { timeOfId } from '#protos/ids.ts'
import { equalTextsWindowMs } from '#protos/limits.ts'
import { mentionsAssistant } from '#protos/mention.ts'
import type { CommandEvent, Stored, World } from './events.ts'
import { addRecent, equalTexts, findInDraft, isInDraft, lastSeqOf, textKeyOf } from './recent.ts'
import { queueIsFull, queueRun, tellBusy } from './runs.ts'
import { isBlocked, isMember } from './state.ts'
import type { Step } from './step.ts'

type Send = Command<'message.send' | 'chat.send'>
type Status = Command<'message.status'>

/** The digest by which two sends under one id are the same send (D3). */
export function sendHash(command: Send, world: Pick<World, 'sha256'>): string {
  const { replyTo = null, attachments = [] } = command.type === 'message.send' ? command : {}
  return world.sha256(JSON.stringify([command.type, command.content, replyTo, attachments]))
}

export function send(step: Step, event: CommandEvent<Send>): void {
  const { command, from } = event
  const { principal } = from
  const { clientMessageId } = command
  const hash = sendHash(command, step.world)
  const known = findInDraft(step.state.recent, principal, clientMessageId) ?? storedAs(event.stored)
  if (!known && mustAsk(step, event)) return step.push({ kind: 'ask', what: 'stored' })
  const isSame = known?.hash === hash
  // Whoever was removed since is still told of what was stored before: a refusal would say that it never will be.
  if (!isSame && !isMember(step.state, principal)) return step.notFound(from)
  if (known) {
    if (!isSame) {
      return step.fail(from, {
        code: 'IDEMPOTENCY_CONFLICT',
        message: 'this clientMessageId was used for another send',
      })
    }
    return step.ack(from, { clientMessageId, messageId: known.messageId, seq: known.seq, duplicate: true })
  }
  const idTime = timeOfId(clientMessageId)
  if (idTime !== undefined && idTime < event.at - step.world.rules.idempotencyDays * 86_400_000) {
    if (event.stored === undefined) return step.push({ kind: 'ask', what: 'stored' })
    return step.fail(from, { code: 'IDEMPOTENCY_EXPIRED', message: 'this clientMessageId is too old to be sent' })
  }
  if (!maySend(step, event)) return
  if (event.isExpired) return step.push({ kind: 'refuse', to: from, code: 'UNAVAILABLE', retryAfterMs: 1000 })
  const textKey = textKeyOf(principal, command.content)
  const equal = equalTexts(step.state.recent, textKey, event.mono)
  if (equal.length >= step.world.rules.equalTextsMax) {
    const freedIn = equal[equal.length - step.world.rules.equalTextsMax]! + equalTextsWindowMs - event.mono
    return step.push({ kind: 'refuse', to: from, code: 'RLIMIT', retryAfterMs: Math.max(1, Math.ceil(freedIn)) })
  }
  store(step, event, hash, textKey)
}

function maySend(step: Step, event: CommandEvent<Send>): boolean {
  const { state } = step
  const { command, from } = event
  if (isBlocked(state)) {
    step.fail(from, { code: 'FORBIDDEN', message: 'one of you has blocked the other' })
    return false
  }
  if (command.type === 'chat.send') {
    if (state.kind === 'dm') {
      step.fail(from, { code: 'VALIDATION', field: 'conversationId', message: 'no assistant takes part in a dm' })
      return false
    }
    if (queueIsFull(state)) {
      step.fail(from, { code: 'BUSY', message: 'too many turns wait here', retryAfterMs: 2000 })
      return false
    }
    return true
  }
  if (command.attachments && command.attachments.length > 0) {
    step.fail(from, { code: 'VALIDATION', field: 'attachments', message: 'attachments are not available yet' })
    return false
  }
  return command.replyTo === undefined || mayReply(step, event, command.replyTo)
}

/** What this draft itself sent can be replied to; of all else the log knows what it is, and whether it was deleted. */
function mayReply(step: Step, { from, replied }: CommandEvent<Send>, seq: number): boolean {
  const { state } = step
  if (seq <= state.head && (replied || isInDraft(state.recent, seq))) return true
  if (seq <= state.head && replied === undefined) step.push({ kind: 'ask', what: 'replied' })
  else step.fail(from, { code: 'NOT_FOUND', field: 'replyTo', message: 'no such message to reply to' })
  return false
}

function store(step: Step, event: CommandEvent<Send>, hash: string, textKey: number): void {
  const { command, from } = event
  const { principal, trace } = from
  const { clientMessageId, content } = command
  const messageId = step.world.id()
  const replyTo = command.type === 'message.send' ? command.replyTo : undefined
  const { seq } = step.append({
    kind: 'message.new',
    senderId: principal,
    clientId: clientMessageId,
    messageId,
    fields: {
      messageId,
      senderId: principal,
      role: 'user',
      content,
      ...(replyTo === undefined ? {} : { replyTo }),
      clientMessageId,
    },
    trace,
    hash,
  })
  const sent = { senderId: principal, clientId: clientMessageId, seq, messageId, hash, textKey, mono: event.mono }
  step.set({ recent: addRecent(step.state.recent, sent) })
  step.ack(from, { clientMessageId, messageId, seq, duplicate: false })
  const question = { requester: principal, questionId: messageId, questionSeq: seq, clientMessageId, trace }
  if (command.type === 'chat.send') queueRun(step, question)
  else if (step.state.kind !== 'dm' && mentionsAssistant(content)) {
    if (queueIsFull(step.state)) tellBusy(step, from, messageId)
    else queueRun(step, question)
  }
}

/** Answered from the log, in its place among the sends (D6). */
export function status(step: Step, event: CommandEvent<Status>): void {
  const { command, from } = event
  if (!isMember(step.state, from.principal)) return step.notFound(from)
  const { clientMessageId } = command
  const known = findInDraft(step.state.recent, from.principal, clientMessageId) ?? storedAs(event.stored)
  if (known) {
    return step.ack(from, { clientMessageId, messageId: known.messageId, seq: known.seq, duplicate: true })
  }
  if (event.stored === undefined || mustAsk(step, event)) return step.push({ kind: 'ask', what: 'stored' })
  step.fail(from, { code: 'NOT_FOUND', message: 'nothing is stored under this clientMessageId' })
}

/** Whether the id was stored here lately and the log was not asked since: it may be this sender's. */
function mustAsk(step: Step, { command, stored, lookedUpAt = 0 }: CommandEvent<Send | Status>): boolean {
  if (stored) return false
  const seq = lastSeqOf(step.state.recent, command.clientMessageId)
  return seq !== undefined && (stored === undefined || seq > lookedUpAt)
}

function storedAs(stored: Stored | null | undefined): { seq: number; messageId: string; hash: string } | undefined {
  return stored ? { seq: stored.seq, messageId: stored.messageId, hash: stored.bodyHash } : undefined
}
