/**
 * Stands between an engine and Postgres and breaks commits where it hurts: before the request, between request and reply,
 * inside the reply, long after the client gave up. Knows a commit by its statement; everything else passes untouched.
 * Counts what it did, for a fault that never hit proves nothing. Refuses TLS: it has to read.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { commandTag, type PgFrame, PgSplitter, statementName, statementText } from './pg-frames.ts'

/**
 * before: reset, the request is never forwarded. reply: forwarded and executed, the reply is swallowed. inside: half of the
 * reply comes through. late: held until the client has given up, then forwarded. reset: forwarded, the client gets a RST.
 */
export const cuts = ['before', 'reply', 'inside', 'late', 'reset'] as const
export type Cut = (typeof cuts)[number]

/** hold: no byte passes either way, connections stay. holdReplies: requests pass. refuse: as if nobody listened. */
export type ProxyMode = 'pass' | 'hold' | 'holdReplies' | 'refuse'

export interface PgProxy {
  readonly port: number
  /** Commits seen, and how many of them were cut. */
  readonly counts: ProxyCounts
  /** Cuts each nth commit from now on; undefined stops that. */
  arm(cut: Cut | undefined, every?: number): void
  setMode(mode: ProxyMode): void
  readonly openCount: number
  close(): Promise<void>
}

export interface ProxyCounts {
  commits: number
  cut: Record<Cut, number>
  /** Late requests that were forwarded, and of those the ones that still matched a fence: must stay 0. */
  lateRun: number
  lateMatched: number
}

/** Where Postgres listens: a socket's path or a TCP address. */
export type Upstream = { path: string } | { host: string; port: number }

/** Where the database of this URL listens. A socket folder in `?host=` leaves the URL's own host empty. */
export function upstreamOf(databaseUrl: string): Upstream {
  const folder = /[?&]host=([^&]+)/.exec(databaseUrl)?.[1]
  if (folder !== undefined) return { path: `${decodeURIComponent(folder)}/.s.PGSQL.5432` }
  const { hostname, port } = new URL(databaseUrl)
  return { host: hostname, port: Number(port) || 5432 }
}

/** The same database, reached by a local port instead. */
export function urlThrough(databaseUrl: string, port: number): string {
  return databaseUrl.replace(/@[^/]*/, `@127.0.0.1:${port}`).replace(/\?.*$/, '')
}

/** Well beyond the engine's own timer of 2 s. */
const lateMsDefault = 5000
const commitName = /^parley_commit_/
const commitText = /\bfence as materialized\b[\s\S]*for share of s/

