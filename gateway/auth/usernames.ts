/** Names of people: their form, the reserved ones, and how one is derived from an e-mail address. Pure. */
import { usernameCharsMax, usernameCharsMin } from '#protos/limits.ts'

export const reservedUsernames: ReadonlySet<string> = new Set([
  'me',
  'search',
  'admin',
  'assistant',
  'system',
  'everyone',
  'here',
  'all',
  'parley',
])

const derivedCharsMax = 26

/** The name as it is stored, or what is wrong with it. Reserved is looked at before the length: `me` is taken, not short. */
export function parseUsername(given: string): { name: string } | { wrong: 'reserved' | 'form' } {
  const name = given.toLowerCase()
  if (reservedUsernames.has(name)) return { wrong: 'reserved' }
  return /^[a-z0-9_]+$/.test(name) && name.length >= usernameCharsMin && name.length <= usernameCharsMax
    ? { name }
    : { wrong: 'form' }
}

/** The stem of a derived name: NFKC, lower, others to `_`, at most 26 characters, so that `_9999999` still fits. */
export function stemOf(email: string): string {
  const local = email.slice(0, email.lastIndexOf('@'))
  const stem = local
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^a-z0-9_]/gu, '_')
    .slice(0, derivedCharsMax)
  return stem === '' ? '_' : stem
}

/** The first name of the stem that is free: itself, then `_2`, `_3` … */
export function deriveUsername(stem: string, taken: ReadonlySet<string>): string {
  if (stem.length >= usernameCharsMin && !reservedUsernames.has(stem) && !taken.has(stem)) return stem
  for (let n = 2; ; n++) {
    const name = `${stem.slice(0, usernameCharsMax - 1 - String(n).length)}_${n}`
    if (name.length >= usernameCharsMin && !reservedUsernames.has(name) && !taken.has(name)) return name
  }
}
