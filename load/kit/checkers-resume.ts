/**
 * C3 over raw frames: what each connection of a device was sent for one conversation, before a client drops anything. Decides
 * whether live events are dense, a join replays exactly what it promised, resync_required tells the truth, and nothing is missed
 * over the device's life. Pure; refuses to guess what an event belongs to: `room.joined` says how many before it were the replay.
 */
import { byConversation, group, Problems, type Row } from './checkers.ts'

export type StreamItem = { at: number } & (
  | { kind: 'head'; seq: number } // `ready` or conversation.added: live begins above it
  | { kind: 'event'; seq: number }
  | { kind: 'join'; id: string; afterSeq: number | undefined }
  | { kind: 'joined'; id: string; headSeq: number }
  | { kind: 'resync'; id: string; reason: string; firstSeq: number; headSeq: number }
  | { kind: 'removed' }
  | { kind: 'read'; from: number; to: number } // by REST, after a resync
)

/** One connection of one device in one conversation, in order of arrival. */
export interface Stream {
  device: string
  connection: number
  conversation: string
  items: StreamItem[]
}

export interface ResumeTruth {
  rows: Row[]
  /** Acked sends: a later join may not know less. */
  acks: readonly { conversation: string; seq: number; at: number }[]
  firstSeqs?: Record<string, number>
  /** Devices that were connected and quiet at the end: they have to have everything. */
  complete: ReadonlySet<string>
}

export const replayEventsMax = 2000
/** A frame is its content and about so much around it. */
const frameOverheadBytes = 350
const replayBytesMax = 1024 * 1024

export function checkStreams(streams: readonly Stream[], truth: ResumeTruth): string[] {
  const problems = new Problems('C3')
  const acks = group(truth.acks, a => a.conversation)
  for (const list of acks.values()) list.sort((a, b) => a.at - b.at)
  const logs = byConversation(truth.rows)
  for (const stream of streams) checkStream(stream, problems, acks.get(stream.conversation) ?? [], logs, truth)
  for (const [key, list] of group(streams, s => `${s.device} in ${s.conversation}`)) {
    if (truth.complete.has(list[0]!.device)) checkLife(key, list, problems, logs)
  }
  return problems.list
}

function checkStream(
  { connection, conversation, items }: Stream,
  problems: Problems,
  acks: readonly { seq: number; at: number }[],
  logs: Map<string, Row[]>,
  { firstSeqs = {} }: ResumeTruth,
): void {
  const name = `connection ${connection} in ${conversation}`
  const first = firstSeqs[conversation] ?? 1
  let live: number | undefined
  /** A join may be answered below `ready`'s head: the log had a row that its owner did not know stored yet. Live goes on there. */
  let joinedAt: number | undefined
  /** Joins without an answer, in the order in which they were sent. */
  const joins = new Map<string, { afterSeq: number | undefined; at: number }>()
  /** Events since the first of them was sent; the last ones before an answer are its replay. */
  let pending: number[] = []
  const goLive = (seq: number) => {
    if (live === undefined) problems.add(`${name}: ${seq} came before any head was told`)
    else if (seq !== live + 1 && seq !== (joinedAt ?? live) + 1)
      problems.add(`${name}: live went from ${live} to ${seq}`)
    live = seq === (joinedAt ?? Number.NaN) + 1 ? seq : Math.max(live ?? 0, seq)
    joinedAt = undefined
  }
  const ackedBefore = (at: number) => acks.reduce((max, a) => (a.at < at && a.seq > max ? a.seq : max), 0)
  for (const item of items) {
    switch (item.kind) {
      case 'head':
        live = item.seq
        break
      case 'event':
        if (joins.size > 0) pending.push(item.seq)
        else goLive(item.seq)
        break
      case 'join':
        joins.set(item.id, item)
        break
      case 'joined': {
        const joinable = joins.get(item.id)
        if (!joinable) break
        const after = joinable.afterSeq ?? item.headSeq
        const count = Math.max(0, item.headSeq - after)
        const replay = count === 0 ? [] : pending.slice(-count)
        for (const seq of pending.slice(0, pending.length - replay.length)) goLive(seq)
        if (item.headSeq < after) problems.add(`${name}: joined at ${item.headSeq} from ${after}, which is above it`)
        if (replay.length !== count || replay.some((seq, i) => seq !== after + 1 + i)) {
          problems.add(`${name}: the replay of ${after + 1}…${item.headSeq} was ${shortList(replay)}`)
        }
        const acked = ackedBefore(joinable.at)
        if (item.headSeq < acked) problems.add(`${name}: joined at ${item.headSeq} after ${acked} had been acked`)
        live = Math.max(live ?? 0, item.headSeq)
        joinedAt = item.headSeq
        joins.delete(item.id)
        pending = []
        break
      }
      case 'resync': {
        const joinable = joins.get(item.id)
        if (!joinable) break
        for (const seq of pending) goLive(seq)
        const after = joinable.afterSeq ?? item.headSeq
        const missed = (logs.get(conversation) ?? []).filter(r => r.seq > after && r.seq <= item.headSeq)
        const bytes = missed.reduce((n, r) => n + Buffer.byteLength(r.content ?? '') + frameOverheadBytes, 0)
        const isTrue =
          item.reason === 'too_far'
            ? missed.length > replayEventsMax || bytes > replayBytesMax / 2
            : item.reason === 'ahead'
              ? after > item.headSeq && item.headSeq >= ackedBefore(joinable.at)
              : item.reason === 'gone' && after < first - 1
        if (!isTrue)
          problems.add(`${name}: resync_required ${item.reason} from ${after} at ${item.headSeq} is not true`)
        joins.delete(item.id)
        pending = []
        break
      }
      case 'removed':
      case 'read':
        break
      default:
        item satisfies never
    }
  }
  // The connection broke before the answer: some live events, then the beginning of the replay.
  const after = [...joins.values()][0]?.afterSeq ?? 0
  const isOpenEnd = pending.some((_, k) =>
    pending.every((seq, i) => (i < k ? seq === (live ?? 0) + 1 + i : seq === after + 1 + i - k)),
  )
  if (!isOpenEnd) for (const seq of pending) goLive(seq)
}

function checkLife(name: string, list: readonly Stream[], problems: Problems, logs: Map<string, Row[]>): void {
  const seen = new Set<number>()
  let from = Number.POSITIVE_INFINITY
  let isRemoved = false
  for (const { items } of list) {
    for (const item of items) {
      if (item.kind === 'head') from = Math.min(from, item.seq + 1)
      if (item.kind === 'removed') isRemoved = true
      if (item.kind === 'event') seen.add(item.seq)
      if (item.kind === 'read') for (let seq = item.from; seq <= item.to; seq++) seen.add(seq)
    }
  }
  // What a removed member gets is C9's affair.
  if (isRemoved) return
  const missed = (logs.get(list[0]!.conversation) ?? []).filter(row => row.seq >= from && !seen.has(row.seq))
  if (missed.length > 0) problems.add(`${name}: never got ${shortList(missed.map(row => row.seq))}`)
}

const shortList = (seqs: readonly number[]) =>
  seqs.length === 0 ? 'nothing' : `${seqs.slice(0, 8).join(', ')}${seqs.length > 8 ? ` … (${seqs.length})` : ''}`
