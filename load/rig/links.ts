/**
 * Plain TCP links that can be cut one way or both, refused, delayed and narrowed: between gateways and engines, gateways and
 * Redis, clients and gateways. A cut loses nothing by itself: what was on its way arrives late, as on a network. Refuses to
 * read what passes.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Upstream } from './proxy.ts'

/** hold: no byte passes. holdRequests, holdReplies: one direction. refuse: as if nobody listened. */
export const linkModes = ['pass', 'hold', 'holdRequests', 'holdReplies', 'refuse'] as const
export type LinkMode = (typeof linkModes)[number]

export interface Shape {
  /** Each way. */
  delayMs: number
  bytesPerSecond: number
}

export interface Link {
  readonly port: number
  /** Connections taken since the start, and those that are open. */
  readonly counts: { taken: number; refused: number }
  readonly open: number
  setMode(mode: LinkMode): void
  /** Slow from now on; undefined: as fast as it goes. */
  shape(shape: Shape | undefined): void
  close(): Promise<void>
}

/** `upstream` is asked for each connection; undefined: nobody listens there now. */
export async function openLink(upstream: () => Upstream | undefined): Promise<Link> {
  const pairs = new Set<[Lane, Lane]>()
  const counts = { taken: 0, refused: 0 }
  let mode: LinkMode = 'pass'
  let shape: Shape | undefined

  const isHeld = (side: number) => mode === 'hold' || mode === (side === 0 ? 'holdRequests' : 'holdReplies')
  const apply = (pair: [Lane, Lane]) => {
    for (const [side, lane] of pair.entries()) {
      lane.shape = shape
      if (mode === 'refuse') lane.from.resetAndDestroy()
      else lane.hold(isHeld(side))
    }
  }
  const server: Server = createServer({ pauseOnConnect: true }, client => {
    const to = mode === 'refuse' ? undefined : upstream()
    if (!to) {
      counts.refused++
      client.resetAndDestroy()
      return
    }
    counts.taken++
    const other = connect(to)
    const pair: [Lane, Lane] = [new Lane(client, other), new Lane(other, client)]
    pairs.add(pair)
    for (const socket of [client, other]) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => pairs.delete(pair))
    }
    apply(pair)
  })
  const port = await new Promise<number>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
  const all = (change: (pair: [Lane, Lane]) => void) => {
    for (const pair of pairs) change(pair)
  }
  return {
    port,
    counts,
    get open() {
      return pairs.size
    },
    setMode(next) {
      mode = next
      all(apply)
    },
    shape(next) {
      shape = next
      all(apply)
    },
    async close() {
      all(pair => {
        for (const lane of pair) lane.from.destroy()
      })
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

/** One direction of one connection: pieces in order, each when it is due. */
class Lane {
  readonly from: Socket
  readonly #to: Socket
  shape: Shape | undefined
  #isHeld = false
  #isFull = false
  /** When the last piece is through, monotonic ms. */
  #dueAt = 0
  readonly #waiting: { at: number; run: () => void }[] = []

  constructor(from: Socket, to: Socket) {
    this.from = from
    this.#to = to
    from.on('data', piece => this.#pass(piece))
    from.on('end', () => this.#after(() => to.end()))
    from.on('close', () => this.#after(() => to.destroySoon()))
  }

  hold(isHeld: boolean): void {
    this.#isHeld = isHeld
    if (isHeld) this.from.pause()
    else if (!this.#isFull) this.from.resume()
  }

  #pass(piece: Buffer): void {
    const now = performance.now()
    if (this.shape) {
      const { delayMs, bytesPerSecond } = this.shape
      this.#dueAt = Math.max(this.#dueAt, now + delayMs) + (piece.length * 1000) / bytesPerSecond
    }
    this.#after(() => {
      if (this.#to.write(piece) || this.#isFull) return
      this.#isFull = true
      this.from.pause()
      this.#to.once('drain', () => {
        this.#isFull = false
        if (!this.#isHeld) this.from.resume()
      })
    })
  }

  /** In order, whatever timers make of fractions. */
  #after(run: () => void): void {
    this.#waiting.push({ at: this.#dueAt, run })
    if (this.#waiting.length === 1) this.#drain()
  }

  #drain(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const wait = next.at - performance.now()
      if (wait > 0) {
        setTimeout(() => this.#drain(), wait)
        return
      }
      next.run()
      this.#waiting.shift()
    }
  }
}
