/**
 * Waits for one step of an upstream call, but never longer than its span, the whole turn's deadline or the stop signal.
 * A span runs only while somebody waits: a consumer that does not pull (the journal lags) cannot make upstream look silent.
 * A step is a token, so steps share one timer and one listener. Refuses to abort anything: its caller owns the connection.
 */
import type { Clock } from '#engine/ops/clock.ts'

export type Waited<T, R extends string> =
  | { kind: 'value'; value: T }
  | { kind: 'error'; error: unknown }
  | { kind: 'expired'; reason: R }
  | { kind: 'stopped' }

/** The step that is waited for. */
interface Step {
  /** Monotonic ms. */
  dueAt: number
  expire(): void
  stop(): void
}

export class Watchdog {
  readonly #signal: AbortSignal
  readonly #clock: Clock
  readonly #deadline: number
  #step: Step | undefined
  #timer: NodeJS.Timeout | undefined
  /** Monotonic ms at which the timer looks; it may be sooner than any step is due. */
  #looksAt = 0

  /** `totalMs`: the life of the whole turn, from now on. Close it in any case. */
  constructor(signal: AbortSignal, totalMs: number, clock: Clock) {
    this.#signal = signal
    this.#clock = clock
    this.#deadline = clock.mono() + totalMs
    signal.addEventListener('abort', this.#stop)
  }

  get isStopped(): boolean {
    return this.#signal.aborted
  }

  /** `limitMs`: the span of this step, one at a time. Resolves, never rejects; work that loses is ignored, not cancelled. */
  wait<T, R extends string>(work: Promise<T>, limitMs: number, reason: R): Promise<Waited<T, R | 'deadline'>> {
    const spanEnd = this.#clock.mono() + limitMs
    return new Promise(resolve => {
      const step: Step = {
        dueAt: Math.min(spanEnd, this.#deadline),
        expire: () => resolve({ kind: 'expired', reason: this.#deadline < spanEnd ? 'deadline' : reason }),
        stop: () => resolve({ kind: 'stopped' }),
      }
      this.#step = step
      work.then(
        value => {
          if (this.#step === step) this.#step = undefined
          resolve({ kind: 'value', value })
        },
        (error: unknown) => {
          if (this.#step === step) this.#step = undefined
          resolve({ kind: 'error', error })
        },
      )
      if (this.#signal.aborted) this.#stop()
      else this.#arm(step.dueAt)
    })
  }

  /** Sleeps; false when the signal or the deadline came first. */
  async sleep(ms: number): Promise<boolean> {
    const slept = await this.wait(new Promise<never>(() => {}), ms, 'slept')
    return slept.kind === 'expired' && slept.reason === 'slept'
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#signal.removeEventListener('abort', this.#stop)
  }

  #arm(dueAt: number): void {
    if (this.#timer && this.#looksAt <= dueAt) return
    clearTimeout(this.#timer)
    this.#looksAt = dueAt
    this.#timer = setTimeout(this.#look, Math.max(0, Math.ceil(dueAt - this.#clock.mono())))
  }

  readonly #look = () => {
    this.#timer = undefined
    const step = this.#step
    if (!step) return
    if (this.#clock.mono() < step.dueAt) return this.#arm(step.dueAt)
    this.#step = undefined
    step.expire()
  }

  readonly #stop = () => {
    const step = this.#step
    this.#step = undefined
    step?.stop()
  }
}
