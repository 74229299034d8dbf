/**
 * @grpc/grpc-js as far as links use it, over the simulated network: one ordered stream of messages each way, keep-alive
 * that ends a stream on which nothing gets through, back-pressure behind a cut. Refuses everything else of gRPC.
 */
import { EventEmitter } from 'node:events'
import { linkKeepaliveMs, linkSilentMs } from '#protos/limits.ts'
import { kernel } from '../globals.ts'
import type { Proc } from '../kernel.ts'
import type { End } from '../network.ts'
import { services } from '../services.ts'

export const status = {
  RESOURCE_EXHAUSTED: 8,
  INVALID_ARGUMENT: 3,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
  PERMISSION_DENIED: 7,
}
const anyCredentials = { get: () => () => ({}) }
export const credentials = new Proxy({}, anyCredentials)
export const ChannelCredentials = new Proxy({}, anyCredentials)
export const ServerCredentials = new Proxy({}, anyCredentials)
export const experimental = new Proxy({}, anyCredentials)

/** Messages behind a cut after which a writer is told to wait. */
const unsentMax = 8
const watchMs = 1000

class Stream extends EventEmitter {
  readonly end$: End<Buffer, Buffer>
  #isOver = false
  #isBlocked = false

  constructor(end: End<Buffer, Buffer>) {
    super()
    this.end$ = end
    end.listen({
      message: data => {
        if (!this.#isOver) this.emit('data', data)
      },
      ended: () => this.lost(),
    })
    this.#watch()
  }

  get isOver(): boolean {
    return this.#isOver
  }

  write(bytes: Buffer): boolean {
    if (this.#isOver) return true
    this.end$.send(bytes)
    this.#isBlocked = this.end$.unsent > unsentMax
    return !this.#isBlocked
  }

  /** Over, by this side. */
  finish(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.end$.close()
  }

  /** Over, by the other side or the network. */
  lost(): void {
    if (this.#isOver) return
    this.finish()
    this.over()
  }

  over(): void {}

  #watch(): void {
    kernel().at(this.end$.proc, watchMs, () => {
      if (this.#isOver) return
      const { now } = kernel()
      if (this.end$.silentMs(now) > linkKeepaliveMs + linkSilentMs) return this.lost()
      if (this.#isBlocked && this.end$.unsent <= unsentMax) {
        this.#isBlocked = false
        this.emit('drain')
      }
      this.#watch()
    })
  }
}

class ClientStream extends Stream {
  override over(): void {
    this.emit('error', Object.assign(new Error('14 UNAVAILABLE: the stream was lost'), { code: status.UNAVAILABLE }))
  }

  cancel(): void {
    this.finish()
  }
}

class ServerStream extends Stream {
  override over(): void {
    this.emit('cancelled')
    this.emit('close')
  }

  end(): void {
    this.finish()
  }

  /** To emit an error is how a handler ends a stream with a status. */
  override emit(event: string, ...args: unknown[]): boolean {
    const done = super.emit(event, ...args)
    if (event === 'error') this.finish()
    return done
  }

  getPeer(): string {
    return 'sim'
  }

  getAuthContext(): Record<string, never> {
    return {}
  }
}

export class Client {
  #addr: string
  #proc: Proc = kernel().current
  #streams = new Set<ClientStream>()

  constructor(addr: string) {
    this.#addr = addr
  }

  makeBidiStreamRequest(): ClientStream {
    const { net, listeners, kernel: k } = services()
    const to = listeners.get(this.#addr)
    const host = to?.proc.host ?? ''
    const [mine, theirs] = net.connect<Buffer, Buffer>(this.#proc, to && !to.proc.isDead ? to.proc : k.world)
    const stream = new ClientStream(mine)
    this.#streams.add(stream)
    if (!to || to.proc.isDead) {
      // Nobody listens: refused at once, unless the path is cut; then the dialler's own timer finds out.
      if (!net.isCut(this.#proc.host, host)) k.at(this.#proc, net.latency(this.#proc.host, host), () => stream.lost())
      return stream
    }
    const accept = () => {
      if (to.proc.isDead || theirs.isClosed) return theirs.close()
      to.server.accept(new ServerStream(theirs))
    }
    // The stream is made at the server with its first message, in the order of the connection.
    theirs.listen({
      message: data => {
        accept()
        to.server.replay(theirs, data)
      },
      ended: () => theirs.close(),
    })
    return stream
  }

  close(): void {
    for (const stream of this.#streams) stream.finish()
  }
}

type Handler = (stream: ServerStream) => void

export class Server {
  #handler: Handler = () => {}
  #streams = new Map<End<Buffer, Buffer>, ServerStream>()
  #addr = ''

  addService(_service: unknown, handlers: { link?: Handler }): void {
    if (handlers.link) this.#handler = handlers.link
  }

  bindAsync(at: string, _credentials: unknown, done: (error: Error | null, port: number) => void): void {
    const k = kernel()
    const proc = k.current
    const [host, wanted] = at.split(':')
    const port = Number(wanted) || 40_000 + services().listeners.size
    this.#addr = `${host}:${port}`
    services().listeners.set(this.#addr, { proc, server: this })
    k.at(proc, 1, () => done(null, port))
  }

  accept(stream: ServerStream): void {
    this.#streams.set(stream.end$, stream)
    this.#handler(stream)
  }

  /** The message with which the stream came. */
  replay(end: End<Buffer, Buffer>, data: Buffer): void {
    this.#streams.get(end)?.emit('data', data)
  }

  forceShutdown(): void {
    services().listeners.delete(this.#addr)
    for (const stream of this.#streams.values()) stream.lost()
  }
}
