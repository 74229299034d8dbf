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
      let out: T[] = v
      for (let i = 0; i < v.length; i++) {
        const checked = of.check(v[i])
        if (checked === bad) return bad
        if (Object.is(checked, v[i])) continue
        if (out === v) out = [...v]
        out[i] = checked as T
      }
      return out
    },
  }
}

/** A strict object: every field named, nothing else. */
export function object<S extends Shape>(shape: S): Field<Fields<S>> {
  const strict = new Strict(shape)
  return {
    doc: `{${Object.keys(shape).join(', ')}}`,
    check: v => strict.check(v) as Fields<S> | typeof bad,
  }
}

/** Any JSON value; for results whose form their tool decides. */
export const json: Field<unknown> = { doc: 'JSON', check: v => (v === undefined ? bad : v) }

/** A shape made ready to check objects against it, strictly: every frame that comes in passes here, at both ends of a link. */
export class Strict {
  readonly #shape: Shape
  readonly #fields = new Map<string, { field: Field<unknown>; isOptional: boolean }>()
  #required = 0

  constructor(shape: Shape) {
    this.#shape = shape
    for (const [key, field] of Object.entries(shape)) {
      const isOptional = isOpt(field)
      if (!isOptional) this.#required++
      this.#fields.set(key, { field, isOptional })
    }
  }

  /** The value itself where nothing in it had to be normalised, else a copy; never changes what it was given. */
  check(value: unknown): Record<string, unknown> | typeof bad {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad
    const given = value as Record<string, unknown>
    let out = given
    let required = 0
    // Over the keys that came, not those of the shape: each is then found without a search by the form of this object,
    // and the many optional ones that are absent cost nothing.
    for (const key in given) {
      const known = this.#fields.get(key)
      if (known === undefined) return bad
      const was = given[key]
      if (was === undefined) {
        if (!known.isOptional) return bad
        if (out === given) out = { ...given }
        delete out[key]
        continue
      }
      const checked = known.field.check(was)
      if (checked === bad) return bad
      if (!known.isOptional) required++
      if (Object.is(checked, was)) continue
      if (out === given) out = { ...given }
      out[key] = checked
    }
    return required === this.#required ? out : bad
  }

  /** Of a value that was refused, the first field at fault; undefined when it is no object at all. */
  fault(value: unknown): string | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    const given = value as Record<string, unknown>
    return (
      Object.keys(given).find(key => !this.#fields.has(key)) ??
      Object.entries(this.#shape).find(([key, field]) =>
        given[key] === undefined ? !isOpt(field) : field.check(given[key]) === bad,
      )?.[0]
    )
  }
}

const isOpt = (field: Field<unknown>): boolean => (field as Partial<OptionalField<unknown>>).optional === true
