/**
 * Whether a gateway asks more of one worker than that worker answers. What waits for a link's credit waits at the gateway, where
 * the worker cannot see it, and would stand there for seconds; so each end judges what it holds. Refuses to count letters itself.
 */
import { Admission } from '#engine/ops/admission.ts'
import { linkQueueLettersMin } from '#protos/limits.ts'

const stepMs = 100
const steps = 5
/** The pace is that of the best of them, without the two worst: one that has just begun, or paused, is no slower for it. */
const bestSteps = steps - 2

export class Load {
  readonly #admission = new Admission()
  /** Answers of each of the last steps. */
  readonly #answers = new Float64Array(steps)
  #step = 0

  /** The worker answered a command. Monotonic ms, as all times here. */
  answered(mono: number): void {
    this.#turn(mono)
    this.#answers[this.#step % steps]!++
  }

  /** Shards came to it, or it was reached again: what waited for that is no overload. */
  took(mono: number): void {
    this.#admission.took(mono)
  }

  /** Whether one more send is refused, behind so many letters that wait for this worker, sent or not. */
  refuses(waiting: number, mono: number): boolean {
    this.#turn(mono)
    const answers = this.#best()
    // Two batches are what one statement keeps under way; and a worker that answers nothing is not slow but away.
    const queued = waiting < linkQueueLettersMin ? 0 : waiting
    return this.#admission.refuses(queued, answers === 0 ? undefined : (answers * 1000) / (bestSteps * stepMs), mono)
  }

  /** The answers of the best steps; without arrays, for it is asked before each send. */
  #best(): number {
    let sum = 0
    let worst = Number.POSITIVE_INFINITY
    let nextWorst = Number.POSITIVE_INFINITY
    for (let i = 0; i < steps; i++) {
      const count = this.#answers[i]!
      sum += count
      if (count < worst) {
        nextWorst = worst
        worst = count
      } else if (count < nextWorst) nextWorst = count
    }
    return sum - worst - nextWorst
  }

  #turn(mono: number): void {
    const now = Math.floor(mono / stepMs)
    for (let step = Math.max(this.#step + 1, now - steps + 1); step <= now; step++) this.#answers[step % steps] = 0
    this.#step = Math.max(this.#step, now)
  }
}
