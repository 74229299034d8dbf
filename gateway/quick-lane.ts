/**
 * Whole text frames past the general reader of `ws`: nearly all that clients send is one short frame a chunk, and for those
 * its stream, its buffers and its events cost more than the frame. Everything else (fragments, controls, binary, parts of
 * frames, errors) is left to `ws`, byte for byte. With framing.ts the only place that touches private parts of it; where
 * they are missing, `ws` reads everything. A test is pinned to the version of `ws`.
 */
import { isUtf8 } from 'node:buffer'
import type { WebSocket } from 'ws'

/** What is looked at of the reader of `ws`. */
interface Receiver {
  write(chunk: Buffer): boolean
  readonly _state: number
  readonly _bufferedBytes: number
  readonly _fragmented: number
  readonly _errored: boolean
  readonly writableLength: number
  /** The socket's owner here. */
  [owner]?: { ws: WebSocket } | undefined
}

const owner = Symbol('owner')
const open = 1
/** A whole text frame of a client: FIN and opcode 1, then the mask bit with the length. */
const wholeText = 0x81
const maskBit = 0x80
/** Longer ones announce their length in eight bytes, and are refused or rare. */
const length16 = 126

/** Sockets whose frames `onText` gets. One for all of them. */
export class QuickLane<Owner extends { ws: WebSocket }> {
  readonly #write: (this: Receiver, chunk: Buffer) => boolean

  constructor(onText: (to: Owner, text: string) => void) {
    this.#write = function (chunk) {
      const to = this[owner] as Owner
      let at = 0
      while (at < chunk.length && isBetweenFrames(this) && to.ws.readyState === open) {
        const end = textEnd(chunk, at)
        if (end === 0) break
        const from = at + ((chunk[at + 1]! & 0x7f) === length16 ? 8 : 6)
        unmask(chunk, from, end)
        const payload = chunk.subarray(from, end)
        if (!isUtf8(payload)) {
          // Masked again: `ws` has the error and the code for it.
          unmask(chunk, from, end)
          break
        }
        at = end
        onText(to, payload.toString())
      }
      if (at === chunk.length) return true
      const { write } = Object.getPrototypeOf(this) as Receiver
      return write.call(this, at === 0 ? chunk : chunk.subarray(at))
    }
  }

  /** From now on. What was read before stays with `ws`. */
  add(to: Owner): void {
    const receiver = (to.ws as unknown as { _receiver?: Receiver })._receiver
    if (receiver?._state !== 0 || receiver._bufferedBytes !== 0) return
    receiver[owner] = to
    receiver.write = this.#write
  }
}

function isBetweenFrames(receiver: Receiver): boolean {
  return (
    receiver._state === 0 &&
    receiver._bufferedBytes === 0 &&
    receiver._fragmented === 0 &&
    !receiver._errored &&
    receiver.writableLength === 0
  )
}

/** Where the whole masked text frame at `at` ends; 0 when there is none. */
function textEnd(chunk: Buffer, at: number): number {
  if (chunk.length - at < 8 || chunk[at] !== wholeText) return 0
  const second = chunk[at + 1]!
  if ((second & maskBit) === 0) return 0
  const short = second & 0x7f
  const end = short < length16 ? at + 6 + short : short === length16 ? at + 8 + chunk.readUInt16BE(at + 2) : 0
  return end <= chunk.length ? end : 0
}

/** Takes the mask, the four bytes before `from`, off the bytes up to `end`, or puts it on again. */
function unmask(chunk: Buffer, from: number, end: number): void {
  const [a, b, c, d] = [chunk[from - 4]!, chunk[from - 3]!, chunk[from - 2]!, chunk[from - 1]!]
  let i = from
  for (; i + 3 < end; i += 4) {
    chunk[i]! ^= a
    chunk[i + 1]! ^= b
    chunk[i + 2]! ^= c
    chunk[i + 3]! ^= d
  }
  for (let k = 0; i < end; i++, k++) chunk[i]! ^= k === 0 ? a : k === 1 ? b : c
}
