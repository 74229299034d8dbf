/**
 * What one socket is still owed as bytes: frames of this turn of the event loop, then one write. When too much is unsent it
 * says so, and the hub remembers positions instead (R8); only answers and latest values wait here, within a limit.
 * Refuses to know conversations; refuses to buffer without bound.
 */
import type { Metrics } from '#engine/ops/metrics.ts'
import { outboxBurstBytes, outboxControlBytesMax, outboxPushBytesMax, outboxStallMsMax } from '#protos/limits.ts'
import type { Framed } from './framing.ts'

/** The socket as an outbox needs it. */
export interface Wire {
  /** Answers the number of system writes. */
  write(frames: readonly Framed[], bytes: number): number
  /** Bytes handed over that have not left. */
  unsent(): number
  /** Changes with every byte that leaves. */
  left(): number
  /** Too much is unsent: poll from now on. */
  filled(): void
  /** The outbox can do no more: close 4420. */
  tooSlow(): void
}

/** Gathers the outboxes that have something to write and writes them all at the end of the turn. */
export class Flusher {
  #waiting: Outbox[] = []
  #isScheduled = false
  #isFlushing = false
  #frames = 0
  #writes = 0
  #metrics: Metrics

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  add(outbox: Outbox): void {
    this.#waiting.push(outbox)
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => this.#flush())
  }

  wrote(frames: number, writes: number): void {
    this.#frames += frames
    this.#writes += writes
    if (!this.#isFlushing) this.#count()
  }

  /** Once for all sockets of a turn: a counter costs about as much as a small write. */
  #count(): void {
    this.#metrics.parley_frames_out_total.inc(this.#frames)
    this.#metrics.parley_writes_total.inc(this.#writes)
    this.#frames = 0
    this.#writes = 0
  }

  dropped(kind: string): void {
    this.#metrics.parley_drops_total.inc({ kind })
  }

  #flush(): void {
    this.#isScheduled = false
    const waiting = this.#waiting
    this.#waiting = []
    this.#isFlushing = true
    try {
      for (const outbox of waiting) outbox.flush()
    } finally {
      this.#isFlushing = false
      this.#count()
    }
  }
}

/** What an outbox has before its first frame, shared by all and never written: most sockets of a gateway are idle. */
const none: Framed[] = []

/** Below this a full outbox takes frames again. */
const resumeBytes = outboxPushBytesMax / 4

export class Outbox {
  #wire: Wire
  #flusher: Flusher
  #frames: Framed[] = none
  #bytes = 0
  #control: Framed[] = none
  #controlBytes = 0
  #latest: Map<string, Framed> | undefined
  #isFull = false
  #isClosed = false
  #leastUnsent = 0
  #lastLeft = 0
  #progressAt = 0

  constructor(wire: Wire, flusher: Flusher) {
    this.#wire = wire
    this.#flusher = flusher
  }

  /** Nothing is pushed to this socket until it has drained. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Bytes that have not left, those of this turn and those that wait included. */
  get owedBytes(): number {
    return this.#bytes + this.#controlBytes + this.#wire.unsent()
  }

  /** False when the socket is too far behind: the caller remembers the position. */
  push(frame: Framed): boolean {
    if (this.#isClosed) return true
    if (this.#isFull || this.#isOver(frame.length)) return false
    this.#add(frame)
    return true
  }

  /** Acks, errors, chat.done, conversation.*: they wait as bytes, and too many of them end the socket. */
  control(frame: Framed): void {
    if (this.#isClosed) return
    // Counted like all else: a client that asks and never reads the answers is a slow reader as well.
    if (!this.#isFull && !this.#isOver(frame.length)) {
      this.#add(frame)
      return
    }
    if (this.#control === none) this.#control = []
    this.#control.push(frame)
    this.#controlBytes += frame.length
    if (this.#controlBytes > outboxControlBytesMax) this.#wire.tooSlow()
  }

  /** Receipts and presence: of those that wait under one key the last is kept. */
  latest(key: string, frame: Framed): void {
    if (this.#isClosed) return
    if (!this.#isFull && !this.#isOver(frame.length)) {
      this.#add(frame)
      return
    }
    this.#latest ??= new Map()
    if (this.#latest.has(key)) this.#flusher.dropped('merged')
    this.#latest.set(key, frame)
  }

  /** Typing: now or never. */
  offer(frame: Framed): void {
    if (!this.push(frame)) this.#flusher.dropped('typing')
  }

  /** Writes what this turn gathered. */
  flush(): void {
    if (this.#isClosed || this.#frames.length === 0) return
    const frames = this.#frames
    const bytes = this.#bytes
    this.#frames = none
    this.#bytes = 0
    this.#flusher.wrote(frames.length, this.#wire.write(frames, bytes))
  }

  /**
   * To be called often while full. True when it has just drained: what waited has left, positions may be caught up.
   * `at`: monotonic ms.
   */
  poll(at: number): boolean {
    if (!this.#isFull || this.#isClosed) return false
    const unsent = this.#bytes + this.#wire.unsent()
    const left = this.#wire.left()
    if (this.#progressAt === 0 || unsent < this.#leastUnsent || left !== this.#lastLeft) {
      this.#leastUnsent = Math.min(unsent, this.#leastUnsent)
      this.#lastLeft = left
      this.#progressAt = at
    }
    if (unsent <= resumeBytes) {
      this.#isFull = false
      this.#progressAt = 0
      for (const frame of this.#control) this.#add(frame)
      for (const frame of this.#latest?.values() ?? none) this.#add(frame)
      this.#control = none
      this.#controlBytes = 0
      this.#latest = undefined
      return true
    }
    if (at - this.#progressAt >= outboxStallMsMax) this.#wire.tooSlow()
    return false
  }

  /** Takes no more. What this turn gathered leaves first, unless the socket is gone. */
  close(): void {
    this.flush()
    this.#isClosed = true
    this.#frames = none
    this.#control = none
    this.#bytes = 0
    this.#controlBytes = 0
    this.#latest = undefined
    this.#isFull = false
  }

  #isOver(more: number): boolean {
    if (this.#bytes + more > outboxBurstBytes) this.flush()
    if (this.#bytes + more + this.#wire.unsent() <= outboxPushBytesMax) return false
    // One frame alone may be larger than what is left of an empty box.
    if (this.#bytes === 0 && this.#wire.unsent() === 0) return false
    this.#isFull = true
    this.#leastUnsent = Number.POSITIVE_INFINITY
    this.#progressAt = 0
    this.#wire.filled()
    return true
  }

  #add(frame: Framed): void {
    if (this.#frames === none) {
      this.#frames = []
      this.#flusher.add(this)
    }
    this.#frames.push(frame)
    this.#bytes += frame.length
  }
}
