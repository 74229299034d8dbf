/**
 * What the parts of G13 share: a product on a database that stamps its commits, the scripted model beside it, watchers in a
 * process of their own, and percentiles. Owns these processes.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { startTestPostgres } from '#load/kit/postgres.ts'
import { cpuMs, treeCpuMs } from '#load/kit/proc.ts'
import { type Product, startProduct } from '#load/kit/product.ts'
import { Upstream } from '#load/rig/upstream.ts'
import { ask } from './ask.ts'
import type { FromWatchers, Seat, Sight, ToWatchers } from './watch-generator.ts'

export interface Outcome {
  title: string
  text: string
  /** What makes the figures worthless; no figure is one. */
  problems: string[]
}

export interface Stage {
  product: Product
  upstream: Upstream
  tokens: string[]
  postgresCpuMs(): number
  sql<R>(text: string, values?: unknown[]): Promise<R[]>
  stop(): Promise<void>
}

export async function openStage(users: number, env: Record<string, string> = {}): Promise<Stage> {
  const upstream = await Upstream.start(true)
  // Flushes as a default server makes them.
  const postgres = await startTestPostgres({ track_commit_timestamp: 'on', fsync: 'on' })
  const product = await startProduct({
    DATABASE_URL: postgres.server.url,
    OPENAI_BASE_URL: upstream.url,
    OPENAI_API_KEY: 'bench',
    ...env,
  })
  const client = new Client({ connectionString: postgres.server.url })
  client.on('error', () => {})
  await client.connect()
  return {
    product,
    upstream,
    tokens: await product.seed(users),
    postgresCpuMs: () => treeCpuMs(postgres.server.pid),
    sql: async <R>(text: string, values: unknown[] = []) => (await client.query(text, values)).rows as R[],
    async stop() {
      await client.end()
      await product.stop()
      upstream.stop()
      await postgres.stop()
    },
  }
}

/** CPU ms so far. */
export function cpuOf(stage: Stage): { gateway: number; engine: number; postgres: number } {
  const node = stage.product.node()
  return { gateway: cpuMs(node.gateway), engine: cpuMs(node.engine), postgres: stage.postgresCpuMs() }
}

export class Watchers {
  readonly #child: ChildProcess

  constructor() {
    this.#child = fork(path.join(import.meta.dirname, 'watch-generator.ts'), [], { stdio: 'inherit' })
  }

  async open(url: string, seats: Seat[], isRaw: boolean): Promise<void> {
    await ask<FromWatchers, 'open'>(this.#child, { kind: 'open', url, seats, isRaw }, 'open')
  }

  tell(order: ToWatchers): void {
    this.#child.send(order)
  }

  async collect(): Promise<Sight[]> {
    return (await ask<FromWatchers, 'collect'>(this.#child, { kind: 'collect' }, 'collect')).sights
  }

  end(): void {
    if (this.#child.connected) this.tell({ kind: 'end' })
    this.#child.kill()
  }
}

export const newRun = () => randomBytes(8).toString('hex')

/** Sentence by sentence: how late each byte that was sent came, ms; `first` alone, and what followed. */
export function delays(sights: readonly Sight[], sentOf: (sight: Sight) => readonly number[]) {
  const first: number[] = []
  const later: number[] = []
  for (const sight of sights) {
    const sent = sentOf(sight)
    let i = 0
    // Each token that upstream sent was shown with the first piece that reaches its end.
    for (let n = 0; n < sent.length; n += 2) {
      while (i < sight.at.length && sight.at[i]! < sent[n]!) i += 2
      if (i >= sight.at.length) break
      const ms = sight.at[i + 1]! - (performance.timeOrigin + sent[n + 1]!)
      if (n === 0) first.push(ms)
      else later.push(ms)
    }
  }
  return { first, later }
}

export function at(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted.length === 0 ? Number.NaN : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

export const ms = (value: number) => (Number.isFinite(value) ? value.toFixed(1) : '–')

/** Waits until each of these turns has got words from the model. */
export async function begun(upstream: Upstream, runs: readonly string[], msMax = 30_000): Promise<boolean> {
  for (const until = performance.now() + msMax; performance.now() < until; await sleep(20)) {
    const open = new Set(upstream.inferences.flatMap(i => (i.sentBytes > 0 ? i.run : [])))
    if (runs.every(run => open.has(run))) return true
  }
  return false
}
