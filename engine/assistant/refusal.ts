/**
 * What a failed call to the model means: whether it may be tried again, how long to wait, and the word for it.
 * Pure; the rows are those of the table in docs/protocol.md, "How a turn ends".
 */
import { upstreamRetryAfterMsMax } from '#protos/limits.ts'

export type FailReason =
  | 'connect'
  | 'first_token'
  | 'idle'
  | 'deadline'
  | 'protocol'
  | 'refused'
  | 'quota'
  | 'breaker'
  | 'filtered'

export interface Failed {
  kind: 'failed'
  reason: FailReason
  /** Before the first byte was shown, and only then, the call may be made again. */
  mayRetry: boolean
  /** What the server asked for, at least. */
  retryAfterMs?: number
  /** Whether it says something about the provider's health. */
  counts: boolean
}

const retried: ReadonlySet<number> = new Set([500, 502, 503, 504])
const quotaCodes: ReadonlySet<string> = new Set(['insufficient_quota', 'quota_exceeded', 'billing_hard_limit_reached'])

/** `error`: what the SDK threw before the stream began. */
export function classifyRefusal(error: unknown): Failed {
  const { status, code, type, headers } = error as {
    status?: number
    code?: string | null
    type?: string | null
    headers?: Headers
  }
  if (status === undefined) return { kind: 'failed', reason: 'connect', mayRetry: true, counts: true }
  if (retried.has(status)) return { kind: 'failed', reason: 'refused', mayRetry: true, counts: true }
  if (status === 429) {
    if (quotaCodes.has(code ?? '') || quotaCodes.has(type ?? '')) {
      // Hours may pass until a quota is there again: that is waited for outside the call.
      const waitMs = readRetryAfterMs(headers)
      const wait = waitMs === undefined ? {} : { retryAfterMs: waitMs }
      return { kind: 'failed', reason: 'quota', mayRetry: false, counts: false, ...wait }
    }
    const retryAfterMs = readRetryAfterMs(headers)
    const mayRetry = retryAfterMs === undefined || retryAfterMs <= upstreamRetryAfterMsMax
    return {
      kind: 'failed',
      reason: 'refused',
      mayRetry,
      counts: true,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    }
  }
  if (code === 'content_filter' || code === 'content_policy_violation') {
    return { kind: 'failed', reason: 'filtered', mayRetry: false, counts: false }
  }
  // 400 and 422 are about this request; one member's words must not open the breaker for everybody.
  return { kind: 'failed', reason: 'refused', mayRetry: false, counts: status !== 400 && status !== 422 }
}

/** `retry-after-ms`, else `retry-after` in seconds; a date or anything else is taken as absent. */
function readRetryAfterMs(headers: Headers | undefined): number | undefined {
  const ms = Number.parseFloat(headers?.get('retry-after-ms') ?? '')
  if (Number.isFinite(ms) && ms >= 0) return ms
  const seconds = Number.parseFloat(headers?.get('retry-after') ?? '')
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined
}
