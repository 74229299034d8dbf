/**
 * Letters and their batches: the inside of one gRPC message on a link. A letter is a small label, readable without its
 * body, and an opaque body (on the way down the very bytes of a WebSocket text frame). Layout, little-endian:
 *
 *   letter  u32 body bytes · u16 label bytes · label · body
 *   label   u8 kind · u8 flags · u8 shard · u8 trace bytes · u32 socket · u32 age ms · u64 epoch · u64 seq
 *           16 conversation · 16 principal · 16 attempt · 16 subject · trace (UTF-8) · [later fields, ignored]
 *
 * A batch is letters one after another. Field numbers do not exist; a label only ever grows at its end.
 * Refuses to know what a letter means; kinds are listed here, their handling is in engine/server and engine/client.
 */
import { writeId, writeIdText } from './ids.ts'
import { linkBatchBytesMax, linkBatchLettersMax } from './limits.ts'

/** Kinds of letters. Numbers are stored nowhere but travel between versions: never reuse one. */
export const letterKinds = {
  // up (gateway → worker)
  command: 1, // body: a Command as JSON; principal, socket, conversation, epoch, attempt, age, resend, restart
  attach: 2, // body: JSON {items: [[conversationId, lastSeq], …]}; attempt answers in `attached`
  detach: 3, // body: JSON {items: [conversationId, …]}
  // both ways
  credit: 4, // seq: bytes given back, age: letters given back
  hello: 5, // first on every link, both ways; body: JSON {version, nodeId, role, incarnation?, worker?}
  // down (worker → gateway)
  answer: 16, // to one command: attempt, socket; body: the frame (ack, error, room.joined, resync_required)
  refused: 17, // this letter was not taken: attempt, socket, conversation, epoch (the owner's, 0 unknown); body: JSON {reason: 'not_owner' | 'behind' | 'busy' | 'expired', addr?}
  fact: 18, // durable event: conversation, seq, principal (sender), subject and `membership` flag on membership events; body: the frame
  delta: 19, // chat.stream: conversation, subject (answer id), seq (byte offset), age (byte length); body: the frame
  done: 20, // chat.done: conversation, subject (answer id); body: the frame
  typing: 21, // conversation, principal (who types), seq 1 on / 0 off; body: the frame
  receipt: 22, // conversation, principal (whose position); seq: the new readSeq if it moved, else 0; body: the frame
  user: 23, // to every socket of `subject`: chat.queued, conversation.added (seq = its headSeq, membership flag), conversation.removed, error; body: the frame
  replay: 24, // an event for one joining socket: attempt, socket, conversation, seq; body: the frame
  attached: 25, // body: JSON {heads: [[conversationId, headSeq], …] that differ, refused: [conversationId, …]}; attempt of the attach
  lagged: 26, // facts for this gateway were dropped for want of credit: attach everything of this link again
  moved: 27, // body: JSON {shards: [[shard, addr, epoch], …]}
} as const
export type LetterKind = (typeof letterKinds)[keyof typeof letterKinds]

export const letterFlags = {
  /**
   * The gateway may have forwarded this attempt before: look its id up before numbering. On `refused`: the letter had
   * reached an actor, so this attempt may be stored.
   */
  resend: 1,
  /** The first letter of its (socket, conversation) after a refusal was seen. On `answer`: a refusal for load. */
  restart: 2,
  /** A membership event or its notice: the hub applies it without decoding the body. */
  membership: 4,
  /** A command that stands alone: no order with others of its socket, no go-back-n. */
  loose: 8,
} as const

export interface Label {
  kind: LetterKind
  flags: number
  shard: number
  /** The connection within one gateway; 0 when no socket is concerned (REST). */
  socket: number
  /** Milliseconds since the gateway read it, by the gateway's monotonic clock. */
  age: number
  epoch: number
  seq: number
  /** '' when none; ids are lower-case UUIDs. */
  conversation: string
  principal: string
  attempt: string
  subject: string
  trace: string
}

export interface Letter {
  label: Label
  /** A view into the batch that it came in; copy it to keep it beyond the turn. */
  body: Uint8Array
}

