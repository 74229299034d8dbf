/**
 * The one alarm of an actor: set for the earliest moment at which time alone changes something, moved forward only when
 * something earlier comes. An alarm that rings for nothing is harmless.
 */
import type { Context } from './context.ts'

export class Waker {
  readonly #context: Pick<Context, 'clock' | 'timers'>
  readonly #ring: () => void
  #cancel: (() => void) | undefined
  #at = Number.POSITIVE_INFINITY

  constructor(context: Pick<Context, 'clock' | 'timers'>, ring: () => void) {
    this.#context = context
    this.#ring = ring
  }

  /** Monotonic ms; undefined: nothing to wait for. */
  set(at: number | undefined): void {
    if (at === undefined || at >= this.#at) return
    this.#cancel?.()
    this.#at = at
    const { clock, timers } = this.#context
    this.#cancel = timers.after(Math.max(0, at - clock.mono()), () => {
      this.#at = Number.POSITIVE_INFINITY
      this.#ring()
    })
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }
}
