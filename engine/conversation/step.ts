/**
 * One decision being made: the state as it becomes, the effects as they gather, in order. The leaves (members, send,
 * runs …) write on a Step; transition.ts opens and closes it. Numbers events: seq = head + 1, so a log is dense (N1).
 */
import type { DurableType } from '#protos/catalogue.ts'
import { errorFields, type Failure } from '#protos/errors.ts'
import type { Effect, EventRow, Requester } from './effects.ts'
import type { World } from './events.ts'
import type { State } from './state.ts'

export interface Append {
  kind: DurableType
  senderId: string
  clientId: string
  messageId: string
  /** The frame's fields less type, conversationId, seq, ts; undefined ones are left out. Given away: the trace is added. */
  fields: Record<string, unknown>
  trace: string
  /** Of a send; else the body's own digest is taken. */
  hash?: string
  /** Whom a membership event concerns. */
  subject?: string
}

export class Step {
  state: State
  readonly effects: Effect[] = []
  readonly world: World
  readonly at: number
  readonly mono: number

  constructor(state: State, world: World, time: { at: number; mono: number }) {
    this.state = state
    this.world = world
    this.at = time.at
    this.mono = time.mono
  }

  set(change: Partial<State>): void {
    this.state = { ...this.state, ...change }
  }

  push(effect: Effect): void {
    this.effects.push(effect)
  }

  append(event: Append): EventRow {
    const { fields } = event
    if (event.trace !== '') fields['traceId'] = event.trace
    const body = JSON.stringify(fields)
    const row: EventRow = {
      seq: this.state.head + 1,
      kind: event.kind,
      messageId: event.messageId,
      senderId: event.senderId,
      clientId: event.clientId,
      bodyHash: event.hash ?? this.world.sha256(body),
      body,
      at: this.at,
    }
    this.set({ head: row.seq })
    this.push(event.subject === undefined ? { kind: 'append', row } : { kind: 'append', row, subject: event.subject })
    return row
  }

  ack(
    to: Requester,
    fields: { clientMessageId?: string; messageId?: string; seq?: number; duplicate?: boolean } = {},
  ): void {
    this.push({ kind: 'answer', to, frame: { type: 'ack', conversationId: this.state.id, ...fields } })
  }

  fail(to: Requester, failure: Failure): void {
    const frame = { type: 'error' as const, conversationId: this.state.id, ...errorFields(failure) }
    this.push({ kind: 'answer', to, frame })
  }

  /** The one answer to everybody whom the conversation does not concern: that it exists is not told. */
  notFound(to: Requester): void {
    this.fail(to, { code: 'NOT_FOUND', message: 'no such conversation' })
  }
}
