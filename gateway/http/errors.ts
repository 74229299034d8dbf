/**
 * Every failure of REST as the one error body: ours, fastify's, the database's, the unforeseen. Decides status, code and
 * details; refuses to let a stack, a statement or a value through.
 */
import { isDatabaseAway } from '#gateway/auth/db.ts'
import { Refusal } from '#gateway/auth/failure.ts'
import type { RestCode } from '#protos/errors.ts'

export interface ErrorAnswer {
  status: number
  code: RestCode
  message: string
  details?: Record<string, unknown>
  retryAfterMs?: number
  /** Our own fault: worth a line in the log. */
  isFault: boolean
}

export interface ErrorBody {
  error: string
  error_code: RestCode
  request_id: string
  details?: Record<string, unknown>
}

interface Foreign {
  statusCode?: number
  code?: string
  validation?: { instancePath: string; keyword: string; params: Record<string, unknown> }[]
  validationContext?: string
}

export const plain = (status: number, message: string, details?: Record<string, unknown>): ErrorAnswer => ({
  status,
  code: status === 413 ? 'TOO_LARGE' : status === 404 ? 'NOT_FOUND' : 'INVALID_REQUEST',
  message,
  isFault: false,
  ...(details ? { details } : {}),
})

export function answerOf(error: unknown): ErrorAnswer {
  if (error instanceof Refusal) {
    return {
      status: error.status,
      code: error.code,
      message: error.message,
      isFault: false,
      ...(error.details ? { details: error.details } : {}),
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    }
  }
  const e = (error ?? {}) as Foreign
  if (e.validation) return plain(400, 'The request is not valid.', fieldOf(e))
  switch (e.code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return plain(415, 'Send JSON in UTF-8, not compressed: content-type application/json.')
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return plain(413, 'The body is too large.')
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return plain(400, 'The body does not have the length it announced.')
    case 'FST_ERR_BAD_URL':
      return plain(400, 'The path is not valid.')
    default:
  }
  if (isDatabaseAway(error)) {
    return {
      status: 503,
      code: 'SERVICE_UNAVAILABLE',
      message: 'The database cannot be reached. Try again shortly.',
      retryAfterMs: 1000,
      isFault: true,
    }
  }
  const status = e.statusCode
  if (status !== undefined && status >= 400 && status < 500)
    return plain(status === 404 ? 404 : 400, 'The request is not valid.')
  return { status: 500, code: 'SERVER_ERROR', message: 'Something went wrong on our side.', isFault: true }
}

export function bodyOf(answer: ErrorAnswer, requestId: string): ErrorBody {
  return {
    error: answer.message,
    error_code: answer.code,
    request_id: requestId,
    ...(answer.details ? { details: answer.details } : {}),
  }
}

/** Seconds, rounded up: a client that waits so long is served. */
export function retryAfter(ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}

/** The first field at fault, as the client named it. */
function fieldOf(e: Foreign): Record<string, unknown> {
  const first = e.validation?.[0]
  const path = (first?.instancePath ?? '').slice(1).replaceAll('/', '.')
  const named = first?.params['missingProperty'] ?? first?.params['additionalProperty']
  const field = typeof named === 'string' ? (path ? `${path}.${named}` : named) : path
  return { ...(field === '' ? {} : { field: field.slice(0, 100) }), in: e.validationContext ?? 'body' }
}
