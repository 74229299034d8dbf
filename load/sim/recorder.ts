/**
 * Writes down what every socket of the run sent and got, in the form that the checkers read, and judges at once what needs
 * no final log: streams byte by byte, receipts that go back, events after a removal. Refuses to act as a client.
 */
import { createHash } from 'node:crypto'
import type { Attempt, History } from '#load/kit/checkers.ts'
import type { Stream, StreamItem } from '#load/kit/checkers-resume.ts'
import { assistantId } from '#protos/ids.ts'
import type { Kernel } from './kernel.ts'

interface Room {
  /** Raw, in order of arrival. Another begins when the user is added again. */
  stream: Stream
  /** Joins without an answer, by their number. */
  joining: string[]
  isJoined: boolean
  removedAt: number | undefined
  /** Answer → its text so far on this socket. */
  streams: Map<string, string>
  dones: Set<string>
  /** User → position seen. */
  read: Map<string, number>
}

interface Line {
  user: string
  device: string
  gateway: string
  isOpen: boolean
  waiting: Map<string, Attempt[]>
  rooms: Map<string, Room>
}

type Unstamped = StreamItem extends infer I ? (I extends StreamItem ? Omit<I, 'at'> : never) : never

// biome-ignore lint/suspicious/noExplicitAny: frames are read loosely here, the checkers judge them
type Frame = Record<string, any>

export class Recorder {
  readonly history: Pick<History, 'attempts' | 'deliveries'> = { attempts: [], deliveries: [] }
  readonly raw: Stream[] = []
  joins = 0
  /** What sockets saw of answers: checked against the final text. */
  readonly streams: { connection: number; conversation: string; answerId: string; text: string; isDone: boolean }[] = []
  /** `${conversation} ${user}` → highest position announced. */
  readonly announced = new Map<string, number>()
  readonly #kernel: Kernel
  readonly #lines = new Map<number, Line>()
  readonly #hasMoved: (conversation: string) => boolean
  #numbers = 0

  /** `hasMoved`: whether the conversation has ever come from one owner to another. */
  constructor(kernel: Kernel, hasMoved: (conversation: string) => boolean) {
    this.#kernel = kernel
    this.#hasMoved = hasMoved
  }

  opened(user: string, device: string, gateway: string): number {
    const number = ++this.#numbers
    const line = { user, device: device === '' ? `${user} ${number}` : device, gateway, isOpen: true }
    this.#lines.set(number, { ...line, waiting: new Map(), rooms: new Map() })
    return number
  }

  closed(number: number): void {
    const line = this.#lines.get(number)!
    line.isOpen = false
    line.waiting.clear()
    for (const [id, room] of line.rooms) this.#endStreams(number, id, room)
  }

  /** A send outside any socket: its outcome comes by the answer. */
  request(sender: string, conversation: string, clientId: string, content: string): Attempt {
    return this.#attempt(++this.#numbers, sender, conversation, clientId, content)
  }

  answered(attempt: Attempt, text: string | undefined): void {
    if (text !== undefined) this.#settle(attempt, JSON.parse(text) as Frame)
  }

  sent(number: number, text: string): void {
    const line = this.#lines.get(number)!
    const f = JSON.parse(text) as Frame
    if (f['type'] === 'message.send' || f['type'] === 'chat.send') {
      const attempt = this.#attempt(number, line.user, f['conversationId'], f['clientMessageId'], f['content'])
      const list = line.waiting.get(f['requestId'])
      if (list) list.push(attempt)
      else line.waiting.set(f['requestId'], [attempt])
    } else if (f['type'] === 'room.join') {
      const room = this.#room(number, line, f['conversationId'])
      const id = String(++this.joins)
      room.joining.push(id)
      this.#keep(room, { kind: 'join', id, afterSeq: f['afterSeq'] })
    } else if (f['type'] === 'receipt.read') {
      const key = `${f['conversationId']} ${line.user}`
      this.announced.set(key, Math.max(this.announced.get(key) ?? 0, f['seq']))
    }
  }

