/**
 * Read positions that moved a moment ago and may not be stored yet: the owner writes them every 10 s, and a reload in
 * between must not show the old badge. Entries are lower bounds and last a little longer than that flush.
 * Refuses to be the truth: whoever has no entry takes what Postgres says.
 */
import { positionsMax, receiptFlushMs } from '#protos/limits.ts'

interface Entry {
  seq: number
  at: number
}

/** A flush, its statement, and room for one that failed and was repeated. */
const keepMs = receiptFlushMs * 3

export class Positions {
  #mono: () => number
  #users = new Map<string, Map<string, Entry>>()
  size = 0

  constructor(mono: () => number) {
    this.#mono = mono
  }

  /** The user has read up to `seq`. Only ever raises; when full, further users wait for the store. */
  note(userId: string, conversation: string, seq: number): void {
    let own = this.#users.get(userId)
    const known = own?.get(conversation)
    if (known) {
      if (seq < known.seq) return
      known.seq = seq
      known.at = this.#mono()
      return
    }
    if (this.size >= positionsMax) return
    if (!own) this.#users.set(userId, (own = new Map()))
    own.set(conversation, { seq, at: this.#mono() })
    this.size++
  }

  /**
   * A receipt's body, raised to what was shown before: a new owner knows only what its predecessor had stored, and no position
   * may move back for those who watch. `seq`: the read position on its label; 0 when only the delivered one moved.
   */
  raised(userId: string, conversation: string, seq: number, body: Uint8Array): Uint8Array {
    const known = this.#users.get(userId)?.get(conversation)
    if (seq > 0 && seq >= (known?.seq ?? 0)) return body
    const frame = JSON.parse(Buffer.from(body).toString()) as { readSeq: number; deliveredSeq: number }
    if (!known || frame.readSeq >= known.seq) {
      // Shown by this, whatever moved it: a send moves its sender's position without a receipt of its own.
      if (frame.readSeq > 0) this.note(userId, conversation, frame.readSeq)
      return body
    }
    // The store does not have it yet: it is kept for as long as that is so.
    known.at = this.#mono()
    const deliveredSeq = Math.max(frame.deliveredSeq, known.seq)
    return Buffer.from(JSON.stringify({ ...frame, readSeq: known.seq, deliveredSeq }))
  }

  /** What is known of a user, as the two columns of a statement's parameter. */
  of(userId: string): { conversations: string[]; seqs: number[] } {
    const conversations: string[] = []
    const seqs: number[] = []
    for (const [conversation, { seq }] of this.#users.get(userId) ?? []) {
      conversations.push(conversation)
      seqs.push(seq)
    }
    return { conversations, seqs }
  }

  /** Forgets what must have been stored by now. */
  sweep(): void {
    const since = this.#mono() - keepMs
    for (const [userId, own] of this.#users) {
      for (const [conversation, { at }] of own) {
        if (at >= since) continue
        own.delete(conversation)
        this.size--
      }
      if (own.size === 0) this.#users.delete(userId)
    }
  }
}
