/**
 * The latest events of one conversation as the frames that went out, to answer resumes without a read. Bounded by count and
 * bytes; what is older is in the log. Refuses holes: an event that does not continue it starts it anew.
 */
import { tailEventsMax } from '#protos/limits.ts'

export interface TailEvent {
  seq: number
  /** The frame's JSON. Text, not bytes: a small buffer is a slice of a pool, and would keep all of it in memory. */
  frame: string
  /** Of the frame as it goes out. */
  bytes: number
}

export class Tail {
  #events: TailEvent[] = []
  #bytes = 0
  readonly #bytesMax: () => number

  /** `bytesMax`: this actor's share at the moment. */
  constructor(bytesMax: () => number) {
    this.#bytesMax = bytesMax
  }

  get last(): number | undefined {
    return this.#events.at(-1)?.seq
  }

  push(seq: number, frame: string, bytes: number): void {
    if (this.last !== undefined && seq !== this.last + 1) this.clear()
    this.#events.push({ seq, frame, bytes })
    this.#bytes += bytes
    while (this.#events.length > tailEventsMax || this.#bytes > this.#bytesMax()) {
      this.#bytes -= this.#events.shift()!.bytes
    }
  }

  clear(): void {
    this.#events = []
    this.#bytes = 0
  }

  /** The events after `after` up to `head`, or undefined when some are not here. */
  after(after: number, head: number): TailEvent[] | undefined {
    if (after === head) return []
    const first = this.#events[0]
    if (!first || first.seq > after + 1 || this.last! < head) return undefined
    return this.#events.slice(after + 1 - first.seq, head + 1 - first.seq)
  }
}
