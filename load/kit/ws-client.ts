/**
 * A WebSocket client as cheap as a client can be: frames over a plain TCP socket, one write per turn of the event loop,
 * texts handed over as bytes. For generators that must not be what is measured. Refuses fragments, extensions and TLS.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export interface WsHandlers {
  /** One text frame's payload; valid until the call returns. */
  onText(bytes: Buffer): void
  onClose?(code: number): void
}

const opcodes = { text: 1, close: 8, ping: 9, pong: 10 } as const

export class WsClient {
  readonly #socket: Socket
  readonly #handlers: WsHandlers
  #pending: Buffer[] = []
  #isScheduled = false
  #rest: Buffer = Buffer.alloc(0)
  #closeCode = 1006
  #isClosed = false

  /** Resolves after the 101. Rejects with what the server answered instead. */
  static open(url: string, handlers: WsHandlers): Promise<WsClient> {
    const { hostname, port, pathname, search, host } = new URL(url)
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port) || 80, hostname)
      socket.setNoDelay(true)
      let head = Buffer.alloc(0)
      const onError = (error: Error) => reject(error)
      const onEnd = () => reject(new Error('closed before the upgrade'))
      const onData = (piece: Buffer) => {
        head = Buffer.concat([head, piece])
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return
        const status = head.subarray(0, head.indexOf('\r\n')).toString()
        if (!status.startsWith('HTTP/1.1 101')) {
          socket.destroy()
          reject(new Error(status))
          return
        }
        socket.off('data', onData).off('error', onError).off('close', onEnd)
        const client = new WsClient(socket, handlers)
        resolve(client)
        // Frames may have come with the answer; whoever awaits us gets the client first.
        const early = head.subarray(end + 4)
        if (early.length > 0) queueMicrotask(() => client.#read(early))
      }
      socket.on('data', onData).on('error', onError).on('close', onEnd)
      socket.write(
        `GET ${pathname === '/' ? '/ws' : pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
      )
    })
  }

  private constructor(socket: Socket, handlers: WsHandlers) {
    this.#socket = socket
    this.#handlers = handlers
    socket.on('data', piece => this.#read(piece))
    socket.on('error', () => {})
    socket.on('close', () => this.#closed())
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Leaves with everything else of this turn, in one write. */
  send(text: string): void {
    this.#frame(opcodes.text, Buffer.from(text))
  }

  /** Says goodbye; the server answers and closes. */
  close(code = 1000): void {
    const body = Buffer.alloc(2)
    body.writeUInt16BE(code)
    this.#frame(opcodes.close, body)
  }

  /** Cuts the connection without a word. */
  destroy(): void {
    this.#socket.destroy()
    this.#closed()
  }

  /** Reads nothing until `resume`: what comes waits in the kernel, then at the server. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  #frame(opcode: number, body: Buffer): void {
    if (this.#isClosed) return
    const length = body.length
    const header = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14)
    header[0] = 0x80 | opcode
    if (length < 126) header[1] = 0x80 | length
    else if (length < 65_536) {
      header[1] = 0x80 | 126
      header.writeUInt16BE(length, 2)
    } else {
      header[1] = 0x80 | 127
      header.writeBigUInt64BE(BigInt(length), 2)
    }
    // A mask of zeros is a mask: the payload goes out as it is.
    this.#pending.push(header, body)
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      if (!this.#isClosed) this.#socket.write(Buffer.concat(this.#pending))
      this.#pending = []
    })
  }

  #read(piece: Buffer): void {
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece])
    while (bytes.length >= 2) {
      let length = bytes[1]! & 0x7f
      let at = 2
      if (length === 126) {
        if (bytes.length < 4) break
        length = bytes.readUInt16BE(2)
        at = 4
      } else if (length === 127) {
        if (bytes.length < 10) break
        length = Number(bytes.readBigUInt64BE(2))
        at = 10
      }
      if (bytes.length < at + length) break
      const body = bytes.subarray(at, at + length)
      const opcode = bytes[0]! & 0x0f
      if (opcode === opcodes.text) this.#handlers.onText(body)
      else if (opcode === opcodes.ping) this.#frame(opcodes.pong, Buffer.from(body))
      else if (opcode === opcodes.close) {
        this.#closeCode = length >= 2 ? body.readUInt16BE(0) : 1005
        this.#socket.end()
      }
      bytes = bytes.subarray(at + length)
    }
    this.#rest = bytes
  }

  #closed(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#handlers.onClose?.(this.#closeCode)
  }
}
