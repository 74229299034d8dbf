/**
 * Values of a tool's arguments and results as text that cannot deceive: whole, and with what has no shape of its own
 * (controls, marks of direction, spaces without width) spelled out. Pure.
 */

const unseen =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu

export function visible(text: string): string {
  return text.replace(unseen, c => `\\u{${c.codePointAt(0)!.toString(16)}}`)
}

/** Text whose direction stays its own, wherever it is put. */
export const isolated = (text: string) => `\u2068${text}\u2069`

/** The parts of an object, each with its name; anything else is one part without. */
export function partsOf(value: unknown): { name: string; text: string }[] {
  if (value === undefined) return []
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [{ name: '', text: textOf(value) }]
  return Object.entries(value).map(([name, part]) => ({ name: visible(name), text: textOf(part) }))
}

function textOf(value: unknown): string {
  return visible(typeof value === 'string' ? value : (JSON.stringify(value, undefined, 2) ?? ''))
}
