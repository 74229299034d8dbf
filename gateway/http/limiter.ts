/**
 * Rates: one meter per limit and key, in a bounded map. RATE_LIMIT_SCALE multiplies each rate with its burst. Several gateways
 * share a rate: each decides at once by what it knows, and tells and learns now and then what was granted; one that learns
 * nothing grants its part of the rate. Refuses to wait for anybody, and to hold more than limiterKeysMax keys: the least recently used go first, whose time is over or nearly so.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { limiterKeysMax, rateUntoldShare } from '#protos/limits.ts'
import { freshMeter, type Meter, type Others, type Rule, scaledRule, takeOne } from './meter.ts'

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

/** What the gateways know of each other's grants; SoftStore is one. */
export interface RateShare {
  spend(rate: string, count: number, ms: number): Promise<{ total: number; restMs: number } | undefined>
  readonly gateways: number
}

/** Of one rate of one key. */
interface Account {
  meter: Meter
  others: Others
  /** Granted here and not told yet; told in the stretch that others know. */
  untold: number
  told: number
  isTelling: boolean
  /** The last time nobody could be told. */
  isAlone: boolean
}

export interface Limiter {
  /** 0 when granted, else the ms after which the next call will be. */
  take(limit: LimitName, key: string): number
  /** The rate of a user's sends, one for sockets and REST; with `asks`, also those of questions in that conversation. */
  takeSend(userId: string, asks?: string): { waitMs: number; limit: LimitName }
  readonly size: number
}

export function createLimiter(options: {
  clock: Clock
  metrics: Metrics
  scale: number
  keysMax?: number
  /** Absent: there is one gateway. */
  share?: RateShare
}): Limiter {
  const { clock, metrics, scale, keysMax = limiterKeysMax, share } = options
  const accounts = new Map<string, Account>()
  const scaled = Object.fromEntries(
    Object.entries(rates).map(([name, rule]) => [name, scaledRule(rule, scale)]),
  ) as Record<LimitName, Rule>

  /** What is due is told; all gateways together leave no more untold than the share of a rate that is tolerated. */
  function tell(to: RateShare, name: string, rule: Rule, account: Account): void {
    const due = Math.max(1, Math.floor((rule.count * rateUntoldShare) / to.gateways))
    if (account.isTelling || account.untold < due) return
    const told = account.untold
    account.untold = 0
    account.isTelling = true
    void to.spend(name, told, rule.ms).then(found => {
      account.isTelling = false
      account.isAlone = found === undefined
      if (!found) return
      const until = clock.mono() + found.restMs
      // A stretch that ends clearly later than the one we knew is a new one.
      const isNew = until > account.others.until + restSlackMs
      account.told = isNew ? told : account.told + told
      account.others = { used: Math.max(0, found.total - account.told), until }
      tell(to, name, rule, account)
    })
  }

  /** One of each, or none: `waitMs` is until all of them grant. */
  function takeAll(asked: readonly (readonly [LimitName, string])[]): { waitMs: number; limit: LimitName } {
    const now = clock.mono()
    const found = asked.map(([limit, key]) => {
      const name = `${limit} ${key}`
      const account = accounts.get(name) ?? freshAccount(scaled[limit], now)
      const rule = account.isAlone && share ? scaledRule(scaled[limit], 1 / share.gateways) : scaled[limit]
      return { limit, name, account, ...takeOne(account.meter, rule, now, account.others) }
    })
    const slowest = found.reduce((a, b) => (b.waitMs > a.waitMs ? b : a))
    for (const { limit, name, account, meter, waitMs } of found) {
      // A refusal takes nothing where it would have been granted.
      if (slowest.waitMs > 0 && waitMs === 0) continue
      account.meter = meter
      // Set anew, so that the map's order is the order of last use.
      if (!accounts.delete(name) && accounts.size >= keysMax) accounts.delete(accounts.keys().next().value!)
      accounts.set(name, account)
      if (!share || waitMs > 0) continue
      account.untold++
      tell(share, name, scaled[limit], account)
    }
    metrics.parley_limiter_keys.set(accounts.size)
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
      return accounts.size
    },
  }
}

/** How far apart two looks at the end of one stretch may be: the way there and back. */
const restSlackMs = 500

function freshAccount(rule: Rule, now: number): Account {
  const others = { used: 0, until: 0 }
  return { meter: freshMeter(rule, now), others, untold: 0, told: 0, isTelling: false, isAlone: false }
}
