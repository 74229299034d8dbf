/**
 * A TCP connection that speaks WebSocket by hand: any handshake, any frame, broken ones included, and what the server says
 * in return. Owns the bytes; refuses to correct a test's mistakes.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export interface FrameOptions {
  fin?: boolean
  /** RSV bits, 0x40 0x20 0x10. */
  rsv?: number
  opcode?: number
  mask?: boolean
  /** A length to announce instead of the true one. */
  announce?: bigint
}

export function rawFrame(payload: Buffer | string, options: FrameOptions = {}): Buffer {
  const data = typeof payload === 'string' ? Buffer.from(payload) : payload
  const { fin = true, rsv = 0, opcode = 1, mask = true } = options
  const length = options.announce ?? BigInt(data.length)
  const head = [(fin ? 0x80 : 0) | rsv | opcode]
  const flag = mask ? 0x80 : 0
  if (length < 126n) head.push(flag | Number(length))
  else if (length < 65_536n) head.push(flag | 126, Number(length >> 8n), Number(length & 255n))
  else {
    head.push(flag | 127)
    for (let shift = 56n; shift >= 0n; shift -= 8n) head.push(Number((length >> shift) & 255n))
  }
  if (!mask) return Buffer.concat([Buffer.from(head), data])
  const key = randomBytes(4)
  const masked = Buffer.from(data)
  for (let i = 0; i < masked.length; i++) masked[i]! ^= key[i & 3]!
  return Buffer.concat([Buffer.from(head), key, masked])
}

export interface RawSocket {
  readonly socket: Socket
  write(bytes: Buffer | string): void
  /** The status line's code of the handshake's answer, with the head as text. */
  response(): Promise<{ status: number; head: string }>
  /** Text frames so far. */
  readonly texts: string[]
  /** Resolves with the close frame's code, or undefined when the connection ended without one. */
  readonly closed: Promise<number | undefined>
  destroy(): void
}

export function openRaw(url: string): RawSocket {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let buffer = Buffer.alloc(0)
  let head: string | undefined
  let code: number | undefined
  const texts: string[] = []
  let answered!: (answer: { status: number; head: string }) => void
  const response = new Promise<{ status: number; head: string }>(resolve => {
    answered = resolve
  })
  let end!: (code: number | undefined) => void
  const closed = new Promise<number | undefined>(resolve => {
    end = resolve
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    answered({ status: 0, head: '' })
    end(code)
  })
  socket.on('data', chunk => {
    buffer = Buffer.concat([buffer, chunk])
    if (head === undefined) {
      const at = buffer.indexOf('\r\n\r\n')
      if (at < 0) return
      head = buffer.subarray(0, at).toString()
      buffer = buffer.subarray(at + 4)
      answered({ status: Number(head.split(' ')[1]), head })
      if (!head.startsWith('HTTP/1.1 101')) return
    }
    for (;;) {
      if (buffer.length < 2) return
      let length = buffer[1]! & 127
      let start = 2
      if (length === 126) {
        if (buffer.length < 4) return
        length = buffer.readUInt16BE(2)
        start = 4
      } else if (length === 127) {
        if (buffer.length < 10) return
        length = Number(buffer.readBigUInt64BE(2))
        start = 10
      }
      if (buffer.length < start + length) return
      const opcode = buffer[0]! & 15
      const payload = buffer.subarray(start, start + length)
      if (opcode === 1) texts.push(payload.toString())
      if (opcode === 8) {
        code ??= length >= 2 ? payload.readUInt16BE(0) : 1005
        end(code)
      }
      buffer = buffer.subarray(start + length)
    }
  })
  return {
    socket,
    write: bytes => void socket.write(bytes),
    response: () => response,
    texts,
    closed,
    destroy: () => socket.destroy(),
  }
}

/** A handshake's text. `lines` replace or add headers; an undefined value removes one. */
export function handshake(
  url: string,
  options: { path?: string; method?: string; version?: string; headers?: Record<string, string | undefined> } = {},
): string {
  const { path = '/ws', method = 'GET', version = '1.1' } = options
  const headers: Record<string, string | undefined> = {
    Host: new URL(url).host,
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...options.headers,
  }
  const lines = Object.entries(headers).filter(([, value]) => value !== undefined)
  return `${method} ${path} HTTP/${version}\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`
}