const fixedLabelBytes = 92
const traceBytesMax = 255
const high = 4_294_967_296

/** A label with everything that is not given empty. */
export function label(kind: LetterKind, given: Partial<Omit<Label, 'kind'>> = {}): Label {
  return {
    kind,
    flags: given.flags ?? 0,
    shard: given.shard ?? 0,
    socket: given.socket ?? 0,
    age: given.age ?? 0,
    epoch: given.epoch ?? 0,
    seq: given.seq ?? 0,
    conversation: given.conversation ?? '',
    principal: given.principal ?? '',
    attempt: given.attempt ?? '',
    subject: given.subject ?? '',
    trace: given.trace ?? '',
  }
}

/** Bytes that a letter takes in a batch. */
export function letterBytes(l: Label, body: Uint8Array): number {
  return 6 + fixedLabelBytes + Math.min(Buffer.byteLength(l.trace), traceBytesMax) + body.length
}

/** Gathers letters of one turn into one gRPC message. Not for reuse after `take`. */
export class LetterBatch {
  #letters: Letter[] = []
  bytes = 0

  get count(): number {
    return this.#letters.length
  }

  /** Whether one more letter still fits into a message; a letter alone always does. */
  fits(l: Label, body: Uint8Array): boolean {
    if (this.#letters.length === 0) return true
    return this.#letters.length < linkBatchLettersMax && this.bytes + letterBytes(l, body) <= linkBatchBytesMax
  }

  push(l: Label, body: Uint8Array): void {
    this.#letters.push({ label: l, body })
    this.bytes += letterBytes(l, body)
  }

  /** The batch as bytes; the gatherer is empty afterwards. */
  take(): Buffer {
    const out = Buffer.allocUnsafe(this.bytes)
    let at = 0
    for (const { label: l, body } of this.#letters) at = writeLetter(out, at, l, body)
    this.#letters = []
    this.bytes = 0
    return out.subarray(0, at)
  }
}

function writeLetter(out: Buffer, start: number, l: Label, body: Uint8Array): number {
  const at = start + 6
  let traceBytes = 0
  if (l.trace !== '') {
    const room = Math.min(traceBytesMax, out.length - at - fixedLabelBytes)
    traceBytes = out.write(l.trace, at + fixedLabelBytes, room, 'utf8')
  }
  out.writeUInt32LE(body.length, start)
  out.writeUInt16LE(fixedLabelBytes + traceBytes, start + 4)
  out[at] = l.kind
  out[at + 1] = l.flags
  out[at + 2] = l.shard
  out[at + 3] = traceBytes
  out.writeUInt32LE(l.socket, at + 4)
  out.writeUInt32LE(Math.min(Math.max(0, Math.round(l.age)), 0xffffffff), at + 8)
  writeU64(out, at + 12, l.epoch)
  writeU64(out, at + 20, l.seq)
  writeId(out, at + 28, l.conversation)
  writeId(out, at + 44, l.principal)
  writeId(out, at + 60, l.attempt)
  writeId(out, at + 76, l.subject)
  const bodyAt = at + fixedLabelBytes + traceBytes
  out.set(body, bodyAt)
  return bodyAt + body.length
}

function writeU64(out: Buffer, at: number, value: number): void {
  out.writeUInt32LE(value % high, at)
  out.writeUInt32LE(Math.floor(value / high), at + 4)
}

/** A batch that cannot be read: the peer is broken or hostile. Nothing of the batch may be acted on. */
export class LetterError extends Error {
  override name = 'LetterError'
}

const knownKinds = new Set<number>(Object.values(letterKinds))

/**
 * The letters of a batch, bodies as views into `bytes`. Throws LetterError on truncation, a length beyond the frame, a
 * number beyond 2^53 or a trace that is no UTF-8. A letter of a kind that this version does not know is left out.
 */
export function readBatch(bytes: Uint8Array): Letter[] {
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const letters: Letter[] = []
  let at = 0
  while (at < source.length) {
    if (source.length - at < 6) throw new LetterError('truncated length')
    const bodyBytes = source.readUInt32LE(at)
    const labelBytes = source.readUInt16LE(at + 4)
    if (labelBytes < fixedLabelBytes || bodyBytes > source.length) throw new LetterError('impossible length')
    const labelAt = at + 6
    const bodyAt = labelAt + labelBytes
    if (bodyAt + bodyBytes > source.length) throw new LetterError('truncated letter')
    if (letters.length >= linkBatchLettersMax) throw new LetterError('too many letters')
    if (knownKinds.has(source[labelAt]!)) {
      letters.push({ label: readLabel(source, labelAt, labelBytes), body: source.subarray(bodyAt, bodyAt + bodyBytes) })
    }
    at = bodyAt + bodyBytes
  }
  return letters
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

function readLabel(source: Buffer, at: number, labelBytes: number): Label {
  const traceBytes = source[at + 3]!
  if (fixedLabelBytes + traceBytes > labelBytes) throw new LetterError('trace beyond the label')
  const traceAt = at + fixedLabelBytes
  let trace = ''
  if (traceBytes > 0) {
    try {
      trace = isPlain(source, traceAt, traceAt + traceBytes)
        ? source.toString('latin1', traceAt, traceAt + traceBytes)
        : utf8.decode(source.subarray(traceAt, traceAt + traceBytes))
    } catch {
      throw new LetterError('trace is no UTF-8')
    }
  }
  return {
    kind: source[at]! as LetterKind,
    flags: source[at + 1]!,
    shard: source[at + 2]!,
    socket: source.readUInt32LE(at + 4),
    age: source.readUInt32LE(at + 8),
    epoch: readU64(source, at + 12),
    seq: readU64(source, at + 20),
    conversation: idAt(source, at + 28),
    principal: idAt(source, at + 44),
    attempt: isNil(source, at + 60) ? '' : freshIdAt(source, at + 60),
    subject: idAt(source, at + 76),
    trace,
  }
}

/** Nothing but ASCII, as nearly all traces are: a decoder costs more than the rest of the label. */
function isPlain(source: Buffer, from: number, end: number): boolean {
  for (let i = from; i < end; i++) if (source[i]! > 0x7f) return false
  return true
}

function readU64(source: Buffer, at: number): number {
  const value = source.readUInt32LE(at) + source.readUInt32LE(at + 4) * high
  if (!Number.isSafeInteger(value)) throw new LetterError('number beyond 2^53')
  return value
}

/** One id's text while it is read; a flat string is cheaper to keep and to look up than one put together from pieces. */
const idText = Buffer.alloc(36)

/**
 * Ids that come again and again (conversations, people), by their last bits: the same text for the same bytes is one
 * string, whose hash is known to every map that is asked for it. A newer id takes the place of an older one.
 */
const knownSlots = 8192
const knownBytes = new Uint32Array(4 * knownSlots)
const knownTexts: string[] = Array.from({ length: knownSlots }, () => '')

function idAt(source: Buffer, at: number): string {
  const [a, b, c, d] = [
    source.readUInt32LE(at),
    source.readUInt32LE(at + 4),
    source.readUInt32LE(at + 8),
    source.readUInt32LE(at + 12),
  ]
  if ((a | b | c | d) === 0) return ''
  const slot = (c ^ d) & (knownSlots - 1)
  const known = 4 * slot
  if (
    knownBytes[known] === a &&
    knownBytes[known + 1] === b &&
    knownBytes[known + 2] === c &&
    knownBytes[known + 3] === d
  ) {
    return knownTexts[slot]!
  }
  const text = freshIdAt(source, at)
  knownBytes[known] = a
  knownBytes[known + 1] = b
  knownBytes[known + 2] = c
  knownBytes[known + 3] = d
  knownTexts[slot] = text
  return text
}

/** Of attempts, which do not come again. */
function freshIdAt(source: Buffer, at: number): string {
  writeIdText(idText, source, at)
  return idText.toString('latin1')
}

function isNil(source: Buffer, at: number): boolean {
  for (let i = 0; i < 16; i++) if (source[at + i] !== 0) return false
  return true
}
