/**
 * The letters of one conversation that wait for their turn, in order, bounded by count, by sender and by bytes; the whole
 * worker's bytes are bounded beside it. Refuses to look into a letter.
 */

import type { Requester } from '#engine/conversation/effects.ts'
import type { Stored } from '#engine/conversation/events.ts'
import type { Command } from '#protos/catalogue.ts'
import {
  mailboxBytesMax,
  mailboxBytesPerWorkerMax,
  mailboxLettersMax,
  mailboxLettersPerSenderMax,
} from '#protos/limits.ts'
import type { Delivery } from './ports.ts'

export interface Waiting {
  command: Command
  from: Requester
  delivery: Delivery
  bytes: number
  /** False while a read that must come first is under way. */
  isReady: boolean
  /** What the log holds under its id; undefined: not looked up. */
  stored?: Stored | null
  /** The head when it was looked up. */
  lookedUpAt?: number
  blocks?: readonly string[]
  replied?: boolean
  /** Taken before, and known not to be stored by that. */
  isAgain: boolean
}

/** What waits in all mailboxes of a worker. */
export interface Tally {
  letters: number
  bytes: number
}

export class Mailbox {
  #items: Waiting[] = []
  #start = 0
  #bytes = 0
  readonly #bySender = new Map<string, number>()
  readonly #tally: Tally

  constructor(tally: Tally) {
    this.#tally = tally
  }

  get length(): number {
    return this.#items.length - this.#start
  }

  /** False when it does not fit: nothing was done. */
  push(item: Waiting): boolean {
    const { principal } = item.from
    if (
      this.length >= mailboxLettersMax ||
      this.#bytes + item.bytes > mailboxBytesMax ||
      this.#tally.bytes + item.bytes > mailboxBytesPerWorkerMax ||
      (this.#bySender.get(principal) ?? 0) >= mailboxLettersPerSenderMax
    ) {
      return false
    }
    this.#items.push(item)
    this.#count(item, 1)
    return true
  }

  peek(): Waiting | undefined {
    return this.#items[this.#start]
  }

  shift(): Waiting | undefined {
    const item = this.#items[this.#start]
    if (!item) return undefined
    this.#start++
    if (this.#start === this.#items.length || this.#start > 512) {
      this.#items = this.#items.slice(this.#start)
      this.#start = 0
    }
    this.#count(item, -1)
    return item
  }

  /** Puts back what was taken, in its old order; the bounds were passed once. */
  putBack(items: readonly Waiting[]): void {
    this.#items = [...items, ...this.#items.slice(this.#start)]
    this.#start = 0
    for (const item of items) this.#count(item, 1)
  }

  /** Takes out all that match, in order. */
  remove(matches: (item: Waiting) => boolean): Waiting[] {
    const out: Waiting[] = []
    const rest: Waiting[] = []
    for (const item of this.#items.slice(this.#start)) (matches(item) ? out : rest).push(item)
    if (out.length === 0) return out
    this.#items = rest
    this.#start = 0
    for (const item of out) this.#count(item, -1)
    return out
  }

  #count(item: Waiting, by: 1 | -1): void {
    const { principal } = item.from
    const left = (this.#bySender.get(principal) ?? 0) + by
    if (left === 0) this.#bySender.delete(principal)
    else this.#bySender.set(principal, left)
    this.#bytes += by * item.bytes
    this.#tally.bytes += by * item.bytes
    this.#tally.letters += by
  }
}
