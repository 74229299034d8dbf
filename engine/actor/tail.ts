/**
 * The latest events of one conversation as the frames that went out, to answer resumes without a read. Bounded by count and
 * bytes; what is older is in the log. Frames are copied into a few chunks: as objects of the heap they would be copied twice
 * by its collector, and as slices of a pool each would keep all of the pool. Refuses holes: an event that does not continue
 * it starts it anew.
 */
import { tailChunkBytesMax, tailChunkBytesMin, tailChunkEventsMax, tailEventsMax } from '#protos/limits.ts'

export interface TailEvent {
  seq: number
  /** The frame's JSON as it goes out. Never written to again. */
  frame: Uint8Array
}

interface Chunk {
  readonly firstSeq: number
  readonly bytes: Uint8Array
  /** Where each of its frames ends. */
  readonly ends: number[]
}

/** Of all tails that hold nothing; never pushed to. */
const none: Chunk[] = []

export class Tail {
  #chunks = none
  #events = 0
  /** Of all chunks, whether used or not. */
  #bytes = 0
  readonly #share: { readonly tailBytesMax: number }

  /** `share`: what this actor may keep at the moment. */
  constructor(share: { readonly tailBytesMax: number }) {
    this.#share = share
  }

  get last(): number | undefined {
    const chunk = this.#chunks.at(-1)
    return chunk && chunk.firstSeq + chunk.ends.length - 1
  }

  push(seq: number, frame: Uint8Array): void {
    if (this.last !== undefined && seq !== this.last + 1) this.clear()
    const chunk = this.#chunkFor(seq, frame.length)
    if (!chunk) return this.clear()
    const from = chunk.ends.at(-1) ?? 0
    chunk.bytes.set(frame, from)
    chunk.ends.push(from + frame.length)
    this.#events++
  }

  clear(): void {
    this.#chunks = none
    this.#events = 0
    this.#bytes = 0
  }

  /** The events after `after` up to `head`, or undefined when some are not here. */
  after(after: number, head: number): TailEvent[] | undefined {
    if (after === head) return []
    const first = this.#chunks[0]
    if (!first || first.firstSeq > after + 1 || this.last! < head) return undefined
    const found: TailEvent[] = []
    for (const { firstSeq, bytes, ends } of this.#chunks) {
      const until = Math.min(ends.length, head + 1 - firstSeq)
      for (let i = Math.max(0, after + 1 - firstSeq); i < until; i++) {
        found.push({ seq: firstSeq + i, frame: bytes.subarray(ends[i - 1] ?? 0, ends[i]) })
      }
    }
    return found
  }

  /** The last chunk if it has room, else a new one, for which the oldest may go; undefined: it is more than all may be. */
  #chunkFor(seq: number, length: number): Chunk | undefined {
    const last = this.#chunks.at(-1)
    const isFull = last && last.ends.length >= tailChunkEventsMax
    if (last && !isFull && (last.ends.at(-1) ?? 0) + length <= last.bytes.length) return last
    const bytesMax = this.#share.tailBytesMax
    if (length > bytesMax) return undefined
    // A quiet conversation keeps little: chunks grow with what comes.
    const wanted = Math.min(last ? 2 * last.bytes.length : tailChunkBytesMin, tailChunkBytesMax, bytesMax >> 1)
    const chunk = { firstSeq: seq, bytes: Buffer.allocUnsafeSlow(Math.max(length, wanted)), ends: [] }
    if (last) this.#chunks.push(chunk)
    else this.#chunks = [chunk]
    this.#bytes += chunk.bytes.length
    while (this.#bytes > bytesMax || this.#events + tailChunkEventsMax > tailEventsMax) {
      const oldest = this.#chunks[0]!
      if (oldest === chunk) break
      this.#chunks.shift()
      this.#events -= oldest.ends.length
      this.#bytes -= oldest.bytes.length
    }
    return chunk
  }
}
