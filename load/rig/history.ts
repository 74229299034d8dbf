/**
 * The history of a run: one JSON line for everything that a client did or saw and for every fault, written when it happens.
 * Folds the lines again into what the checkers read. The file is the evidence; refuses to hold anything a server said about
 * itself.
 */
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Attempt, Delivery, HistoryRead } from '#load/kit/checkers.ts'
import type { PresenceSeen, PresenceTruth } from '#load/kit/checkers-presence.ts'
import type { ReceiptHistory } from '#load/kit/checkers-receipts.ts'
import type { FaultSpan } from '#load/kit/checkers-recovery.ts'
import type { Stream, StreamItem } from '#load/kit/checkers-resume.ts'

/** Beside `t_ns`, monotonic ns since the run began. `actor`: user id; `device`: one of the user's clients. */
export type Entry =
  | { kind: 'reopen'; actor: string; device: string }
  | { kind: 'ready'; actor: string; device: string; connId: number; heads: Record<string, number> }
  | { kind: 'leaving'; connId: number } // says goodbye; others may hear of it before the answer comes
  | {
      kind: 'closed'
      actor: string
      device: string
      connId: number
      code: number
      how: 'clean' | 'lost'
      planned: boolean
    }
  | { kind: 'invoke'; actor: string; connId: number; conv: string; attempt: number; cmid: string; content: string }
  | { kind: 'ok'; attempt: number; seq: number; messageId: string; dup: boolean }
  | { kind: 'refused'; attempt: number; code: string }
  | { kind: 'unknown'; attempt: number; why: 'time' | 'close' }
  | { kind: 'event'; connId: number; conv: string; seq: number; type: string; messageId?: string; content?: string }
  | { kind: 'head'; connId: number; conv: string; seq: number }
  | { kind: 'removed'; connId: number; conv: string }
  | { kind: 'join'; connId: number; conv: string; id: string; afterSeq?: number }
  | { kind: 'joined'; connId: number; conv: string; id: string; seq: number }
  | { kind: 'resync'; connId: number; conv: string; id: string; reason: string; firstSeq: number; seq: number }
  | { kind: 'caught'; connId: number; conv: string; from: number; to: number }
  | { kind: 'read'; conv: string; invoked_ns: number; after: number; limit: number; seqs: number[] }
  | { kind: 'announce'; actor: string; conv: string; seq: number }
  | { kind: 'receipt'; actor: string; device: string; connId: number; conv: string; of: string; readSeq: number }
  | { kind: 'presence'; actor: string; of: string; status: PresenceSeen['status'] }
  | ({ kind: 'fault' } & FaultSpan)

export interface HistoryWriter {
  write(entry: Entry): void
  /** Monotonic ms of the run's clock, as the entries have it. */
  now(): number
  close(): Promise<void>
}

/** Lines kept in memory before they are written together. */
const linesMax = 500

export function openHistory(file: string): HistoryWriter {
  const out: WriteStream = createWriteStream(file)
  let lines: string[] = []
  const flush = () => {
    if (lines.length > 0) out.write(`${lines.join('\n')}\n`)
    lines = []
  }
  return {
    write(entry) {
      lines.push(JSON.stringify({ t_ns: Math.round(performance.now() * 1e6), ...entry }))
      if (lines.length >= linesMax) flush()
    },
    now: () => performance.now(),
    close() {
      flush()
      return new Promise((resolve, reject) => {
        out.once('error', reject)
        out.end(() => resolve())
      })
    },
  }
}

export interface Folded {
  attempts: Attempt[]
  deliveries: Delivery[]
  streams: Stream[]
  reads: HistoryRead[]
  faults: FaultSpan[]
  /** From the loss of a connection (or the wish for one) to `ready`. */
  gaps: { device: string; from: number; to: number }[]
  presenceTruth: PresenceTruth[]
  presenceSeen: PresenceSeen[]
  announced: ReceiptHistory['announced'][number][]
  observed: ReceiptHistory['observed'][number][]
  counts: { resumes: number; resyncs: number; unknown: number; refused: number; duplicates: number }
}

export async function readHistory(file: string): Promise<Folded> {
  const folder = createFolder()
  for await (const line of createInterface({ input: createReadStream(file) })) {
    if (line !== '') folder.add(JSON.parse(line) as Entry & { t_ns: number })
  }
  return folder.end()
}

