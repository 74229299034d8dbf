/**
 * Rates of this gateway: one token bucket per limit and key, in a bounded map. RATE_LIMIT_SCALE multiplies each rate with
 * its burst. Refuses to hold more than limiterKeysMax keys: the least recently used go first, full again or nearly so.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { limiterKeysMax } from '#protos/limits.ts'
import { type Bucket, fullBucket, type Rule, takeToken } from './bucket.ts'

const minute = 60_000
const hour = 3_600_000
const per = (count: number, ms: number, burst = count): Rule => ({ perMs: count / ms, burst })

/** Every rate once: so many in so long, and how many at once. */
export const rates = {
  rest_user: per(100, minute),
  rest_address: per(1000, minute),
  /** A person types no faster; ten at once is a pasted list. */
  send: per(60, minute, 10),
  login_account: per(5, minute),
  login_address: per(20, minute),
  register_account: per(5, minute),
  register_address: per(20, minute),
  refresh: per(30, minute),
  conversations: per(20, hour),
  members: per(100, hour),
  search: per(30, minute),
} as const satisfies Record<string, Rule>

export type LimitName = keyof typeof rates

export interface Limiter {
  /** 0 when granted, else the ms after which the next call will be. */
  take(limit: LimitName, key: string): number
  /** The bucket of a user's sends, one for sockets and REST. */
  takeSend(userId: string): number
  readonly size: number
}

export function createLimiter(options: { clock: Clock; metrics: Metrics; scale: number; keysMax?: number }): Limiter {
  const { clock, metrics, scale, keysMax = limiterKeysMax } = options
  const buckets = new Map<string, Bucket>()
  const scaled = Object.fromEntries(
    Object.entries(rates).map(([name, rule]) => [
      name,
      { perMs: rule.perMs * scale, burst: Math.max(1, rule.burst * scale) },
    ]),
  ) as Record<LimitName, Rule>

  function take(limit: LimitName, key: string): number {
    const rule = scaled[limit]
    const name = `${limit} ${key}`
    const now = clock.mono()
    const known = buckets.get(name)
    const taken = takeToken(known ?? fullBucket(rule, now), rule, now)
    // Set anew, so that the map's order is the order of last use.
    if (known) buckets.delete(name)
    else if (buckets.size >= keysMax) buckets.delete(buckets.keys().next().value!)
    buckets.set(name, taken.bucket)
    metrics.parley_limiter_keys.set(buckets.size)
    if (taken.waitMs > 0) metrics.parley_rate_limited_total.inc({ limit })
    return taken.waitMs
  }

  return {
    take,
    takeSend: userId => take('send', userId),
    get size() {
      return buckets.size
    },
  }
}
