/**
 * The highest event of others written to a user's sockets, told to the owner at most once a second per user and
 * conversation; a moment later while many sends wait for their owners. Refuses to keep what was told.
 */
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import { deliveredEveryMs, yieldLettersMin, yieldMsMax } from '#protos/limits.ts'

interface Deps {
  clock: Clock
  engine: Pick<EngineClient, 'command' | 'pending'>
}

export class Delivered {
  #dirty = new Map<string, Map<string, number>>()
  #yielded = 0
  readonly #deps: Deps

  constructor(deps: Deps) {
    this.#deps = deps
  }

  note(conversation: string, userId: string, seq: number): void {
    let users = this.#dirty.get(conversation)
    if (!users) this.#dirty.set(conversation, (users = new Map()))
    if ((users.get(userId) ?? 0) < seq) users.set(userId, seq)
  }

  flush(): void {
    const { clock, engine } = this.#deps
    const dirty = this.#dirty
    if (dirty.size === 0) return
    // A wave of sends to thousands of conversations is followed by one of receipts: behind it, not within.
    if (engine.pending().letters >= yieldLettersMin && ++this.#yielded * deliveredEveryMs <= yieldMsMax) return
    this.#yielded = 0
    this.#dirty = new Map()
    const readAt = clock.mono()
    for (const [conversation, users] of dirty) {
      for (const [principal, seq] of users) {
        const body = Buffer.from(JSON.stringify({ type: 'receipt.delivered', conversationId: conversation, seq }))
        const attempt = clock.id()
        engine.command({ conversation, principal, socket: 0, attempt, trace: attempt, body, durable: false, readAt })
      }
    }
  }
}
