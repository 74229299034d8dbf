/**
 * How much of a rate was used, pure: so many in a stretch of time that begins with its first use, and where the rule says so no
 * more than a burst at once, filled again evenly. Time is passed in, in ms.
 */

export interface Rule {
  /** So many … */
  count: number
  /** … in so long, in ms. */
  ms: number
  /** At once. Absent: all of them. */
  burst?: number
}

export interface Meter {
  /** Start of the stretch. */
  from: number
  used: number
  /** What is left of the burst, and when that was so. */
  tokens: number
  at: number
}

export function freshMeter(rule: Rule, now: number): Meter {
  return { from: now, used: 0, tokens: rule.burst ?? rule.count, at: now }
}

/** A rule times `scale`, its burst too. Less than one in a stretch is one in a longer stretch. */
export function scaledRule({ count, ms, burst }: Rule, scale: number): Rule {
  // A hair below a whole is whole: 100 × 0.29 must not be 28.
  const scaled = count * scale + 1e-9
  return {
    ...(scaled < 1 ? { count: 1, ms: ms / scaled } : { count: Math.floor(scaled), ms }),
    ...(burst === undefined ? {} : { burst: Math.max(1, burst * scale) }),
  }
}

/** What others granted of the same rate, as far as it is known, and when their stretch is over. */
export interface Others {
  used: number
  until: number
}

/** Takes one. `waitMs` is 0 when granted, else the time after which one call will be: the meter then stays as it was. */
export function takeOne(
  meter: Meter,
  rule: Rule,
  now: number,
  others: Others = { used: 0, until: 0 },
): { meter: Meter; waitMs: number } {
  const isOver = now - meter.from >= rule.ms
  const from = isOver ? now : meter.from
  const used = isOver ? 0 : meter.used
  const perMs = rule.count / rule.ms
  const burst = rule.burst ?? rule.count
  const tokens = Math.min(burst, meter.tokens + Math.max(0, now - meter.at) * perMs)
  const theirs = now < others.until ? others.used : 0
  const mine = from + rule.ms
  // Full: one is free when the stretch ends that leaves room, ours or theirs, the earlier if either does.
  const freeAt = Math.min(
    used < rule.count ? others.until : Number.POSITIVE_INFINITY,
    theirs < rule.count || mine >= others.until ? mine : Number.POSITIVE_INFINITY,
    Math.max(mine, others.until),
  )
  const stretchMs = used + theirs < rule.count ? 0 : freeAt - now
  // A hair below one is one: summed fractions must not make an honest wait fall short.
  const burstMs = rule.burst === undefined || tokens >= 1 - 1e-9 ? 0 : (1 - tokens) / perMs
  const waitMs = Math.ceil(Math.max(stretchMs, burstMs))
  if (waitMs > 0) return { meter: { from, used, tokens, at: now }, waitMs }
  return { meter: { from, used: used + 1, tokens: Math.max(0, tokens - 1), at: now }, waitMs: 0 }
}
