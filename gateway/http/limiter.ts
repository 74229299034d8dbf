/**
 * Rates: one meter per limit and key, a bounded number of them. RATE_LIMIT_SCALE multiplies each rate with its burst. Several gateways
 * share a rate: each decides at once by what it knows, and tells and learns now and then what was granted; one that learns
 * nothing grants its part of the rate. Refuses to wait for anybody, and to hold more than limiterKeysMax keys: the least recently used go first, whose time is over or nearly so.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { limiterKeysMax, rateUntoldShare } from '#protos/limits.ts'
import { freshMeter, type Meter, type Others, type Rule, scaledRule, takeOne } from './meter.ts'
import { type Linked, Recency } from './recency.ts'

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

/** A rate with all that use it, by key: a key is what callers have anyway, and a text made of it and the name is not. */
interface Limit {
  readonly name: LimitName
  readonly rule: Rule
  readonly accounts: Map<string, Account>
}

/** Of one rate of one key. */
interface Account extends Linked<Account> {
  readonly limit: Limit
  readonly key: string
  meter: Meter
  others: Others
  /** Granted here and not told yet; told in the stretch that others know. */
  untold: number
  told: number
  isTelling: boolean
  /** The last time nobody could be told. */
  isAlone: boolean
  /** It is in its limit's map, and in the order of use. */
  isKept: boolean
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
  const limits = Object.fromEntries(
    Object.entries(rates).map(([name, rule]) => [name, { name, rule: scaledRule(rule, scale), accounts: new Map() }]),
  ) as Record<LimitName, Limit>
  /** Of all limits. */
  const recency = new Recency<Account>()

  /** What is due is told; all gateways together leave no more untold than the share of a rate that is tolerated. */
  function tell(to: RateShare, account: Account): void {
    const { rule } = account.limit
    const due = Math.max(1, Math.floor((rule.count * rateUntoldShare) / to.gateways))
    if (account.isTelling || account.untold < due) return
    const told = account.untold
    account.untold = 0
    account.isTelling = true
    void to.spend(`${account.limit.name} ${account.key}`, told, rule.ms).then(found => {
      account.isTelling = false
      account.isAlone = found === undefined
      if (!found) return
      const until = clock.mono() + found.restMs
      // A stretch that ends clearly later than the one we knew is a new one.
      const isNew = until > account.others.until + restSlackMs
      account.told = isNew ? told : account.told + told
      account.others = { used: Math.max(0, found.total - account.told), until }
      tell(to, account)
    })
  }

  /** What one more would be; takes nothing yet. */
  function ask(limit: Limit, key: string, now: number) {
    const account = limit.accounts.get(key) ?? freshAccount(limit, key, now)
    const rule = account.isAlone && share ? scaledRule(limit.rule, 1 / share.gateways) : limit.rule
    const { meter, waitMs } = takeOne(account.meter, rule, now, account.others)
    return { account, meter, waitMs }
  }

  function settle({ account, meter, waitMs }: ReturnType<typeof ask>): void {
    account.meter = meter
    keep(account)
    if (!share || waitMs > 0) return
    account.untold++
    tell(share, account)
  }

  /** It was used just now. */
  function keep(account: Account): void {
    if (account.isKept) return recency.used(account)
    const isFull = recency.size >= keysMax
    if (isFull) forget(recency.oldest!)
    account.isKept = true
    account.limit.accounts.set(account.key, account)
    recency.add(account)
    if (!isFull) metrics.parley_limiter_keys.set(recency.size)
  }

  function forget(account: Account): void {
    account.isKept = false
    account.limit.accounts.delete(account.key)
    recency.remove(account)
  }

  /** By itself, for it is asked before each send: most ask for no more than one. */
  function take(limit: Limit, key: string): number {
    const asked = ask(limit, key, clock.mono())
    settle(asked)
    if (asked.waitMs > 0) metrics.parley_rate_limited_total.inc({ limit: limit.name })
    return asked.waitMs
  }

  /** One of each, or none: `waitMs` is until all of them grant. */
  function takeAll(wanted: readonly (readonly [LimitName, string])[]): { waitMs: number; limit: LimitName } {
    const now = clock.mono()
    const asked = wanted.map(([limit, key]) => ask(limits[limit], key, now))
    const slowest = asked.reduce((a, b) => (b.waitMs > a.waitMs ? b : a))
    const { waitMs } = slowest
    const limit = slowest.account.limit.name
    // A refusal takes nothing where it would have been granted.
    for (const one of asked) if (waitMs === 0 || one.waitMs > 0) settle(one)
    if (waitMs > 0) metrics.parley_rate_limited_total.inc({ limit })
    return { waitMs, limit }
  }

  return {
    take: (limit, key) => take(limits[limit], key),
    takeSend(userId, asks) {
      if (asks === undefined) return { waitMs: take(limits.send, userId), limit: 'send' }
      return takeAll([
        ['send', userId],
        ['ai_user', userId],
        ['ai_user_hour', userId],
        ['ai_conversation', asks],
      ])
    },
    get size() {
      return recency.size
    },
  }
}

/** How far apart two looks at the end of one stretch may be: the way there and back. */
const restSlackMs = 500

function freshAccount(limit: Limit, key: string, now: number): Account {
  return {
    limit,
    key,
    meter: freshMeter(limit.rule, now),
    others: nobody,
    untold: 0,
    told: 0,
    isTelling: false,
    isAlone: false,
    isKept: false,
    older: undefined,
    newer: undefined,
  }
}

const nobody: Others = { used: 0, until: 0 }
