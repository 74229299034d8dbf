/** A token bucket, pure: what is in it now, whether it grants, how long until it will. Time is passed in, in ms. */

export interface Rule {
  /** Tokens that flow in per ms. */
  perMs: number
  /** Most that it holds. */
  burst: number
}

export interface Bucket {
  tokens: number
  at: number
}

export function fullBucket(rule: Rule, now: number): Bucket {
  return { tokens: rule.burst, at: now }
}

function filled(bucket: Bucket, rule: Rule, now: number): number {
  return Math.min(rule.burst, bucket.tokens + Math.max(0, now - bucket.at) * rule.perMs)
}

/** Takes one token. `waitMs` is 0 when granted, else the time after which one call will be: the bucket then stays as it was. */
export function takeToken(bucket: Bucket, rule: Rule, now: number): { bucket: Bucket; waitMs: number } {
  const tokens = filled(bucket, rule, now)
  // A hair below one is one: summed fractions must not make an honest wait fall short.
  if (tokens >= 1 - 1e-9) return { bucket: { tokens: Math.max(0, tokens - 1), at: now }, waitMs: 0 }
  return { bucket: { tokens, at: now }, waitMs: Math.max(1, Math.ceil((1 - tokens) / rule.perMs)) }
}
