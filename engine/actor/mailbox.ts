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

/** Of all that are empty; never pushed to. */
const none: Waiting[] = []

export class Mailbox {
  #items = none
  #start = 0
  #bytes = 0
  /** Counted from the moment at which one letter waits behind another; most conversations never see that. */
  #bySender: Map<string, number> | undefined
  readonly #tally: Tally

  constructor(tally: Tally) {
    this.#tally = tally
  }

  get length(): number {
    return this.#items.length - this.#start
  }

  /** False when it does not fit: nothing was done. */
  push(item: Waiting): boolean {
    if (this.length > 0) this.#bySender ??= countBySender(this.#items.slice(this.#start))
    if (
      this.length >= mailboxLettersMax ||
      this.#bytes + item.bytes > mailboxBytesMax ||
      this.#tally.bytes + item.bytes > mailboxBytesPerWorkerMax ||
      (this.#bySender?.get(item.from.principal) ?? 0) >= mailboxLettersPerSenderMax
    ) {
      return false
    }
    if (this.#items === none) this.#items = [item]
    else this.#items.push(item)
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
    if (this.#start === this.#items.length) this.#keep(none)
    else if (this.#start > 512) this.#keep(this.#items.slice(this.#start))
    this.#count(item, -1)
    return item
  }

  /** Puts back what was taken, in its old order; the bounds were passed once. */
  putBack(items: readonly Waiting[]): void {
    if (items.length > 0) this.#keep([...items, ...this.#items.slice(this.#start)])
    for (const item of items) this.#count(item, 1)
  }

  /** Takes out all that match, in order. */
  remove(matches: (item: Waiting) => boolean): Waiting[] {
    const out: Waiting[] = []
    const rest: Waiting[] = []
    for (const item of this.#items.slice(this.#start)) (matches(item) ? out : rest).push(item)
    if (out.length === 0) return out
    this.#keep(rest.length === 0 ? none : rest)
    for (const item of out) this.#count(item, -1)
    return out
  }

  #keep(items: Waiting[]): void {
    this.#items = items
    this.#start = 0
  }

  #count(item: Waiting, by: 1 | -1): void {
    if (this.#bySender) count(this.#bySender, item, by)
    this.#bytes += by * item.bytes
    this.#tally.bytes += by * item.bytes
    this.#tally.letters += by
  }
}

function countBySender(items: readonly Waiting[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) count(counts, item, 1)
  return counts
}

function count(counts: Map<string, number>, { from }: Waiting, by: 1 | -1): void {
  const left = (counts.get(from.principal) ?? 0) + by
  if (left === 0) counts.delete(from.principal)
  else counts.set(from.principal, left)
}
