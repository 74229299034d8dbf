/**
 * The highest event of others written to a user's sockets, told to the owner at most once a second per user and
 * conversation. Refuses to keep what was told.
 */
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'

export class Delivered {
  #dirty = new Map<string, Map<string, number>>()
  #deps: { clock: Clock; engine: Pick<EngineClient, 'command'> }

  constructor(deps: { clock: Clock; engine: Pick<EngineClient, 'command'> }) {
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
