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
  /** By client id; by sender and client id where another's send has the same. */
  ids: Map<string, Sent>
  texts: Map<number, readonly number[]>
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
  const { ids } = recent.base
  const sent = ids.get(clientId)
  return sent === undefined || sent.senderId === senderId ? sent : ids.get(senderId + clientId)
}

/** Whether this draft made that message: the log cannot know it yet. */
export function isInDraft(recent: Recent, seq: number): boolean {
  for (let a = recent.added; a; a = a.before) if (a.sent.seq === seq) return true
  return false
}

const never: readonly number[] = []

/** Monotonic times at which this text was sent within the window before `mono`, oldest first. */
export function equalTexts(recent: Recent, textKey: number, mono: number): readonly number[] {
  const times = since(recent.base.texts.get(textKey) ?? never, mono - equalTextsWindowMs)
  let own: number[] | undefined
  for (let a = recent.added; a; a = a.before) if (a.sent.textKey === textKey) (own ??= []).push(a.sent.mono)
  return own === undefined ? times : [...times, ...own.reverse()]
}

/** Of ascending times, those after `mono`; most often all or none. */
function since(times: readonly number[], mono: number): readonly number[] {
  if (times.length === 0 || times[0]! > mono) return times
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
  const { ids, texts } = recent.base
  for (const sent of addedSends(recent)) {
    const before = ids.get(sent.clientId)
    ids.set(
      before === undefined || before.senderId === sent.senderId ? sent.clientId : sent.senderId + sent.clientId,
      sent,
    )
    const times = texts.get(sent.textKey)
    if (times === undefined) texts.set(sent.textKey, [sent.mono])
    else {
      // Last again, for the oldest go first.
      texts.delete(sent.textKey)
      texts.set(sent.textKey, [...since(times, sent.mono - equalTextsWindowMs), sent.mono])
    }
  }
  if (ids.size > idsMax) {
    for (const key of ids.keys()) {
      ids.delete(key)
      if (ids.size <= idsMax) break
    }
  }
  const old = recent.added.sent.mono - equalTextsWindowMs
  for (const [key, times] of texts) {
    if (texts.size <= idsMax && times.at(-1)! > old) break
    texts.delete(key)
  }
  return { base: recent.base, added: undefined }
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
