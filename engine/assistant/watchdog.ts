/**
 * Waits for one step of an upstream call, but never longer than its span, the whole turn's deadline or the stop signal.
 * A span runs only while somebody waits: a consumer that does not pull (the journal lags) cannot make upstream look silent.
 * Refuses to abort anything: its caller owns the connection.
 */
import type { Clock } from '#engine/ops/clock.ts'

export type Waited<T, R extends string> =
  | { kind: 'value'; value: T }
  | { kind: 'error'; error: unknown }
  | { kind: 'expired'; reason: R }
  | { kind: 'stopped' }

export class Watchdog {
  readonly #signal: AbortSignal
  readonly #clock: Clock
  readonly #deadline: number

  /** `totalMs`: the life of the whole turn, from now on. */
  constructor(signal: AbortSignal, totalMs: number, clock: Clock) {
    this.#signal = signal
    this.#clock = clock
    this.#deadline = clock.mono() + totalMs
  }

  get isStopped(): boolean {
    return this.#signal.aborted
  }

  /** `limitMs`: the span of this step. Resolves, never rejects; work that loses is ignored, not cancelled. */
  wait<T, R extends string>(work: Promise<T>, limitMs: number, reason: R): Promise<Waited<T, R | 'deadline'>> {
    const leftMs = this.#deadline - this.#clock.mono()
    const isDeadlineNearer = leftMs < limitMs
    return new Promise(resolve => {
      const settle = (outcome: Waited<T, R | 'deadline'>) => {
        clearTimeout(timer)
        this.#signal.removeEventListener('abort', stop)
        resolve(outcome)
      }
      const stop = () => settle({ kind: 'stopped' })
      const timer = setTimeout(
        () => settle({ kind: 'expired', reason: isDeadlineNearer ? 'deadline' : reason }),
        Math.max(0, isDeadlineNearer ? leftMs : limitMs),
      )
      this.#signal.addEventListener('abort', stop)
      work.then(
        value => settle({ kind: 'value', value }),
        error => settle({ kind: 'error', error }),
      )
      if (this.#signal.aborted) stop()
    })
  }

  /** Sleeps; false when the signal or the deadline came first. */
  async sleep(ms: number): Promise<boolean> {
    const slept = await this.wait(new Promise<never>(() => {}), ms, 'slept')
    return slept.kind === 'expired' && slept.reason === 'slept'
  }
}
