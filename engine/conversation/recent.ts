/**
 * The ids and texts of the latest sends: what answers most duplicates without a read, and counts equal texts.
 * A draft adds to a list of its own; the shared base changes only when the draft is committed (`fold`), so that a draft
 * thrown away leaves no trace. Refuses to be the truth about duplicates: the log's unique index is.
 */
import { equalTextsWindowMs } from '#protos/limits.ts'

export interface Sent {
  senderId: string
  clientId: string
  seq: number
  messageId: string
  hash: Uint8Array
  /** Digest of the content alone, with its sender: equal for equal texts. */
  textKey: string
  /** Monotonic ms. */
  mono: number
}

interface Added {
  sent: Sent
  before: Added | undefined
}

interface Base {
  ids: Map<string, Sent>
  texts: Map<string, number[]>
}

export interface Recent {
  readonly base: Base
  readonly added: Added | undefined
}

export function noRecent(): Recent {
  return { base: { ids: new Map(), texts: new Map() }, added: undefined }
}

export function findRecent(recent: Recent, senderId: string, clientId: string): Sent | undefined {
  for (let a = recent.added; a; a = a.before) {
    if (a.sent.clientId === clientId && a.sent.senderId === senderId) return a.sent
  }
  return recent.base.ids.get(senderId + clientId)
}

/** Monotonic times at which this text was sent within the window before `mono`, oldest first. */
export function equalTexts(recent: Recent, textKey: string, mono: number): number[] {
  const times = (recent.base.texts.get(textKey) ?? []).filter(t => t > mono - equalTextsWindowMs)
  const own: number[] = []
  for (let a = recent.added; a; a = a.before) if (a.sent.textKey === textKey) own.push(a.sent.mono)
  return [...times, ...own.reverse()]
}

export function addRecent(recent: Recent, sent: Sent): Recent {
  return { base: recent.base, added: { sent, before: recent.added } }
}

/** What the draft added, oldest first. */
export function addedSends(recent: Recent): Sent[] {
  const out: Sent[] = []
  for (let a = recent.added; a; a = a.before) out.push(a.sent)
  return out.reverse()
}

/** Moves what a committed draft added into the base; out of it go the oldest beyond `idsMax` and texts that count no more. */
export function foldRecent(recent: Recent, idsMax: number): Recent {
  const { ids, texts } = recent.base
  for (const sent of addedSends(recent)) {
    ids.set(sent.senderId + sent.clientId, sent)
    const times = texts.get(sent.textKey)?.filter(t => t > sent.mono - equalTextsWindowMs) ?? []
    times.push(sent.mono)
    texts.delete(sent.textKey)
    texts.set(sent.textKey, times)
  }
  for (const key of ids.keys()) {
    if (ids.size <= idsMax) break
    ids.delete(key)
  }
  const since = (recent.added?.sent.mono ?? 0) - equalTextsWindowMs
  for (const [key, times] of texts) {
    if (texts.size <= idsMax && times.at(-1)! > since) break
    texts.delete(key)
  }
  return { base: recent.base, added: undefined }
}

/** A key for a text of a sender: 53 bits of a mixed hash, for counting only. */
export function textKeyOf(senderId: string, text: string): string {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2654435761)
    b = Math.imul(b ^ unit, 1597334677)
  }
  return `${senderId}${text.length}:${a >>> 0}:${b >>> 0}`
}
