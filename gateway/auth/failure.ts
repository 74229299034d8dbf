/**
 * A refusal of accounts or REST, as the error body says it: code, sentence, details. Thrown by handlers, rendered in one
 * place (gateway/http/errors.ts). Refuses to carry anything that a client must not read.
 */
import { type AuthReason, type ErrorCode, errorCodes, type RestCode } from '#protos/errors.ts'

export class Refusal extends Error {
  override name = 'Refusal'
  readonly status: number
  readonly code: RestCode
  readonly details: Record<string, unknown> | undefined
  readonly retryAfterMs: number | undefined

  constructor(
    status: number,
    code: RestCode,
    message: string,
    details?: Record<string, unknown>,
    retryAfterMs?: number,
  ) {
    super(message)
    this.status = status
    this.code = code
    this.details = details
    this.retryAfterMs = retryAfterMs
  }
}

export const invalid = (message: string, field?: string): Refusal =>
  new Refusal(400, 'INVALID_REQUEST', message, field === undefined ? undefined : { field })
export const unauthorized = (message: string, reason?: AuthReason): Refusal =>
  new Refusal(401, 'UNAUTHORIZED', message, reason === undefined ? undefined : { reason })
export const forbidden = (message: string, reason?: string): Refusal =>
  new Refusal(403, 'FORBIDDEN', message, reason === undefined ? undefined : { reason })
export const notFound = (message = 'Not found.'): Refusal => new Refusal(404, 'NOT_FOUND', message)
export const conflict = (message: string, details?: Record<string, unknown>): Refusal =>
  new Refusal(409, 'CONFLICT', message, details)
export const limited = (limit: string, retryAfterMs: number): Refusal =>
  new Refusal(429, 'RATE_LIMITED', 'Too many requests. Try again later.', { limit }, retryAfterMs)
export const unavailable = (message: string, retryAfterMs = 1000): Refusal =>
  new Refusal(503, 'SERVICE_UNAVAILABLE', message, undefined, retryAfterMs)

/** A refusal by the engine, from the code of its error frame. */
export function refusalOf(
  code: ErrorCode,
  message: string,
  details?: Record<string, unknown>,
  retryAfterMs?: number,
): Refusal {
  const { status, code: rest } = errorCodes[code].http
  const given = details && Object.keys(details).length > 0 ? details : undefined
  const names = code.startsWith('IDEMPOTENCY_') || code === 'BUSY' ? { code, ...given } : given
  const wait = retryAfterMs ?? (status === 503 || status === 429 ? 1000 : undefined)
  return new Refusal(status, rest, message, names, wait)
}
