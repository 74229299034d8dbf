/**
 * Natural group commit for one worker: gathers what its actors want stored, keeps one statement in flight, and settles
 * each actor's share by what came of it. A doubtful statement is resolved here, by stamp and look-up; no actor sees it.
 * Writes no SQL, acks nothing; when a batch waits for company is pace.ts's.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contribution, Journal, Outcome, Source } from '#engine/actor/ports.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { batchBytesMax, batchRowsMax, commitPaceSourcesMax, letterAgeMsMax } from '#protos/limits.ts'
import type { CommitResult, LogStore } from './log-store.ts'
import { type LastStatement, paceMs } from './pace.ts'
import type { ShardTable } from './shard-table.ts'

export interface JournalOptions {
  clock: Clock
  log: Log
  metrics: Metrics
  store: LogStore
  shards: ShardTable
  /** The shard is another's now (already dropped from the table): forget its actors. */
  onFenced(shard: number): void
  /** A recovery moved the shard's epoch (already in the table): tell who routes by it. */
  onStamped(shard: number, epoch: number): void
}

interface Taken {
  source: Source
  contribution: Contribution
}

/** A statement under way. */
interface Flight {
  batch: Taken[]
  contributions: Contribution[]
  startedAt: number
  answer: Promise<CommitResult>
}

/** A source that goes alone, and how many more times letter by letter. */
interface Care {
  singles: number
}

/** Tries of one statement that met a deadlock or the like. */
const retriesMax = 5
const backoffMinMs = 50
const backoffMaxMs = 1000
const refusedRetryMs = 1000
const rateWindowMs = 1000
const rateFreshMs = 5

export function createJournal(options: JournalOptions): GroupJournal {
  return new GroupJournal(options)
}

export class GroupJournal implements Journal {
  generation = 0
  readonly #o: JournalOptions
  /** First offered, first asked. Bounded by the actors that exist: each is in it at most once. */
  readonly #waiting = new Set<Source>()
  readonly #care = new WeakMap<Source, Care>()
  /** Statements of the last second. */
  readonly #recent: { at: number; ms: number }[] = []
  #rate: { at: number; rows: number | undefined } = { at: Number.NEGATIVE_INFINITY, rows: undefined }
  readonly #stop = new AbortController()
  #busy: Promise<void> | undefined
  #scheduled = false
  #last: LastStatement = { at: 0, sources: 0 }
  /** The next statement waits for company. */
  #paced: NodeJS.Timeout | undefined

  constructor(options: JournalOptions) {
    this.#o = options
    options.store.onLost = () => {
      this.generation++
      // An idle journal finds out at once, not with the next message.
      this.#schedule()
    }
    this.#schedule()
  }

  offer(source: Source): void {
    this.#waiting.add(source)
    if (this.#paced && this.#waiting.size >= commitPaceSourcesMax) this.#unpace()
    this.#schedule()
  }

  epochOf(shard: number): number | undefined {
    return this.#o.shards.epochOf(shard)
  }

  /**
   * What full batches would store at the pace of the last second's statements. The rows that happened to come would make an
   * idle worker look slow at the first burst.
   */
  rowsPerSecond(): number | undefined {
    const now = this.#o.clock.mono()
    // Asked for each letter: within a few ms the answer is the same.
    if (now - this.#rate.at < rateFreshMs) return this.#rate.rows
    while (this.#recent.length > 0 && this.#recent[0]!.at < now - rateWindowMs) this.#recent.shift()
    const busyMs = this.#recent.reduce((sum, s) => sum + s.ms, 0)
    const rows = (batchRowsMax * this.#recent.length * 1000) / Math.max(busyMs, 0.1)
    this.#rate = { at: now, rows: this.#recent.length === 0 ? undefined : rows }
    return this.#rate.rows
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#unpace()
    await this.#busy
    await this.#o.store.close()
  }

  /** The rest of this turn of the event loop may still offer; the batch is taken after it. */
  #schedule(): void {
    if (this.#scheduled || this.#busy || this.#paced || this.#stop.signal.aborted) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#pump()
    })
  }

  #pump(): void {
    if (this.#busy || this.#stop.signal.aborted) return
    if (!this.#o.store.connected) {
      this.#hold(this.#reconnect())
      return
    }
    const waitMs = this.#paceMs()
    if (waitMs > 0) {
      this.#paced ??= setTimeout(() => {
        this.#unpace()
        this.#pump()
      }, waitMs)
      return
    }
    const flight = this.#depart()
    if (flight) this.#hold(this.#run(flight))
    else if (this.#waiting.size > 0) this.#schedule()
  }

  #paceMs(): number {
    return paceMs(this.#last, this.#waiting.size, this.#o.clock.mono())
  }

  /** Takes what waits and sends it, in this very turn; undefined when nobody had anything. Sources of `unsettled` keep their place. */
  #depart(unsettled: readonly Taken[] = []): Flight | undefined {
    const { clock, store } = this.#o
    const batch = this.#gather(new Set(unsettled.map(t => t.source)))
    // Pieces of answers come at their own pace: people's sends do not wait for company that would not be theirs.
    const sources = batch.filter(t => t.contribution.events.length > 0 || t.contribution.segments.length === 0).length
    const startedAt = clock.mono()
    this.#last = { at: startedAt, sources }
    if (batch.length === 0) return undefined
    const contributions = batch.map(t => t.contribution)
    return { batch, contributions, startedAt, answer: store.commit(contributions) }
  }

