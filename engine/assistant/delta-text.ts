/**
 * Makes what a model streams fit for the log: no half surrogate pair at the end of a piece, nothing Postgres cannot hold,
 * never more than the answer's byte limit. The model is treated as a stranger. Refuses to look at meaning.
 */
import { answerBytesMax } from '#protos/limits.ts'

export class DeltaText {
  #held = ''
  #bytes = 0
  #chars = 0
  readonly #bytesMax: number

  constructor(bytesMax: number = answerBytesMax) {
    this.#bytesMax = bytesMax
  }

  /** Whether the answer has reached its limit: nothing more will come out. */
  get isFull(): boolean {
    return this.#bytes >= this.#bytesMax
  }

  /** UTF-16 units given out so far, for the estimate of tokens. */
  get chars(): number {
    return this.#chars
  }

  get isEmpty(): boolean {
    return this.#chars === 0
  }

  /** The part of this piece that may be shown now; '' when there is none. */
  push(piece: string): string {
    let text = this.#held + piece
    this.#held = ''
    const last = text.charCodeAt(text.length - 1)
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#held = text.slice(-1)
      text = text.slice(0, -1)
    }
    return this.#take(text)
  }

  /** What was held back for a second half that never came. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return this.#take(text)
  }

  #take(raw: string): string {
    let text = raw.includes('\0') ? raw.replaceAll('\0', '\ufffd') : raw
    text = text.toWellFormed()
    const room = this.#bytesMax - this.#bytes
    let bytes = Buffer.byteLength(text)
    if (bytes > room) {
      let cut = Buffer.from(text)
      let end = room
      while (end > 0 && (cut[end]! & 0xc0) === 0x80) end--
      cut = cut.subarray(0, end)
      text = cut.toString()
      bytes = cut.length
      // A code point that did not fit fills the rest, so that the answer counts as full.
      this.#bytes += room - bytes
    }
    this.#bytes += bytes
    this.#chars += text.length
    return text
  }
}
