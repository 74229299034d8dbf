/**
 * The kinds of field a frame can have: each checks one JSON value, may normalise it (ids to lower case, −0 to 0) and names
 * itself for the docs. Refuses to know any frame; those are in catalogue.ts.
 */
import { parseId } from './ids.ts'
import { contentBytesMax, contentCharsMax } from './limits.ts'

/** What a check answers for a value that it refuses. */
export const bad: unique symbol = Symbol('bad')

export interface Field<T> {
  check(value: unknown): T | typeof bad
  /** How the docs print it. */
  doc: string
}
export interface OptionalField<T> extends Field<T> {
  optional: true
}
export type Shape = Record<string, Field<unknown>>
export type Value<F> = F extends Field<infer T> ? T : never
type OptionalKeys<S extends Shape> = { [K in keyof S]: S[K] extends OptionalField<unknown> ? K : never }[keyof S]
export type Fields<S extends Shape> = { [K in Exclude<keyof S, OptionalKeys<S>>]: Value<S[K]> } & {
  [K in OptionalKeys<S>]?: Value<S[K]>
}

export function opt<T>(field: Field<T>): OptionalField<T> {
  return { ...field, optional: true }
}

const utf8 = new TextEncoder()

/** Code points, without making an array of them. */
export function codePoints(text: string): number {
  let count = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit < 0xdc00 || unit > 0xdfff) count++
  }
  return count
}

/** Whether a text has `min` to `max` code points; counted only where the units leave it open. */
function isWithin(text: string, min: number, max: number): boolean {
  if (text.length < min) return false
  if (text.length <= max && text.length >= 2 * min) return true
  const count = codePoints(text)
  return count >= min && count <= max
}

/** Whether a text may be stored: Postgres refuses NUL, and Node would silently change a lone surrogate. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** A text of `min` to `max` code points that can be stored. */
export function text(max: number, min = 0): Field<string> {
  return {
    doc: `text ${min}–${max}`,
    check: v => (typeof v === 'string' && isStorable(v) && isWithin(v, min, max) ? v : bad),
  }
}

/** What people write: 1–4096 characters, at most 16 KiB, at least one not white space. */
export const content: Field<string> = {
  doc: 'content',
  check: v =>
    typeof v === 'string' &&
    v.length > 0 &&
    v.length <= contentBytesMax &&
    /\P{White_Space}/u.test(v) &&
    isStorable(v) &&
    isWithin(v, 1, contentCharsMax) &&
    // At most three bytes a unit: most need no count.
    (v.length * 3 <= contentBytesMax || utf8.encode(v).length <= contentBytesMax)
      ? v
      : bad,
}

export const id: Field<string> = { doc: 'UUID', check: v => parseId(v) ?? bad }

/** A safe integer of at least `min`; 5.0 is 5 and −0 is 0. */
export function int(min: number): Field<number> {
  return {
    doc: `integer ≥ ${min}`,
    check: v => (typeof v === 'number' && Number.isSafeInteger(v) && v >= min ? v + 0 || 0 : bad),
  }
}

export const bool: Field<boolean> = { doc: 'true or false', check: v => (typeof v === 'boolean' ? v : bad) }

export function oneOf<const T extends string>(...words: T[]): Field<T> {
  return { doc: words.join(' | '), check: v => (words.includes(v as T) ? (v as T) : bad) }
}

export function nullable<T>(field: Field<T>): Field<T | null> {
  return { doc: `${field.doc} or null`, check: v => (v === null ? null : field.check(v)) }
}

export function list<T>(of: Field<T>, max: number): Field<T[]> {
  return {
    doc: `list ≤ ${max} of ${of.doc}`,
    check: v => {
      if (!Array.isArray(v) || v.length > max) return bad
      const out: T[] = []
      for (const item of v) {
        const checked = of.check(item)
        if (checked === bad) return bad
        out.push(checked as T)
      }
      return out
    },
  }
}

/** A strict object: every field named, nothing else. */
export function object<S extends Shape>(shape: S): Field<Fields<S>> {
  return {
    doc: `{${Object.keys(shape).join(', ')}}`,
    check: v => {
      const checked = checkShape(shape, v)
      return 'value' in checked ? (checked.value as Fields<S>) : bad
    },
  }
}

/** Any JSON value; for results whose form their tool decides. */
export const json: Field<unknown> = { doc: 'JSON', check: v => (v === undefined ? bad : v) }

/**
 * Checks an object against a shape, strictly. Answers the normalised copy, or the first field at fault
 * (`undefined` when the value is no object at all).
 */
export function checkShape(shape: Shape, value: unknown): { value: Record<string, unknown> } | { field?: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {}
  const out: Record<string, unknown> = {}
  for (const key of Object.keys(value)) if (!Object.hasOwn(shape, key)) return { field: key }
  for (const key in shape) {
    const field = shape[key]!
    const given = (value as Record<string, unknown>)[key]
    if (given === undefined) {
      if ((field as Partial<OptionalField<unknown>>).optional) continue
      return { field: key }
    }
    const checked = field.check(given)
    if (checked === bad) return { field: key }
    out[key] = checked
  }
  return { value: out }
}
