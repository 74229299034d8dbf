/**
 * Splits one direction of a Postgres connection into protocol messages, however the bytes were cut by the network, and tells
 * what little of them a proxy needs. Pure: bytes in, messages out. Refuses to understand values.
 */

export interface PgFrame {
  /** '' for the untyped first messages of a client. */
  type: string
  /** The whole message with its header. */
  bytes: Buffer
}

const codes = { cancel: 80_877_102, ssl: 80_877_103, gss: 80_877_104 } as const

export class PgSplitter {
  #rest: Buffer = Buffer.alloc(0)
  /** A client's first messages have no type until the real startup message is through. */
  #isStarting: boolean

  constructor(side: 'client' | 'server') {
    this.#isStarting = side === 'client'
  }

  /** The messages that are complete now, in order. */
  push(piece: Buffer): PgFrame[] {
    const out: PgFrame[] = []
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece])
    for (;;) {
      const header = this.#isStarting ? 4 : 5
      if (bytes.length < header) break
      const length = bytes.readInt32BE(header - 4) + header - 4
      if (bytes.length < length) break
      const frame = { type: this.#isStarting ? '' : String.fromCharCode(bytes[0]!), bytes: bytes.subarray(0, length) }
      if (this.#isStarting) {
        const code = bytes.readInt32BE(4)
        this.#isStarting = code === codes.ssl || code === codes.gss
      }
      out.push(frame)
      bytes = bytes.subarray(length)
    }
    this.#rest = bytes
    return out
  }
}

/** Name of the prepared statement that a Parse makes or a Bind runs; undefined for other messages. */
export function statementName(frame: PgFrame): string | undefined {
  if (frame.type === 'P') return cString(frame.bytes, 5).text
  if (frame.type !== 'B') return undefined
  const portal = cString(frame.bytes, 5)
  return cString(frame.bytes, portal.end).text
}

/** Text of the statement that a Parse or a simple Query carries; undefined for other messages. */
export function statementText(frame: PgFrame): string | undefined {
  if (frame.type === 'Q') return cString(frame.bytes, 5).text
  if (frame.type !== 'P') return undefined
  return cString(frame.bytes, cString(frame.bytes, 5).end).text
}

/** Tag of a CommandComplete (`SELECT 3`); undefined for other messages. */
export const commandTag = (frame: PgFrame): string | undefined =>
  frame.type === 'C' ? cString(frame.bytes, 5).text : undefined

function cString(bytes: Buffer, from: number): { text: string; end: number } {
  const zero = bytes.indexOf(0, from)
  return { text: bytes.toString('utf8', from, zero), end: zero + 1 }
}
