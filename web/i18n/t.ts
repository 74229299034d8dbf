/** `t(key, values)`: sentences with typed keys, plurals by the language's own rules. Every visible string goes through it. */
import { en } from './en.ts'

export type Key = keyof typeof en
type Values = Record<string, string | number>

export const locale = 'en'
const plural = new Intl.PluralRules(locale)
const number = new Intl.NumberFormat(locale)
const list = new Intl.ListFormat(locale)

export function t(key: Key, values: Values = {}): string {
  const entry: string | { one: string; other: string } = en[key]
  const form =
    typeof entry === 'string' ? entry : plural.select(Number(values['n'])) === 'one' ? entry.one : entry.other
  return form.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name]
    return typeof value === 'number' ? number.format(value) : (value ?? '')
  })
}

/** Names one after the other, as the language lists them. */
export const listed = (names: readonly string[]) => list.format(names)

/** The words for why something was refused, by the server's code. */
export function reasonOf(code: string): string {
  const key = `reason.${code}`
  return t(key in en ? (key as Key) : 'reason.other')
}
