/**
 * engine/storage/pool.ts, orm.ts, connections.ts and the driver under them, against the simulated server: clients with the
 * driver's own habits (one statement after another, a query timer, errors and ends as events) and a pool of them. Refuses to
 * read SQL.
 */
import { EventEmitter } from 'node:events'
import { kernel } from '../globals.ts'
import type { Proc } from '../kernel.ts'
import type { End } from '../network.ts'
import type { Ask, Reply } from '../postgres-server.ts'
import { services } from '../services.ts'

interface Options {
  statement_timeout?: number
  query_timeout?: number
  connectionTimeoutMillis?: number
}

interface Pending {
  resolve(answer: { rows: unknown[]; rowCount: number }): void
  reject(error: Error): void
  timer: NodeJS.Timeout | undefined
}

type Config = { text: string; values?: unknown[]; name?: string }
const connectTimeoutMs = 5000

export class Client extends EventEmitter {
  readonly #options: Options
  readonly #proc: Proc = kernel().current
  #end: End<Ask, Reply> | undefined
  #pending = new Map<number, Pending>()
  #lastId = 0
  #isOver = false
  #isEnding = false
  /** What production touches of the driver's private parts. */
  readonly connection = { stream: { destroy: () => this.#lost(new Error('Connection terminated')) } }

  constructor(options: Options) {
    super()
    this.#options = options
    this.on('error', () => {})
  }

  get isUsable(): boolean {
    return this.#end !== undefined && !this.#isOver
  }

  connect(): Promise<void> {
    const { net, postgres, kernel: k } = services()
    return new Promise((resolve, reject) => {
      const [mine, theirs] = net.connect<Ask, Reply>(this.#proc, postgres.proc)
      const fail = (error: Error) => {
        clearTimeout(timer)
        this.#isOver = true
        mine.close()
        reject(error)
      }
      const timeout = this.#options.connectionTimeoutMillis ?? connectTimeoutMs
      const timer = setTimeout(() => fail(new Error('timeout expired')), timeout)
      if (!postgres.isUp && !net.isCut(this.#proc.host, postgres.proc.host)) {
        k.at(this.#proc, 0.3, () => fail(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })))
        return
      }
      mine.listen({
        message: reply => {
          if (reply.kind !== 'ready') return this.#take(reply)
          clearTimeout(timer)
          this.#end = mine
          resolve()
        },
        ended: () => {
          if (this.#end) return this.#lost(new Error('Connection terminated unexpectedly'))
          fail(new Error('Connection terminated unexpectedly'))
        },
      })
      theirs.listen({
        message: () => {
          if (postgres.isUp) postgres.accept(theirs, this.#options.statement_timeout ?? 0)
          else theirs.close()
        },
        ended: () => theirs.close(),
      })
      mine.send({ id: 0, name: '', text: 'hello', values: [] })
    })
  }

  query(config: string | Config, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number }> {
    const asked: Config = typeof config === 'string' ? { text: config } : config
    return new Promise((resolve, reject) => {
      if (!this.#end || this.#isOver || this.#isEnding) {
        return reject(new Error('Client was closed and is not queryable'))
      }
      const id = ++this.#lastId
      const { query_timeout: limit } = this.#options
      const timer =
        limit === undefined
          ? undefined
          : setTimeout(() => {
              this.#pending.delete(id)
              reject(new Error('Query read timeout'))
            }, limit)
      this.#pending.set(id, { resolve, reject, timer })
      this.#end.send({ id, name: asked.name ?? '', text: asked.text, values: values ?? asked.values ?? [] })
    })
  }

  async end(): Promise<void> {
    if (this.#isOver || !this.#end) return
    this.#isEnding = true
    while (this.#pending.size > 0 && !this.#isOver) await new Promise(go => setTimeout(go, 1))
    this.#isOver = true
    this.#end.close()
    this.emit('end')
  }

  #take(reply: Reply): void {
    if (this.#isOver) return
    if (reply.kind === 'notice') this.emit('notice', { code: reply.code })
    else if (reply.kind === 'notification') this.emit('notification', { channel: 'parley_map' })
    else if (reply.kind === 'rows' || reply.kind === 'error') {
      const pending = this.#pending.get(reply.id)
      if (!pending) return
      this.#pending.delete(reply.id)
      clearTimeout(pending.timer)
      if (reply.kind === 'rows') pending.resolve({ rows: reply.rows, rowCount: reply.rows.length })
      else pending.reject(reply.error)
    }
  }

  #lost(error: Error): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#end?.close()
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject, timer } of pending) {
      clearTimeout(timer)
      reject(error)
    }
    // The driver tells of it in a later turn.
    setImmediate(() => {
      this.emit('error', error)
      this.emit('end')
    })
  }
}

/** A pool of so many clients, first come, first served. */
class Pool extends EventEmitter {
  readonly #max: number
  #free: Client[] = []
  #count = 0
  #waiting: ((client: Client | undefined) => void)[] = []

  constructor(max: number) {
    super()
    this.#max = max
  }

  async query(config: string | Config, values?: unknown[]): Promise<unknown> {
    const client = await this.#take()
    try {
      return await client.query(config, values)
    } finally {
      this.#give(client)
    }
  }

  async connect(): Promise<Client & { release(destroy?: boolean): void }> {
    const client = await this.#take()
    return Object.assign(client, {
      release: (destroy = false) => {
        if (destroy) void client.end()
        this.#give(client)
      },
    })
  }

  async end(): Promise<void> {
    await Promise.all(this.#free.map(client => client.end()))
  }

  async #take(): Promise<Client> {
    for (;;) {
      const free = this.#free.pop()
      if (free?.isUsable) return free
      if (free) this.#count--
      else if (this.#count < this.#max) return this.#open()
      else {
        const given = await new Promise<Client | undefined>(resolve => this.#waiting.push(resolve))
        if (given) return given
      }
    }
  }

  async #open(): Promise<Client> {
    this.#count++
    const client = new Client({})
    try {
      await client.connect()
      return client
    } catch (error) {
      this.#count--
      this.#waiting.shift()?.(undefined)
      throw error
    }
  }

  #give(client: Client): void {
    if (client.isUsable) {
      const next = this.#waiting.shift()
      if (next) next(client)
      else this.#free.push(client)
    } else {
      this.#count--
      this.#waiting.shift()?.(undefined)
    }
  }
}

export async function openConnections(options: { waitMs?: number }) {
  const { now } = kernel()
  for (let pause = 50; ; pause = Math.min(1000, pause * 2)) {
    try {
      const probe = new Client({})
      await probe.connect()
      await probe.end()
      break
    } catch (error) {
      if (kernel().now - now > (options.waitMs ?? 0)) throw error
      await new Promise(go => setTimeout(go, pause))
    }
  }
  const connect = async (extra: Options = {}) => {
    const client = new Client(extra)
    await client.connect()
    return client
  }
  return { config: {}, role: undefined, connect }
}

export async function openPool(options: { poolMax?: number; waitMs?: number; url: string }) {
  const { role, connect } = await openConnections(options)
  const pool = new Pool(options.poolMax ?? 4)
  return { pool, url: options.url, role, named: true, connect, close: () => pool.end() }
}

export async function openOrm(options: { poolMax?: number; waitMs?: number; url: string }) {
  return { orm: undefined, ...(await openPool(options)) }
}
