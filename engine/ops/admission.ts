/**
 * Owns the judgement that a worker is asked for more than it stores. What counts is a queue that stands: one that a burst
 * leaves behind is gone again before a refused send would have come back. Refuses to count or to measure anything itself.
 */
import { admissionCalmMs, admissionStandsMs, admissionTakeoverMs, admissionWaitMsMax } from '#protos/limits.ts'

export class Admission {
  /** Since when every letter found too long a queue; monotonic ms, as all times here. */
  #overSince: number | undefined
  #lastOverAt = Number.NEGATIVE_INFINITY
  /** The queue stood: from now on it is kept short, until there was none for a while. */
  #isShedding = false
  #freeUntil = Number.NEGATIVE_INFINITY

  /** Shards came. What waited elsewhere while nobody owned them comes at once; that is not more than this worker stores. */
  took(mono: number): void {
    this.#freeUntil = mono + admissionTakeoverMs
  }

  /** Whether a further letter is refused, behind so many. `rowsPerSecond` undefined: no statement completed lately. */
  refuses(waiting: number, rowsPerSecond: number | undefined, mono: number): boolean {
    const isOver = rowsPerSecond !== undefined && (waiting * 1000) / rowsPerSecond > admissionWaitMsMax
    const quietMs = mono - this.#lastOverAt
    if (quietMs >= admissionCalmMs) this.#isShedding = false
    if (!isOver || mono < this.#freeUntil) {
      this.#overSince = undefined
      if (isOver) this.#lastOverAt = mono
      return false
    }
    if (this.#overSince === undefined || quietMs >= admissionStandsMs) this.#overSince = mono
    this.#lastOverAt = mono
    this.#isShedding ||= mono - this.#overSince >= admissionStandsMs
    return this.#isShedding
  }
}
