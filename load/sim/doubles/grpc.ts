/**
 * @grpc/grpc-js as far as links use it, over the simulated network: one ordered stream of messages each way, keep-alive
 * that ends a stream on which nothing gets through, back-pressure behind a cut. Refuses everything else of gRPC.
 */
import { EventEmitter } from 'node:events'
import { Metadata, status } from '@grpc/grpc-js'
import { linkConnectMs, linkKeepaliveMs, linkSilentMs } from '#protos/limits.ts'
import { kernel } from '../globals.ts'
import type { Proc } from '../kernel.ts'
import type { End } from '../network.ts'
import { services } from '../services.ts'

// Codes, metadata and the like are the real ones.
export * from '@grpc/grpc-js'

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
  #isPaused = false
  #unread: Buffer[] = []

  constructor(end: End<Buffer, Buffer>) {
    super()
    this.end$ = end
    end.listen({
      message: data => this.take(data),
      ended: () => this.lost(),
    })
    this.#watch()
  }

  get isOver(): boolean {
    return this.#isOver
  }

  take(data: Buffer): void {
    if (this.#isOver) return
    if (this.#isPaused) this.#unread.push(data)
    else this.emit('data', data)
  }

  pause(): this {
    this.#isPaused = true
    return this
  }

  resume(): this {
    this.#isPaused = false
    while (!this.#isPaused && this.#unread.length > 0) this.take(this.#unread.shift()!)
    return this
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
  readonly metadata: Metadata

  constructor(end: End<Buffer, Buffer>, metadata: Metadata) {
    super(end)
    this.metadata = metadata
    // The library listens itself: an error is a status, not a crash.
    this.on('error', () => {})
  }

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

  makeBidiStreamRequest(path: string, _to: unknown, _from: unknown, metadata = new Metadata()): ClientStream {
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
      to.server.accept(path, new ServerStream(theirs, metadata))
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

  /** Whether a connection would stand: known after a round trip, or not before the deadline. */
  waitForReady(_deadline: number, done: (error?: Error) => void): void {
    const { net, listeners, kernel: k } = services()
    const to = listeners.get(this.#addr)
    const [here, there] = [this.#proc.host, to?.proc.host ?? '']
    const isOpen = to !== undefined && !to.proc.isDead && !to.proc.isPaused
    const stands = isOpen && !net.isCut(here, there) && !net.isCut(there, here)
    const ms = stands ? net.latency(here, there) * 2 : linkConnectMs
    k.at(this.#proc, ms, () => done(stands ? undefined : new Error('not in time')))
  }

  close(): void {
    for (const stream of this.#streams) stream.finish()
  }
}

type Handler = (stream: ServerStream) => void

export class Server {
  #handlers = new Map<string, Handler>()
  #streams = new Map<End<Buffer, Buffer>, ServerStream>()
  #addr = ''

  addService(service: Record<string, { path: string }>, handlers: Record<string, Handler>): void {
    for (const [name, { path }] of Object.entries(service)) this.#handlers.set(path, handlers[name]!)
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

  accept(path: string, stream: ServerStream): void {
    this.#streams.set(stream.end$, stream)
    this.#handlers.get(path)?.(stream)
  }

  /** The message with which the stream came. */
  replay(end: End<Buffer, Buffer>, data: Buffer): void {
    this.#streams.get(end)?.take(data)
  }

  forceShutdown(): void {
    services().listeners.delete(this.#addr)
    for (const stream of this.#streams.values()) stream.lost()
  }
}
