/**
 * The circuit breaker of one provider: opens when half of the last calls failed within a short time, so that a sick model
 * costs a turn nothing but its answer. Refuses to know what a call is; time is passed in.
 */
import { breakerCalls, breakerOpenMs, breakerWindowMs } from '#protos/limits.ts'

export class Breaker {
  /** Of the last calls, oldest first: when each ended and how. */
  #ended: { at: number; wasFailure: boolean }[] = []
  #openUntil = 0
  #isProbing = false

  /** Whether a call may begin. After the pause one call at a time probes until one succeeds. */
  admits(mono: number): boolean {
    if (this.#openUntil === 0) return true
    if (mono < this.#openUntil || this.#isProbing) return false
    this.#isProbing = true
    return true
  }

  /** Whether it keeps calls away, or lets one at a time through to see. */
  get isOpen(): boolean {
    return this.#openUntil > 0
  }

  succeeded(mono: number): void {
    if (this.#openUntil > 0) this.#close()
    this.#push(mono, false)
  }

  failed(mono: number): void {
    if (this.#openUntil > 0) {
      this.#isProbing = false
      this.#openUntil = mono + breakerOpenMs
      return
    }
    this.#push(mono, true)
    const failures = this.#ended.filter(call => call.wasFailure && mono - call.at < breakerWindowMs).length
    if (failures * 2 >= breakerCalls) this.#openUntil = mono + breakerOpenMs
  }

  /** A call that says nothing about the provider's health: it was stopped, or the request itself was at fault. */
  abstained(): void {
    this.#isProbing = false
  }

  #push(at: number, wasFailure: boolean): void {
    this.#ended.push({ at, wasFailure })
    if (this.#ended.length > breakerCalls) this.#ended.shift()
  }

  #close(): void {
    this.#ended = []
    this.#openUntil = 0
    this.#isProbing = false
  }
}