export async function openPgProxy(upstream: Upstream, options: { lateMs?: number } = {}): Promise<PgProxy> {
  const counts: ProxyCounts = {
    commits: 0,
    cut: { before: 0, reply: 0, inside: 0, late: 0, reset: 0 },
    lateRun: 0,
    lateMatched: 0,
  }
  const pipes = new Set<Pipe>()
  let mode: ProxyMode = 'pass'
  let armed: { cut: Cut; every: number; left: number } | undefined

  const server = createServer({ pauseOnConnect: true }, client => {
    if (mode === 'refuse') {
      client.resetAndDestroy()
      return
    }
    const pipe = new Pipe(client, connect(upstream), {
      counts,
      lateMs: options.lateMs ?? lateMsDefault,
      next() {
        if (!armed || --armed.left > 0) return undefined
        armed.left = armed.every
        return armed.cut
      },
      ended: () => pipes.delete(pipe),
    })
    pipes.add(pipe)
    pipe.setMode(mode)
  })
  const port = await listen(server)

  return {
    port,
    counts,
    arm(cut, every = 1) {
      armed = cut && { cut, every, left: every }
    },
    setMode(next) {
      mode = next
      for (const pipe of pipes) pipe.setMode(next)
    },
    get openCount() {
      return pipes.size
    },
    async close() {
      for (const pipe of pipes) pipe.destroy()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

interface PipeOptions {
  counts: ProxyCounts
  lateMs: number
  /** What is done to the commit at hand. */
  next(): Cut | undefined
  ended(): void
}

/** One connection with its other half. */
class Pipe {
  readonly #client: Socket
  readonly #server: Socket
  readonly #o: PipeOptions
  readonly #requests = new PgSplitter('client')
  /** Messages of an extended query up to its Sync, which leave together. */
  #gathered: PgFrame[] = []
  #isCommit = false
  #commitStatements = new Set<string>()
  /** Set while a cut plays: the reply is read here and goes nowhere by itself. */
  #playing: { cut: Cut; reply: PgSplitter; bytes: Buffer[] } | undefined
  #timer: NodeJS.Timeout | undefined
  #isEnded = false

  constructor(client: Socket, server: Socket, options: PipeOptions) {
    this.#client = client
    this.#server = server
    this.#o = options
    client.setNoDelay(true)
    client.on('error', () => {})
    server.on('error', () => {})
    client.on('data', piece => this.#fromClient(piece))
    server.on('data', piece => this.#fromServer(piece))
    client.on('close', () => {
      // A request that is late or whose client got a RST outlives its client.
      if (this.#playing?.cut !== 'late' && this.#playing?.cut !== 'reset') this.destroy()
    })
    server.on('close', () => this.destroy())
  }

  setMode(mode: ProxyMode): void {
    if (mode === 'refuse') {
      this.#client.resetAndDestroy()
      this.destroy()
      return
    }
    if (mode === 'hold') this.#client.pause()
    else this.#client.resume()
    if (mode === 'pass') this.#server.resume()
    else this.#server.pause()
  }

  destroy(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    clearTimeout(this.#timer)
    // What Postgres said last is still delivered.
    this.#client.destroySoon()
    this.#server.destroy()
    this.#o.ended()
  }

  #fromClient(piece: Buffer): void {
    if (this.#playing) return
    const out: Buffer[] = []
    for (const frame of this.#requests.push(piece)) {
      const name = statementName(frame)
      if (name !== undefined) {
        if (frame.type === 'P' && (commitName.test(name) || commitText.test(statementText(frame) ?? '')))
          this.#commitStatements.add(name)
        else if (frame.type === 'P') this.#commitStatements.delete(name)
        if (frame.type === 'B' && this.#commitStatements.has(name)) this.#isCommit = true
      }
      if (!'PBDECHS'.includes(frame.type) || frame.type === '') {
        out.push(frame.bytes)
        continue
      }
      this.#gathered.push(frame)
      if (frame.type !== 'S' && frame.type !== 'H') continue
      const request = this.#gathered.map(f => f.bytes)
      this.#gathered = []
      const cut = this.#isCommit ? this.#commit() : undefined
      this.#isCommit = false
      if (cut) {
        this.#play(cut, Buffer.concat(request))
        return
      }
      out.push(...request)
    }
    if (out.length > 0) this.#server.write(Buffer.concat(out))
  }

  #commit(): Cut | undefined {
    this.#o.counts.commits++
    return this.#o.next()
  }

  #play(cut: Cut, request: Buffer): void {
    this.#o.counts.cut[cut]++
    this.#playing = { cut, reply: new PgSplitter('server'), bytes: [] }
    switch (cut) {
      case 'before':
        this.#client.resetAndDestroy()
        this.destroy()
        return
      case 'late':
        this.#timer = setTimeout(() => {
          this.#o.counts.lateRun++
          this.#server.write(request)
        }, this.#o.lateMs)
        return
      case 'reset':
        this.#server.write(request)
        // The server runs what it has; a RST towards it could empty its socket first.
        this.#client.resetAndDestroy()
        return
      case 'reply':
      case 'inside':
        this.#server.write(request)
        return
      default:
        cut satisfies never
    }
  }

  #fromServer(piece: Buffer): void {
    const playing = this.#playing
    if (!playing) {
      this.#client.write(piece)
      return
    }
    playing.bytes.push(piece)
    for (const frame of playing.reply.push(piece)) {
      const tag = commandTag(frame)
      // Even one that failed got past the fence first.
      if (playing.cut === 'late' && (frame.type === 'E' || (tag !== undefined && tag !== 'SELECT 0')))
        this.#o.counts.lateMatched++
      if (frame.type !== 'Z') continue
      if (playing.cut === 'inside') {
        const reply = Buffer.concat(playing.bytes)
        this.#client.write(reply.subarray(0, Math.floor(reply.length / 2)), () => {
          this.#client.resetAndDestroy()
          this.destroy()
        })
      } else {
        if (playing.cut === 'reply') this.#client.resetAndDestroy()
        this.destroy()
      }
      return
    }
  }
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
}