  #unpace(): void {
    clearTimeout(this.#paced)
    this.#paced = undefined
    this.#last.sources = 0
  }

  #hold(work: Promise<void>): void {
    this.#busy = work.then(() => {
      this.#busy = undefined
      // In the very turn in which the last statement was settled: what waits goes out before anything else happens.
      if (this.#waiting.size > 0 || !this.#o.store.connected) this.#pump()
    })
  }

  #gather(unsettled: ReadonlySet<Source>): Taken[] {
    const batch: Taken[] = []
    let rows = 0
    let bytes = 0
    let left = this.#waiting.size
    for (const source of this.#waiting) {
      if (left-- === 0) break
      if (unsettled.has(source)) continue
      const care = this.#care.get(source)
      // It keeps its place, and so is first, and alone, in the next batch.
      if (care && batch.length > 0) continue
      this.#waiting.delete(source)
      const letters = care && care.singles > 0 ? 1 : Number.POSITIVE_INFINITY
      const contribution = source.take({ rows: batchRowsMax - rows, bytes: batchBytesMax - bytes, letters })
      if (!contribution) continue
      const epoch = this.#o.shards.epochOf(source.shard)
      if (epoch !== contribution.epoch) {
        source.settle({ kind: epoch === undefined ? 'fenced' : 'again' })
        continue
      }
      batch.push({ source, contribution })
      for (const e of contribution.events) bytes += Buffer.byteLength(e.body)
      for (const s of contribution.segments) bytes += Buffer.byteLength(s.text)
      rows += contribution.events.length + contribution.segments.length + contribution.sides.length
      if (care || rows >= batchRowsMax || bytes >= batchBytesMax) break
    }
    return batch
  }

  /**
   * One statement after another for as long as somebody waits. The next one leaves before the shares of the last one are
   * settled: the database works while this thread acks.
   */
  async #run(first: Flight): Promise<void> {
    for (let flight: Flight | undefined = first; flight; ) {
      const { batch, contributions, startedAt } = flight
      const result = await this.#arrival(flight)
      const { clock, metrics } = this.#o
      const ms = clock.mono() - startedAt
      metrics.parley_commit_ms.observe(ms)
      metrics.parley_commit_rows.observe(
        contributions.reduce((n, c) => n + c.events.length + c.segments.length + c.sides.length, 0),
      )
      metrics.parley_commits_total.inc({ outcome: result.kind })
      if (result.kind !== 'unknown') this.#recent.push({ at: clock.mono(), ms })
      flight = undefined
      if (result.kind === 'done') {
        const { shards } = result
        const fenced = batch.filter(t => !shards.has(t.contribution.shard))
        this.#fence(fenced.map(t => [t.contribution.shard, t.contribution.epoch]))
        if (this.#waiting.size > 0 && this.#paceMs() === 0 && !this.#stop.signal.aborted) flight = this.#depart(batch)
        for (const t of batch)
          this.#settle(t, shards.has(t.contribution.shard) ? { kind: 'stored' } : { kind: 'fenced' })
      } else await this.#resolve(batch, result)
    }
  }

  async #arrival({ contributions, answer }: Flight): Promise<CommitResult> {
    const { clock, store } = this.#o
    let result = await answer
    for (let tries = 1; result.kind === 'retry' && store.connected && tries < retriesMax; tries++) {
      await this.#pause(2 ** tries * (1 + clock.random()))
      result = await store.commit(contributions)
    }
    return result
  }

  /** Of a statement that did not simply succeed. */
  async #resolve(batch: Taken[], result: Exclude<CommitResult, { kind: 'done' }>): Promise<void> {
    const { metrics } = this.#o
    switch (result.kind) {
      case 'retry':
        for (const t of batch) this.#settle(t, { kind: 'again' })
        return
      case 'full':
        for (const t of batch) this.#settle(t, { kind: 'refused', retryAfterMs: refusedRetryMs })
        return
      case 'data':
        this.#split(batch, result.code)
        return
      case 'duplicate':
        await this.#duplicates(batch)
        return
      case 'head':
        metrics.parley_head_conflict_total.inc()
        this.#o.log.error('a position was taken already: heads are read again', { count: batch.length })
        await this.#recover(batch, false)
        return
      case 'unknown':
        await this.#recover(batch, true)
        return
      default:
        result satisfies never
    }
  }

  /** Some row cannot be stored: each source alone, then its letters one by one, until the culprit stands by itself. */
  #split(batch: Taken[], code: string): void {
    for (const t of batch) {
      const care = this.#care.get(t.source)
      if (batch.length > 1) this.#care.set(t.source, care ?? { singles: 0 })
      else if (care && care.singles > 0) {
        this.#settle(t, { kind: 'culprit', code })
        continue
      } else {
        const { events, sides } = t.contribution
        this.#care.set(t.source, { singles: Math.max(1, events.length + sides.length) })
      }
      t.source.settle({ kind: 'again' })
    }
  }

  async #duplicates(batch: Taken[]): Promise<void> {
    const keys = batch.flatMap(({ contribution: c }) =>
      c.events.map(e => ({ conversation: c.conversation, senderId: e.senderId, clientId: e.clientId })),
    )
    let found: Awaited<ReturnType<LogStore['findClients']>>
    try {
      found = await this.#o.store.findClients(keys)
    } catch {
      // Nothing was stored in any case; the ids are asked for again when the rows come back.
      for (const t of batch) this.#settle(t, { kind: 'again' })
      return
    }
    // The same id twice in one batch: no look-up can tell, but going alone can.
    if (found.length === 0) {
      this.#split(batch, '23505')
      return
    }
    const byConversation = Map.groupBy(found, key => key.conversation)
    for (const t of batch) {
      const hits = byConversation.get(t.contribution.conversation)
      if (hits) {
        t.source.settle({ kind: 'duplicates', clientIds: new Set(hits.map(key => key.clientId)) })
        this.#care.set(t.source, { singles: this.#care.get(t.source)?.singles ?? 0 })
      } else this.#settle(t, { kind: 'again' })
    }
  }

  /**
   * Stamps the batch's shards, which waits behind the old statement and makes it the last of its epoch, then looks by
   * position what it left. Stays silent for as long as there is no answer. `doubtful` false: known to have left nothing.
   */
  async #recover(batch: Taken[], doubtful: boolean): Promise<void> {
    const { clock, log, shards, store } = this.#o
    const held = new Map(batch.map(t => [t.contribution.shard, t.contribution.epoch]))
    const startedAt = clock.mono()
    for (let tries = 0; !this.#stop.signal.aborted; tries++) {
      if (tries > 0) await this.#backoff(tries)
      try {
        await store.connect(true)
        const stamped = new Map<number, number>()
        for (const { shard, epoch } of await store.stamp([...held].map(([shard, epoch]) => ({ shard, epoch })))) {
          stamped.set(shard, epoch)
          if (shards.set(shard, epoch)) this.#o.onStamped(shard, epoch)
        }
        const ours = batch.filter(t => stamped.has(t.contribution.shard))
        for (const [shard, epoch] of stamped) held.set(shard, epoch)
        const stored = await store.areStored(ours.map(t => t.contribution))
        const isStored = new Set(ours.filter((_, i) => doubtful && stored[i]))
        this.#fence([...held].filter(([shard]) => !stamped.has(shard)))
        for (const t of batch) {
          const kind = !stamped.has(t.contribution.shard) ? 'fenced' : isStored.has(t) ? 'stored' : 'again'
          this.#settle(t, { kind })
        }
        log.warn('a doubtful commit is resolved', { count: batch.length, ms: Math.round(clock.mono() - startedAt) })
        return
      } catch (error) {
        store.discard()
        if (tries === 0) log.warn('the outcome of a commit is not known yet', { err: error })
      }
    }
  }

  /** No statement is lost here: nothing is taken while there is no connection. */
  async #reconnect(): Promise<void> {
    const { clock, log, store } = this.#o
    const startedAt = clock.mono()
    for (let tries = 0; !this.#stop.signal.aborted; tries++) {
      if (tries > 0) await this.#backoff(tries)
      try {
        await store.connect(false)
        if (tries > 0) log.info('the database is back', { ms: Math.round(clock.mono() - startedAt) })
        return
      } catch (error) {
        if (tries === 0) log.warn('the database cannot be reached', { err: error })
        const isFull = (error as { code?: string }).code?.startsWith('53') === true
        if (isFull || clock.mono() - startedAt > letterAgeMsMax) this.#refuseWaiting()
      }
    }
  }

  /** What has reached no statement may be refused: it will never be stored. */
  #refuseWaiting(): void {
    const waiting = Array.from(this.#waiting)
    this.#waiting.clear()
    for (const source of waiting) {
      const rows = Number.POSITIVE_INFINITY
      if (source.take({ rows, bytes: rows, letters: rows })) {
        source.settle({ kind: 'refused', retryAfterMs: refusedRetryMs })
      }
    }
  }

  #fence(lost: readonly (readonly [shard: number, epoch: number])[]): void {
    for (const [shard, epoch] of lost) {
      if (this.#o.shards.drop(shard, epoch)) this.#o.onFenced(shard)
    }
  }

  /** Ends one turn of a source's special care along with the turn itself. */
  #settle(taken: Taken, outcome: Outcome): void {
    const care = this.#care.get(taken.source)
    if (care && outcome.kind !== 'again') {
      if ((outcome.kind === 'stored' || outcome.kind === 'culprit') && care.singles > 1) care.singles--
      else this.#care.delete(taken.source)
    }
    taken.source.settle(outcome)
  }

  #backoff(tries: number): Promise<void> {
    const ceiling = Math.min(backoffMaxMs, backoffMinMs * 2 ** (tries - 1))
    return this.#pause(ceiling * (0.5 + this.#o.clock.random() / 2))
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {})
  }
}
