/**
 * What a frame says about itself that its answer repeats, also when the frame failed validation. Pure; refuses to judge it.
 */
import { codePoints, isStorable } from '#protos/field.ts'
import { requestIdCharsMax, traceIdCharsMax } from '#protos/limits.ts'

/** What an answer repeats. */
export interface Asked {
  requestId?: string
  traceId?: string
}

export function askedOf(f: Asked): Asked {
  return {
    ...(f.requestId === undefined ? {} : { requestId: f.requestId }),
    ...(f.traceId === undefined ? {} : { traceId: f.traceId }),
  }
}

export function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

export function typeIn(text: string): unknown {
  return objectIn(text)?.['type']
}

/** What a frame that failed validation still says about itself. */
export function askedIn(text: string): Asked {
  const value = objectIn(text)
  const usable = (v: unknown, max: number): v is string =>
    typeof v === 'string' && isStorable(v) && codePoints(v) <= max
  const requestId = value?.['requestId']
  const traceId = value?.['traceId']
  return {
    ...(usable(requestId, requestIdCharsMax) ? { requestId } : {}),
    ...(usable(traceId, traceIdCharsMax) ? { traceId } : {}),
  }
}
