/**
 * The ids and texts of the latest sends: which ids the log has to be asked about, and how often a text was sent.
 * A draft adds to a list of its own; the shared base changes only when the draft is committed (`fold`), so that a draft
 * thrown away leaves no trace. Of a committed send it keeps the id and the number alone: what outlives a young generation's
 * collection is copied twice, and all else stands in the log. Refuses to be the truth about duplicates: the unique index is.
 */
import { equalTextsWindowMs } from '#protos/limits.ts'

export interface Sent {
  senderId: string
  clientId: string
  seq: number
  messageId: string
  /** Hex. */
  hash: string
  /** Of the content and its sender: equal for equal texts. */
  textKey: number
  /** Monotonic ms. */
  mono: number
}

interface Added {
  sent: Sent
  before: Added | undefined
}

interface Base {
  /** The latest seq under a client id, whoever sent it. */
  ids: Map<string, number>
  /** Whole monotonic ms, ascending; one alone stands for itself. */
  texts: Map<number, number | readonly number[]>
}

export interface Recent {
  /** Undefined: nothing was sent while this activation lived. */
  readonly base: Base | undefined
  readonly added: Added | undefined
}

export const noRecent: Recent = { base: undefined, added: undefined }

/** What this draft sent under that id. */
export function findInDraft(recent: Recent, senderId: string, clientId: string): Sent | undefined {
  for (let a = recent.added; a; a = a.before) {
    if (a.sent.clientId === clientId && a.sent.senderId === senderId) return a.sent
  }
  return undefined
}

/** The number under which somebody stored this id lately: the log knows who, and what. */
export function lastSeqOf(recent: Recent, clientId: string): number | undefined {
  return recent.base?.ids.get(clientId)
}

/** Whether this draft made that message: the log cannot know it yet. */
export function isInDraft(recent: Recent, seq: number): boolean {
  for (let a = recent.added; a; a = a.before) if (a.sent.seq === seq) return true
  return false
}

const never: readonly number[] = []

/** Monotonic times at which this text was sent within the window before `mono`, oldest first. */
export function equalTexts(recent: Recent, textKey: number, mono: number): readonly number[] {
  const times = since(recent.base?.texts.get(textKey), mono - equalTextsWindowMs)
  let own: number[] | undefined
  for (let a = recent.added; a; a = a.before) if (a.sent.textKey === textKey) (own ??= []).push(a.sent.mono)
  return own === undefined ? times : [...times, ...own.reverse()]
}

/** Of ascending times, those after `mono`; most often all or none. */
function since(times: number | readonly number[] | undefined, mono: number): readonly number[] {
  if (times === undefined) return never
  if (typeof times === 'number') return times > mono ? [times] : never
  if (times[0]! > mono) return times
  return times.at(-1)! > mono ? times.filter(t => t > mono) : never
}

export function addRecent(recent: Recent, sent: Sent): Recent {
  return { base: recent.base, added: { sent, before: recent.added } }
}

/** What the draft added, oldest first. */
export function addedSends(recent: Recent): Sent[] {
  const out: Sent[] = []
  for (let a = recent.added; a; a = a.before) out.push(a.sent)
  return out.length > 1 ? out.reverse() : out
}

/** Moves what a committed draft added into the base; out of it go the oldest beyond `idsMax` and texts that count no more. */
export function foldRecent(recent: Recent, idsMax: number): Recent {
  if (recent.added === undefined) return recent
  const base = recent.base ?? { ids: new Map<string, number>(), texts: new Map<number, number | readonly number[]>() }
  const { ids, texts } = base
  for (const { clientId, seq, textKey, mono } of addedSends(recent)) {
    // Last again, for the oldest go first.
    ids.delete(clientId)
    ids.set(clientId, seq)
    const at = Math.floor(mono)
    const times = since(texts.get(textKey), at - equalTextsWindowMs)
    texts.delete(textKey)
    texts.set(textKey, times.length === 0 ? at : [...times, at])
  }
  if (ids.size > idsMax) {
    for (const key of ids.keys()) {
      ids.delete(key)
      if (ids.size <= idsMax) break
    }
  }
  const old = recent.added.sent.mono - equalTextsWindowMs
  for (const [key, times] of texts) {
    if (texts.size <= idsMax && lastOf(times) > old) break
    texts.delete(key)
  }
  return { base, added: undefined }
}

function lastOf(times: number | readonly number[]): number {
  return typeof times === 'number' ? times : times.at(-1)!
}

/** A key for a text of a sender: 53 bits of a mixed hash, for counting only. */
export function textKeyOf(senderId: string, text: string): number {
  let a = 0xdeadbeef
  let b = 0x41c6ce57 ^ text.length
  for (let i = 0; i < senderId.length; i++) {
    const unit = senderId.charCodeAt(i)
    a = Math.imul(a ^ unit, 2654435761)
    b = Math.imul(b ^ unit, 1597334677)
  }
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2654435761)
    b = Math.imul(b ^ unit, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507)
  b = Math.imul(b ^ (b >>> 13), 3266489909)
  return (a >>> 0) * 0x200000 + ((b ^ (b >>> 11)) & 0x1fffff)
}