export function createFolder(): { add(entry: Entry & { t_ns: number }): void; end(): Folded } {
  const attempts = new Map<number, Attempt>()
  /** By connection, those that are not answered. */
  const open = new Map<number, Set<Attempt>>()
  const streams = new Map<string, Stream>()
  const devices = new Map<number, { device: string; actor: string; readyAt: number; leftAt?: number }>()
  const away = new Map<string, number>()
  const out: Folded = {
    attempts: [],
    deliveries: [],
    streams: [],
    reads: [],
    faults: [],
    gaps: [],
    presenceTruth: [],
    presenceSeen: [],
    announced: [],
    observed: [],
    counts: { resumes: 0, resyncs: 0, unknown: 0, refused: 0, duplicates: 0 },
  }
  let last = 0

  const item = (connection: number, conversation: string, next: StreamItem) => {
    const key = `${connection} ${conversation}`
    let stream = streams.get(key)
    if (!stream) {
      stream = { device: devices.get(connection)?.device ?? '', connection, conversation, items: [] }
      streams.set(key, stream)
    }
    stream.items.push(next)
  }
  const settle = (attempt: number, at: number, outcome: Attempt['outcome']) => {
    const a = attempts.get(attempt)
    // An answer that comes after the client gave up is the truth nevertheless.
    if (!a) return
    Object.assign(a, { completedAt: at, outcome })
    open.get(a.connection)?.delete(a)
  }

  function add(e: Entry & { t_ns: number }): void {
    const at = e.t_ns / 1e6
    last = Math.max(last, at)
    switch (e.kind) {
      case 'reopen':
        if (!away.has(e.device)) away.set(e.device, at)
        break
      case 'ready': {
        devices.set(e.connId, { device: e.device, actor: e.actor, readyAt: at })
        const from = away.get(e.device)
        if (from !== undefined) out.gaps.push({ device: e.device, from, to: at })
        away.delete(e.device)
        for (const [conv, seq] of Object.entries(e.heads)) item(e.connId, conv, { kind: 'head', seq, at })
        break
      }
      case 'leaving': {
        const device = devices.get(e.connId)
        if (device) device.leftAt = at
        break
      }
      case 'closed': {
        const device = devices.get(e.connId)
        if (device)
          out.presenceTruth.push({ user: e.actor, from: device.readyAt, to: device.leftAt ?? at, ended: e.how })
        if (!e.planned) away.set(e.device, at)
        else for (const attempt of open.get(e.connId) ?? []) attempt.abandonedAt = at
        open.delete(e.connId)
        devices.delete(e.connId)
        break
      }
      case 'invoke': {
        const attempt: Attempt = {
          sender: e.actor,
          connection: e.connId,
          conversation: e.conv,
          clientId: e.cmid,
          content: e.content,
          invokedAt: at,
          outcome: { kind: 'unknown' },
        }
        attempts.set(e.attempt, attempt)
        const own = open.get(e.connId)
        if (own) own.add(attempt)
        else open.set(e.connId, new Set([attempt]))
        break
      }
      case 'ok':
        if (e.dup) out.counts.duplicates++
        settle(e.attempt, at, { kind: 'ok', seq: e.seq, messageId: e.messageId, duplicate: e.dup })
        break
      case 'refused':
        settle(e.attempt, at, { kind: 'refused', code: e.code })
        break
      case 'unknown':
        out.counts.unknown++
        break
      case 'event':
        item(e.connId, e.conv, { kind: 'event', seq: e.seq, at })
        out.deliveries.push({
          connection: e.connId,
          conversation: e.conv,
          seq: e.seq,
          kind: e.type,
          messageId: e.messageId,
          content: e.content,
          readyHead: 0,
        })
        break
      case 'head':
        item(e.connId, e.conv, { kind: 'head', seq: e.seq, at })
        break
      case 'removed':
        item(e.connId, e.conv, { kind: 'removed', at })
        break
      case 'join':
        item(e.connId, e.conv, { kind: 'join', id: e.id, afterSeq: e.afterSeq, at })
        break
      case 'joined':
        out.counts.resumes++
        item(e.connId, e.conv, { kind: 'joined', id: e.id, headSeq: e.seq, at })
        break
      case 'resync':
        out.counts.resyncs++
        item(e.connId, e.conv, {
          kind: 'resync',
          id: e.id,
          reason: e.reason,
          firstSeq: e.firstSeq,
          headSeq: e.seq,
          at,
        })
        break
      case 'caught':
        item(e.connId, e.conv, { kind: 'read', from: e.from, to: e.to, at })
        break
      case 'read': {
        const { conv: conversation, after, limit, seqs } = e
        out.reads.push({ conversation, invokedAt: e.invoked_ns / 1e6, after, limit, seqs })
        break
      }
      case 'announce':
        out.announced.push({ user: e.actor, conversation: e.conv, seq: e.seq })
        break
      case 'receipt':
        out.observed.push({
          observer: `${e.device} on ${e.connId}`,
          user: e.of,
          conversation: e.conv,
          readSeq: e.readSeq,
          at,
        })
        break
      case 'presence':
        out.presenceSeen.push({ observer: e.actor, user: e.of, status: e.status, at })
        break
      case 'fault': {
        const { t_ns: _, kind: __, ...span } = e
        out.faults.push(span)
        break
      }
      default:
        e satisfies never
    }
  }

  return {
    add,
    end() {
      for (const { actor, readyAt } of devices.values())
        out.presenceTruth.push({ user: actor, from: readyAt, to: last + 1, ended: 'open' })
      out.attempts = [...attempts.values()]
      out.streams = [...streams.values()]
      out.counts.refused = out.attempts.filter(a => a.outcome.kind === 'refused').length
      return out
    },
  }
}