  got(number: number, text: string): void {
    const line = this.#lines.get(number)!
    const f = JSON.parse(text) as Frame
    const room = f['conversationId'] === undefined ? undefined : this.#room(number, line, f['conversationId'])
    switch (f['type']) {
      case 'ready':
        this.#tellGone(line, new Set([...f['conversations'], ...f['others']].map(c => c.id)))
        for (const c of [...f['conversations'], ...f['others']])
          this.#keep(this.#room(number, line, c.id), { kind: 'head', seq: c.headSeq })
        return
      case 'ack':
      case 'error': {
        const list = line.waiting.get(f['requestId'])
        const attempt = list?.shift()
        if (attempt) return this.#settle(attempt, f)
        // A join that was refused.
        if (f['type'] !== 'error' || !String(f['requestId']).startsWith('join:')) return
        room?.joining.shift()
        this.#kernel.note(`socket ${number} may not join ${String(f['conversationId']).slice(-4)}: ${f['code']}`)
        return
      }
      case 'conversation.added':
        this.#kernel.note(
          `socket ${number} was added to ${String(f['conversationId']).slice(-4)} at ${f['conversation'].headSeq}`,
        )
        if (room!.removedAt !== undefined) {
          // What was asked before may be answered now.
          const asked = room!.stream.items.filter(item => item.kind === 'join' && room!.joining.includes(item.id))
          room!.stream = this.#stream(number, line, f['conversationId'])
          room!.stream.items.push(...asked)
        }
        room!.removedAt = undefined
        this.#keep(room!, { kind: 'head', seq: f['conversation'].headSeq })
        return
      case 'conversation.removed':
        this.#kernel.note(`socket ${number} was removed from ${String(f['conversationId']).slice(-4)}`)
        this.#endStreams(number, f['conversationId'], room!)
        room!.isJoined = false
        this.#keep(room!, { kind: 'removed' })
        room!.removedAt ??= Number.POSITIVE_INFINITY
        return
      case 'room.joined':
        this.#joined(number, f, room!)
        return
      case 'resync_required': {
        const { reason, firstSeq, headSeq } = f as { reason: string; firstSeq: number; headSeq: number }
        this.#keep(room!, { kind: 'resync', id: room!.joining.shift() ?? '', reason, firstSeq, headSeq })
        this.#keep(room!, { kind: 'read', from: firstSeq, to: headSeq })
        this.#kernel.note(`socket ${number} must read again: ${reason} ${firstSeq}..${headSeq}`)
        return
      }
      case 'chat.stream':
        this.#streamed(number, f, room!)
        return
      case 'chat.done':
        this.#done(number, f, room!)
        return
      case 'receipt.updated': {
        // Positions of the last seconds may be lost with their owner; they come back when the device reconnects.
        const before = room!.read.get(f['userId']) ?? 0
        if (f['readSeq'] < before && !this.#hasMoved(f['conversationId'])) {
          this.#kernel.broken(`C6 socket ${number}: ${f['userId']} read back from ${before} to ${f['readSeq']}`)
        }
        room!.read.set(f['userId'], Math.max(before, f['readSeq']))
        return
      }
      default:
        if (f['seq'] !== undefined) this.#durable(number, line, f, room!)
    }
  }

  /** Sockets still open end here. */
  finish(): void {
    for (const [number, line] of this.#lines) if (line.isOpen) this.closed(number)
  }

  /** Open sockets that joined: who must have got what is in the log. */
  openRooms(): { connection: number; user: string; conversation: string }[] {
    return [...this.#lines].flatMap(([connection, { isOpen, user, rooms }]) =>
      isOpen ? [...rooms].flatMap(([conversation, r]) => (r.isJoined ? [{ connection, user, conversation }] : [])) : [],
    )
  }

  /** Whoever was removed while away learns it by what `ready` does not list. */
  #tellGone({ device }: Line, listed: ReadonlySet<string>): void {
    for (const s of this.raw) {
      if (s.device === device && !listed.has(s.conversation)) s.items.push({ kind: 'removed', at: this.#kernel.now })
    }
  }

  #room(number: number, line: Line, id: string): Room {
    let room = line.rooms.get(id)
    if (!room) {
      room = {
        ...{ stream: this.#stream(number, line, id), joining: [], isJoined: false, removedAt: undefined },
        ...{ streams: new Map(), dones: new Set(), read: new Map() },
      }
      line.rooms.set(id, room)
    }
    return room
  }

  #stream(connection: number, { device }: Line, conversation: string): Stream {
    const stream: Stream = { device, connection, conversation, items: [] }
    this.raw.push(stream)
    return stream
  }

  #keep(room: Room, item: Unstamped): void {
    room.stream.items.push({ ...item, at: this.#kernel.now } as StreamItem)
  }

  #attempt(connection: number, sender: string, conversation: string, clientId: string, content: string): Attempt {
    const attempt: Attempt = {
      ...{ sender, connection, conversation, clientId, content, invokedAt: this.#kernel.now },
      outcome: { kind: 'unknown' },
    }
    this.history.attempts.push(attempt)
    return attempt
  }

  #settle(attempt: Attempt, f: Frame): void {
    attempt.completedAt = this.#kernel.now
    if (f['type'] === 'ack') attempt.outcome = { kind: 'ok', seq: f['seq'], messageId: f['messageId'] }
    else attempt.outcome = { kind: 'refused', code: f['code'] }
    this.#kernel.note(`${attempt.clientId.slice(-6)} ${f['type'] === 'ack' ? `acked at ${f['seq']}` : f['code']}`)
  }

  #durable(number: number, line: Line, f: Frame, room: Room): void {
    const { seq, conversationId: conversation } = f as { seq: number; conversationId: string }
    if (room.removedAt !== undefined && seq > room.removedAt) {
      this.#kernel.broken(`C9 socket ${number}: ${seq} of ${conversation} came after the removal at ${room.removedAt}`)
    }
    this.#kernel.note(`socket ${number} got ${seq} of ${conversation.slice(-4)}`)
    this.#keep(room, { kind: 'event', seq })
    this.history.deliveries.push({
      ...{ connection: number, conversation, seq, kind: f['type'], messageId: f['messageId'], content: f['content'] },
      readyHead: 0,
    })
    if (f['type'] === 'room.member_left' && f['userId'] === line.user && room.joining.length === 0) {
      room.removedAt = seq
      this.#keep(room, { kind: 'removed' })
    }
    // Who is added again begins to read anew.
    if (f['type'] === 'room.member_joined') room.read.delete(f['userId'])
    if (f['type'] === 'message.new' && f['senderId'] === assistantId) {
      const text = room.streams.get(f['messageId'])
      if (text !== undefined && !String(f['content']).startsWith(text)) {
        this.#kernel.broken(`C4 socket ${number}: what was streamed is not the beginning of ${f['messageId']}`)
      }
    }
  }

  #joined(number: number, f: Frame, room: Room): void {
    room.isJoined = true
    const { conversationId: conversation, headSeq, stream } = f as Frame & { conversationId: string; headSeq: number }
    this.#keep(room, { kind: 'joined', id: room.joining.shift() ?? '', headSeq })
    if (stream) room.streams.set(stream.messageId, stream.content)
    this.#kernel.note(
      `socket ${number} joined ${conversation.slice(-4)} at ${headSeq}${stream ? ` in ${stream.content.length} of an answer` : ''}`,
    )
  }

  #streamed(number: number, f: Frame, room: Room): void {
    const text = room.streams.get(f['messageId']) ?? ''
    const at = Buffer.byteLength(text)
    this.#kernel.note(
      `socket ${number} streams ${f['offset']}+${Buffer.byteLength(f['content'])} of ${String(f['messageId']).slice(-6)}`,
    )
    if (f['offset'] !== at) {
      this.#kernel.broken(`C4 socket ${number}: a delta of ${f['messageId']} begins at ${f['offset']}, not at ${at}`)
    }
    if (room.dones.has(f['messageId'])) this.#kernel.broken(`C4 socket ${number}: a delta came after chat.done`)
    room.streams.set(f['messageId'], text + f['content'])
  }

  #done(number: number, f: Frame, room: Room): void {
    const { messageId, bytes, sha256 } = f as Frame & { messageId: string }
    if (room.dones.has(messageId)) this.#kernel.broken(`C4 socket ${number}: chat.done of ${messageId} came twice`)
    room.dones.add(messageId)
    const text = room.streams.get(messageId)
    if (text !== undefined) {
      const isSame = Buffer.byteLength(text) === bytes && createHash('sha256').update(text).digest('hex') === sha256
      if (!isSame)
        this.#kernel.broken(`C4 socket ${number}: ${messageId} ended with ${bytes} bytes, not with what came`)
    }
  }

  #endStreams(connection: number, conversation: string, room: Room): void {
    for (const [answerId, text] of room.streams) {
      this.streams.push({ connection, conversation, answerId, text, isDone: room.dones.has(answerId) })
    }
    room.streams.clear()
  }
}
