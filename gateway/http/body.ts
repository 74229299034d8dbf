/**
 * The bytes of a JSON body as a value that can be stored: valid UTF-8, not nested deep, no NUL, no lone surrogate.
 * Refuses all else with the field at fault, before any route sees it.
 */
import { invalid } from '#gateway/auth/failure.ts'
import { isStorable } from '#protos/field.ts'
import { jsonDepthMax } from '#protos/limits.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Undefined for an empty body. */
export function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(bytes))
  } catch {
    throw invalid('The body is not JSON in UTF-8.')
  }
  check(value, '', 0)
  return value
}

function check(value: unknown, field: string, depth: number): void {
  if (depth > jsonDepthMax) throw invalid('The body is nested too deep.')
  if (typeof value === 'string' && !isStorable(value)) throw invalid('A text cannot be stored.', field.slice(0, 100))
  if (typeof value !== 'object' || value === null) return
  for (const [key, item] of Object.entries(value)) {
    if (!isStorable(key)) throw invalid('A field’s name cannot be stored.')
    check(item, field === '' ? key : `${field}.${key}`, depth + 1)
  }
}
