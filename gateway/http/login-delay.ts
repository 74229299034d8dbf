/**
 * Failed logins of one account are answered later and later, so that guessing slows down; the same for accounts that do not
 * exist. Refuses to lock anybody out: the rates do that, for a minute.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { limiterKeysMax, loginDelayMs, loginDelayMsMax, loginFailuresKeptMs } from '#protos/limits.ts'

export interface LoginDelay {
  /** Waits before a failure is told. */
  failed(account: string): Promise<void>
  passed(account: string): void
  readonly size: number
}

/** Before the n-th failure in a row is told, n ≥ 1. */
export function delayOf(n: number, scale: number): number {
  return Math.min(loginDelayMsMax, loginDelayMs * 2 ** (n - 1)) / scale
}

export function createLoginDelay(options: {
  clock: Pick<Clock, 'mono'>
  metrics: Metrics
  scale: number
  keysMax?: number
  wait?: (ms: number) => Promise<unknown>
}): LoginDelay {
  const { clock, metrics, scale, keysMax = limiterKeysMax, wait = sleep } = options
  /** In the order of the last failure. */
  const failures = new Map<string, { count: number; at: number }>()

  return {
    async failed(account) {
      const now = clock.mono()
      const known = failures.get(account)
      const count = known && now - known.at < loginFailuresKeptMs ? known.count + 1 : 1
      if (!failures.delete(account) && failures.size >= keysMax) failures.delete(failures.keys().next().value!)
      failures.set(account, { count, at: now })
      metrics.parley_login_failures.set(failures.size)
      await wait(delayOf(count, scale))
    },
    passed(account) {
      failures.delete(account)
      metrics.parley_login_failures.set(failures.size)
    },
    get size() {
      return failures.size
    },
  }
}
