/**
 * Rates of this gateway: one meter per limit and key, in a bounded map. RATE_LIMIT_SCALE multiplies each rate with its burst.
 * Refuses to hold more than limiterKeysMax keys: the least recently used go first, whose time is over or nearly so.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { limiterKeysMax } from '#protos/limits.ts'
import { freshMeter, type Meter, type Rule, scaledRule, takeOne } from './meter.ts'

const minute = 60_000
const hour = 3_600_000
const per = (count: number, ms: number, burst?: number): Rule => ({
  count,
  ms,
  ...(burst === undefined ? {} : { burst }),
})

/** Every rate once: so many in so long, and how many of them at once. */
export const rates = {
  rest_user: per(100, minute),
  rest_address: per(1000, minute),
  /** A person types no faster; ten at once is a pasted list. */
  send: per(60, minute, 10),
  /** Questions to the assistant: a person's, and all of one conversation. */
  ai_user: per(10, minute),
  ai_user_hour: per(20, hour),
  ai_conversation: per(20, minute),
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
  /** The rate of a user's sends, one for sockets and REST; with `asks`, also those of questions in that conversation. */
  takeSend(userId: string, asks?: string): { waitMs: number; limit: LimitName }
  readonly size: number
}

export function createLimiter(options: { clock: Clock; metrics: Metrics; scale: number; keysMax?: number }): Limiter {
  const { clock, metrics, scale, keysMax = limiterKeysMax } = options
  const meters = new Map<string, Meter>()
  const scaled = Object.fromEntries(
    Object.entries(rates).map(([name, rule]) => [name, scaledRule(rule, scale)]),
  ) as Record<LimitName, Rule>

  /** One of each, or none: `waitMs` is until all of them grant. */
  function takeAll(asked: readonly (readonly [LimitName, string])[]): { waitMs: number; limit: LimitName } {
    const now = clock.mono()
    const found = asked.map(([limit, key]) => {
      const name = `${limit} ${key}`
      return { limit, name, ...takeOne(meters.get(name) ?? freshMeter(scaled[limit], now), scaled[limit], now) }
    })
    const slowest = found.reduce((a, b) => (b.waitMs > a.waitMs ? b : a))
    for (const { name, meter, waitMs } of found) {
      // A refusal takes nothing where it would have been granted.
      if (slowest.waitMs > 0 && waitMs === 0) continue
      // Set anew, so that the map's order is the order of last use.
      if (!meters.delete(name) && meters.size >= keysMax) meters.delete(meters.keys().next().value!)
      meters.set(name, meter)
    }
    metrics.parley_limiter_keys.set(meters.size)
    const { waitMs, limit } = slowest
    if (waitMs > 0) metrics.parley_rate_limited_total.inc({ limit })
    return { waitMs, limit }
  }

  return {
    take: (limit, key) => takeAll([[limit, key]]).waitMs,
    takeSend(userId, asks) {
      if (asks === undefined) return takeAll([['send', userId]])
      return takeAll([
        ['send', userId],
        ['ai_user', userId],
        ['ai_user_hour', userId],
        ['ai_conversation', asks],
      ])
    },
    get size() {
      return meters.size
    },
  }
}
