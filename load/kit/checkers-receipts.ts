/**
 * C6: read positions never move back for anybody who watches, and end where they were announced; view counts count each reader
 * once. Pure: announcements, observations and the final rows go in. Refuses to judge how fast a position travels.
 */
import { group, Problems } from './checkers.ts'

export interface ReceiptHistory {
  /** Positions that a device announced and was not refused; a send of one's own moves one's position too. */
  announced: readonly { user: string; conversation: string; seq: number }[]
  /** Sends of one's own that are stored and whose ack never came: the position may be there, or not. */
  possible?: readonly { user: string; conversation: string; seq: number }[]
  /** What an observer was told or read, in order of time per observer. */
  observed: readonly { observer: string; user: string; conversation: string; readSeq: number; at: number }[]
  /** Positions in Postgres at quiet. */
  final: readonly { user: string; conversation: string; readSeq: number }[]
  heads: Record<string, number>
  /** View counts at quiet, where a conversation has them. */
  views?: readonly { conversation: string; seq: number; count: number }[]
}

export function checkReceipts({
  announced,
  possible = [],
  observed,
  final,
  heads,
  views = [],
}: ReceiptHistory): string[] {
  const problems = new Problems('C6')
  for (const [key, list] of group(observed, o => `${o.observer} of ${o.user} in ${o.conversation}`)) {
    let highest = 0
    for (const { readSeq } of list.toSorted((a, b) => a.at - b.at)) {
      if (readSeq < highest) problems.add(`${key}: ${readSeq} after ${highest}`)
      highest = Math.max(highest, readSeq)
    }
  }
  const wanted = new Map<string, number>()
  for (const { user, conversation, seq } of announced) {
    const key = `${user} in ${conversation}`
    wanted.set(key, Math.max(wanted.get(key) ?? 0, Math.min(seq, heads[conversation] ?? 0)))
  }
  const stored = new Map(final.map(f => [`${f.user} in ${f.conversation}`, f.readSeq]))
  const mayBe = group(possible, p => `${p.user} in ${p.conversation}`)
  for (const [key, seq] of wanted) {
    const now = stored.get(key)
    if (now === seq || mayBe.get(key)?.some(p => p.seq === now && p.seq > seq)) continue
    problems.add(`${key}: ${seq} was announced, ${now ?? 'nothing'} is stored`)
  }
  const positions = group(final, f => f.conversation)
  for (const { conversation, seq, count } of views) {
    const readers = (positions.get(conversation) ?? []).filter(f => f.readSeq >= seq).length
    if (count !== readers) problems.add(`${conversation}: ${count} views of ${seq}, ${readers} have read it`)
  }
  return problems.list
}
