/** Ids: UUIDs as lower-case text in code and on the wire, 16 bytes in labels. Hashing is passed in where it is needed. */

/** What a character of an id is, as bits: a digit, one in upper case, a hyphen. */
const digit = 1
const upper = 2
const hyphen = 4
const kindOf = new Uint8Array(65_536)
for (const c of '0123456789abcdef') kindOf[c.charCodeAt(0)] = digit
for (const c of 'ABCDEF') kindOf[c.charCodeAt(0)] = digit | upper
kindOf['-'.charCodeAt(0)] = hyphen
const uuidForm = Uint8Array.from('00000000-0000-0000-0000-000000000000', c => (c === '-' ? hyphen : digit))

export const nilId = '00000000-0000-0000-0000-000000000000'
/** The assistant's user: takes part in every `ai` and `group` conversation without being a member. */
export const assistantId = '00000000-0000-7000-8000-0000000a1000'
/** Namespace of the ids of direct conversations: uuidv5(dmNamespace, low ‖ high user id). */
export const dmNamespace = '6f2d9a54-6c1b-5d53-9a0e-3f6d1c7be2a1'
/** Namespace of the ids derived from an attempt or a run: uuidv5(idNamespace, text). */
export const stepNamespace = 'a3c6b7f0-51d2-5c84-8a57-0d9e64f1b2c3'

/** The id in lower case, or undefined if it is no UUID text (any version, nil included). */
export function parseId(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length !== uuidForm.length) return undefined
  // By hand: a regular expression takes three times as long, and each frame has several ids.
  let seen = 0
  for (let i = 0; i < uuidForm.length; i++) {
    const kind = kindOf[value.charCodeAt(i)]!
    if ((kind & uuidForm[i]!) === 0) return undefined
    seen |= kind
  }
  return (seen & upper) === 0 ? value : value.toLowerCase()
}

const byteOf = new Int16Array(65_536).fill(-1)
const hexOf: string[] = []
/** The two character codes of a byte, the first in the low half. */
const codesOf = new Uint16Array(256)
for (let i = 0; i < 256; i++) {
  const hex = i.toString(16).padStart(2, '0')
  hexOf.push(hex)
  byteOf[(hex.charCodeAt(0) << 8) | hex.charCodeAt(1)] = i
  codesOf[i] = hex.charCodeAt(0) | (hex.charCodeAt(1) << 8)
}

/** Writes a lower-case id's 16 bytes at `offset`; '' writes the nil id. The id must be well-formed. */
export function writeId(target: Uint8Array, offset: number, id: string): void {
  if (id === '') {
    target.fill(0, offset, offset + 16)
    return
  }
  let at = 0
  for (let i = 0; i < 16; i++) {
    if (at === 8 || at === 13 || at === 18 || at === 23) at++
    const byte = byteOf[(id.charCodeAt(at) << 8) | id.charCodeAt(at + 1)]!
    if (byte < 0) throw new RangeError('not a lower-case UUID')
    target[offset + i] = byte
    at += 2
  }
}

/** The lower-case text of the 16 bytes at `offset`. */
export function readId(source: Uint8Array, offset: number): string {
  let text = ''
  for (let i = 0; i < 16; i++) {
    text += hexOf[source[offset + i]!]
    if (i === 3 || i === 5 || i === 7 || i === 9) text += '-'
  }
  return text
}

/**
 * Writes the text of the 16 bytes at `offset` as 36 character codes to the start of `target`: for readers
 * of many, who make one flat string of them.
 */
export function writeIdText(target: Uint8Array, source: Uint8Array, offset: number): void {
  let at = 0
  for (let i = 0; i < 16; i++) {
    if (at === 8 || at === 13 || at === 18 || at === 23) target[at++] = 45
    const codes = codesOf[source[offset + i]!]!
    target[at++] = codes & 0xff
    target[at++] = codes >> 8
  }
}

/** Milliseconds since 1970 that a version 7 id carries, or undefined for other versions. */
export function timeOfId(id: string): number | undefined {
  return id[14] === '7' ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : undefined
}

/** A version 5 id. `sha1` digests bytes to at least 16 bytes; it comes from the caller so that this file stays portable. */
export function nameId(namespace: string, name: string, sha1: (bytes: Uint8Array) => Uint8Array): string {
  const text = new TextEncoder().encode(name)
  const bytes = new Uint8Array(16 + text.length)
  writeId(bytes, 0, namespace)
  bytes.set(text, 16)
  const hash = Uint8Array.from(sha1(bytes).subarray(0, 16))
  hash[6] = (hash[6]! & 0x0f) | 0x50
  hash[8] = (hash[8]! & 0x3f) | 0x80
  return readId(hash, 0)
}

/** The one id that a direct conversation of two users can have, whatever their order. */
export function dmId(a: string, b: string, sha1: (bytes: Uint8Array) => Uint8Array): string {
  return nameId(dmNamespace, a < b ? a + b : b + a, sha1)
}
