/**
 * Every error code and close code a client can see, with its retry bit, once.
 * A changed kind changes clients and dashboards: docs/protocol.md section 2.4 is checked against this file.
 */

interface CodeRow {
  /** The same attempt may succeed later without a change by the caller. */
  retryable: boolean
  /** The answer also says when: `retryAfterMs`. */
  hasRetryAfter: boolean
  /** The HTTP status and error_code that REST answers for it. */
  http: { status: number; code: RestCode }
  /** The class under which metrics count it. */
  class: 'validation' | 'auth' | 'rlimit' | 'upstream' | 'server'
}

export type RestCode =
  | 'INVALID_REQUEST'
  | 'UNAUTHORIZED'
  | 'FORBIDDEN'
  | 'NOT_FOUND'
  | 'CONFLICT'
  | 'TOO_LARGE'
  | 'RATE_LIMITED'
  | 'SERVER_ERROR'
  | 'SERVICE_UNAVAILABLE'

const row = (
  status: number,
  code: RestCode,
  kind: CodeRow['class'],
  retryable = false,
  hasRetryAfter = false,
): CodeRow => ({ retryable, hasRetryAfter, http: { status, code }, class: kind })

export const errorCodes = {
  VALIDATION: row(400, 'INVALID_REQUEST', 'validation'),
  UNAUTHORIZED: row(401, 'UNAUTHORIZED', 'auth'),
  FORBIDDEN: row(403, 'FORBIDDEN', 'auth'),
  NOT_FOUND: row(404, 'NOT_FOUND', 'validation'),
  CONFLICT: row(409, 'CONFLICT', 'validation'),
  IDEMPOTENCY_CONFLICT: row(409, 'CONFLICT', 'validation'),
  IDEMPOTENCY_EXPIRED: row(409, 'CONFLICT', 'validation'),
  TOO_LARGE: row(413, 'TOO_LARGE', 'validation'),
  RLIMIT: row(429, 'RATE_LIMITED', 'rlimit', true, true),
  BUSY: row(409, 'CONFLICT', 'rlimit', true, true),
  OVERLOADED: row(503, 'SERVICE_UNAVAILABLE', 'server', true, true),
  UNAVAILABLE: row(503, 'SERVICE_UNAVAILABLE', 'server', true, true),
  UPSTREAM: row(503, 'SERVICE_UNAVAILABLE', 'upstream', true),
  SERVER: row(500, 'SERVER_ERROR', 'server', true),
} as const satisfies Record<string, CodeRow>

export type ErrorCode = keyof typeof errorCodes

export const authReasons = ['AUTH_TIMEOUT', 'TOKEN_EXPIRED', 'TOKEN_INVALID', 'TOKEN_REVOKED', 'TOKEN_MISSING'] as const
export type AuthReason = (typeof authReasons)[number]

/** What a client does after a close: stay away, refresh its token first, or come back with full jitter and resume. */
export type AfterClose = 'stop' | 'refresh' | 'reconnect'

interface CloseRow {
  reason: string
  after: AfterClose
}

export const closeCodes = {
  1002: { reason: 'broken framing', after: 'stop' },
  1003: { reason: 'binary', after: 'stop' },
  1007: { reason: 'bad UTF-8', after: 'stop' },
  1008: { reason: 'too many fragments', after: 'reconnect' },
  1009: { reason: 'frame too large', after: 'stop' },
  1012: { reason: 'restarting', after: 'reconnect' },
  1013: { reason: 'try again later', after: 'reconnect' },
  4400: { reason: 'bad frames', after: 'stop' },
  4401: { reason: 'unauthorized', after: 'refresh' },
  4403: { reason: 'account not usable', after: 'stop' },
  4408: { reason: 'silent', after: 'reconnect' },
  4409: { reason: 'replaced', after: 'reconnect' },
  4410: { reason: 'session revoked', after: 'stop' },
  4411: { reason: 'session expired', after: 'refresh' },
  4420: { reason: 'too slow', after: 'reconnect' },
  4429: { reason: 'flooding', after: 'reconnect' },
} as const satisfies Record<number, CloseRow>

export type CloseCode = keyof typeof closeCodes

/** What to do after any close code, known or not: an unknown one is a reason to reconnect. */
export function afterClose(code: number): AfterClose {
  return (closeCodes as Record<number, CloseRow>)[code]?.after ?? 'reconnect'
}

/** The fields of an error frame, less `type`, `ts` and what names the request. */
export interface Failure {
  code: ErrorCode
  message: string
  reason?: string
  field?: string
  retryAfterMs?: number
  messageId?: string
}

/** An error frame's fields from a failure: `retryable` is never set by hand. */
export function errorFields(failure: Failure) {
  return { ...failure, retryable: errorCodes[failure.code].retryable as boolean }
}
