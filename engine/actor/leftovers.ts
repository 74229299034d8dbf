/**
 * The pieces of answers, which nobody needs once an answer is one message: those of turns that ended here are removed some
 * time after, those of turns that ended under earlier owners of a shard some time after it came. Refuses to hold anything up.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { segmentsKeptMs, segmentsRunsMax } from '#protos/limits.ts'
import type { Directory } from './ports.ts'

/** Runs in one statement. */
const runsMax = 500
const retryMs = 10_000

interface Deps {
  clock: Clock
  log: Log
  directory: Pick<Directory, 'purgeSegments' | 'purgeLeftSegments'>
  isOwned(shard: number): boolean
}

export class Leftovers {
  /** Runs that ended here, with the monotonic ms at which their pieces may go, oldest first. */
  readonly #runs = new Map<string, number>()
  /** Shards that came, likewise. */
  readonly #shards = new Map<number, number>()
  #isBusy = false
  /** Monotonic ms before which nothing is tried again. */
  #notBefore = 0
  readonly #deps: Deps

  constructor(deps: Deps) {
    this.#deps = deps
  }

  get size(): number {
    return this.#runs.size
  }

  /** A run's end is stored. Beyond the limit its pieces are left to the shard's next owner. */
  ended(runId: string): void {
    if (this.#runs.size < segmentsRunsMax) this.#runs.set(runId, this.#deps.clock.mono() + segmentsKeptMs)
  }

  came(shards: readonly number[]): void {
    for (const shard of shards) {
      this.#shards.delete(shard)
      this.#shards.set(shard, this.#deps.clock.mono() + segmentsKeptMs)
    }
  }

  /** Removes what is due, a bounded part of it at a time; called now and then. Never rejects. */
  async sweep(): Promise<void> {
    if (this.#isBusy || this.#deps.clock.mono() < this.#notBefore) return
    this.#isBusy = true
    try {
      const { directory, isOwned } = this.#deps
      const runs = this.#due(this.#runs).slice(0, runsMax)
      if (runs.length > 0) {
        await directory.purgeSegments(runs)
        for (const id of runs) this.#runs.delete(id)
      }
      const shards = this.#due(this.#shards)
      for (const shard of shards) if (!isOwned(shard)) this.#shards.delete(shard)
      const ours = shards.filter(isOwned)
      if (ours.length > 0 && (await directory.purgeLeftSegments(ours)).isAll) {
        for (const shard of ours) this.#shards.delete(shard)
      }
    } catch (error) {
      this.#notBefore = this.#deps.clock.mono() + retryMs
      this.#deps.log.warn('pieces of ended answers could not be removed and wait', {
        count: this.#runs.size,
        err: error,
      })
    } finally {
      this.#isBusy = false
    }
  }

  #due<K>(waiting: ReadonlyMap<K, number>): K[] {
    const now = this.#deps.clock.mono()
    const due: K[] = []
    for (const [key, at] of waiting) {
      if (at > now) break
      due.push(key)
    }
    return due
  }
}
