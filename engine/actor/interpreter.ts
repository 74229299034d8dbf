/**
 * Turns the effects of a decision into letters. A fact is encoded once; frames begin with `type` and `conversationId`.
 * Refuses to decide, and to send anything of a draft: it is called when the statement returned.
 */
import type { Effect, EventRow, Requester } from '#engine/conversation/effects.ts'
import type { Clock } from '#engine/ops/clock.ts'
import { type Label, label, letterFlags, letterKinds } from '#protos/letter.ts'
import type { Delivery, Fanout } from './ports.ts'
import type { Tail } from './tail.ts'

/** Effects that are letters, and so the interpreter's. */
export type LetterEffect = Extract<
  Effect,
  { kind: 'append' | 'answer' | 'user' | 'delta' | 'done' | 'typing' | 'receipt' }
>

export interface Place {
  conversation: string
  shard: number
  epoch: number
  tail: Tail
}

let isoAt = Number.NaN
let isoText = ''
/** A time in ms as the wire has it; all of a batch have few. */
function isoOf(at: number): string {
  if (at !== isoAt) {
    isoText = new Date(at).toISOString()
    isoAt = at
  }
  return isoText
}

/** The whole frame of a stored event. The read side builds the same JSON from the row. */
export function factFrame(conversation: string, row: EventRow): string {
  const ts = isoOf(row.at)
  const head = `{"type":"${row.kind}","conversationId":"${conversation}","seq":${row.seq},"ts":"${ts}"`
  return row.body === '{}' ? `${head}}` : `${head},${row.body.slice(1)}`
}

export class Interpreter {
  readonly #fanout: Fanout
  readonly #clock: Clock

  constructor(fanout: Fanout, clock: Clock) {
    this.#fanout = fanout
    this.#clock = clock
  }

  send(place: Place, effect: LetterEffect): void {
    const { conversation, shard, epoch } = place
    const where = { conversation, shard, epoch }
    switch (effect.kind) {
      case 'append':
        return this.#fact(place, effect.row, effect.subject)
      case 'answer':
        return this.answer(place, effect.to, effect.frame)
      case 'user': {
        const { type } = effect.frame
        const isMembership = type === 'conversation.added' || type === 'conversation.removed'
        const l = label(letterKinds.user, {
          ...where,
          subject: effect.userId,
          seq: effect.headSeq ?? 0,
          flags: isMembership ? letterFlags.membership : 0,
        })
        if (!effect.only) return this.#fanout.toUser(l, this.#encode(effect.frame))
        l.socket = effect.only.socket
        l.trace = effect.only.trace
        const { origin } = effect.only.ref as Delivery
        return this.#fanout.answer(origin, l, this.#encode(effect.frame, effect.only.trace))
      }
      case 'delta': {
        const { answerId, offset, text, bytes, trace } = effect
        const l = label(letterKinds.delta, { ...where, subject: answerId, seq: offset, age: bytes, trace })
        const frame = { type: 'chat.stream', conversationId: conversation, messageId: answerId, offset, content: text }
        return this.#fanout.publish(l, this.#encode(frame))
      }
      case 'done': {
        const l = label(letterKinds.done, { ...where, subject: effect.answerId, trace: effect.trace })
        return this.#fanout.publish(l, this.#encode(effect.frame, effect.trace))
      }
      case 'typing': {
        const { userId, on } = effect
        const l = label(letterKinds.typing, { ...where, principal: userId, seq: on ? 1 : 0 })
        return this.#fanout.publish(l, this.#encode({ type: 'typing', conversationId: conversation, userId, on }))
      }
      case 'receipt': {
        const l = label(letterKinds.receipt, { ...where, principal: effect.userId, seq: effect.readSeq })
        return this.#fanout.publish(l, this.#encode(effect.frame))
      }
      default:
        effect satisfies never
    }
  }

  /** Answers one command, with its requestId and trace. */
  answer(place: Omit<Place, 'tail'>, to: Requester, frame: { type: string }): void {
    const { origin } = to.ref as Delivery
    this.#fanout.answer(
      origin,
      this.#labelTo(place, to, letterKinds.answer),
      this.#encode(frame, to.trace, to.requestId),
    )
  }

  /** One event of a joining socket's replay. */
  replay(place: Omit<Place, 'tail'>, to: Requester, seq: number, frame: Uint8Array): void {
    const l = this.#labelTo(place, to, letterKinds.replay)
    l.seq = seq
    this.#fanout.answer((to.ref as Delivery).origin, l, frame)
  }

  #labelTo({ conversation, shard, epoch }: Omit<Place, 'tail'>, to: Requester, kind: Label['kind']): Label {
    const { attempt, socket, principal, trace } = to
    return label(kind, { conversation, shard, epoch, attempt, socket, principal, trace })
  }

  #fact({ conversation, shard, epoch, tail }: Place, row: EventRow, subject: string | undefined): void {
    const bytes = Buffer.from(factFrame(conversation, row))
    tail.push(row.seq, bytes)
    const l = label(letterKinds.fact, {
      conversation,
      shard,
      epoch,
      seq: row.seq,
      principal: row.senderId,
      subject: subject ?? '',
      flags: subject === undefined ? 0 : letterFlags.membership,
    })
    this.#fanout.publish(l, bytes)
  }

  #encode(frame: { type: string; [field: string]: unknown }, trace = '', requestId?: string): Buffer {
    let tail = `,"ts":"${isoOf(this.#clock.now())}"`
    if (requestId !== undefined) tail += `,"requestId":${JSON.stringify(requestId)}`
    if (trace !== '') tail += `,"traceId":${JSON.stringify(trace)}`
    return Buffer.from(`${JSON.stringify(frame).slice(0, -1)}${tail}}`)
  }
}
