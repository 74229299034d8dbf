/**
 * Where each shard lives, as this gateway believes: polled from Postgres every second, sooner on a hint. A route that an
 * owner refused is not used again before a later read confirms it. Refuses to open links; it only says what changed.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { linkBackoffMaxMs, linkBackoffMinMs, mapFreshMs, mapPollMs, shardCount } from '#protos/limits.ts'

/** One row of the route map. `addr` is null while no living worker owns the shard. */
export interface RouteRow {
  shard: number
  epoch: number
  addr: string | null
}

export interface Route {
  addr: string
  epoch: number
}

export interface RouteChange {
  shard: number
  before: Route | undefined
  after: Route | undefined
}

export interface Routes {
  /** Reads the map once, then keeps reading. Rejects when the first read fails. */
  start(): Promise<void>
  /** Where to send now; undefined while the owner is unknown, gone or has just refused. */
  get(shard: number): Route | undefined
  /** Somebody who owns shards said so. Used at once when the epoch is higher than the known one. */
  hint(shard: number, to: Route): void
  /** The owner at `used` refused: wait for a read that begins after this, unless something better is known. */
  refuse(shard: number, used: Route): void
  /** Read soon: a link broke, a shard moved. */
  refresh(): void
  /** An answer came: refusals of this shard start their back-off again. */
  settled(shard: number): void
  addrs(): Set<string>
  /** The map was read a short while ago, and every shard has a living owner in it. */
  isComplete(): boolean
  /** The map was read a short while ago. */
  isFresh(): boolean
  close(): void
}

export interface RoutesDeps {
  clock: Clock
  log: Log
  readRoutes(): Promise<RouteRow[]>
  /** Calls back when the map may have changed (LISTEN); answers how to stop. */
  listen?: (changed: () => void) => () => void
  onChange(changes: RouteChange[]): void
}

interface Known {
  epoch: number
  addr: string | null
  /** The read that was the last to begin when the owner refused; usable once a later one is in. 0: not refused. */
  refusedAt: number
  refusals: number
}

export function createRoutes(deps: RoutesDeps): Routes {
  const { clock, log } = deps
  const known: Known[] = Array.from({ length: shardCount }, () => ({ epoch: 0, addr: null, refusedAt: 0, refusals: 0 }))
  let begun = 0
  let isReading = false
  let isAgain = false
  let isFailing = false
  let lastReadAt = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let dueAt = Number.POSITIVE_INFINITY
  let stopListening: (() => void) | undefined
  let isClosed = false

  const usable = (k: Known): Route | undefined =>
    k.addr === null || k.refusedAt !== 0 ? undefined : { addr: k.addr, epoch: k.epoch }

  function schedule(inMs: number): void {
    const at = clock.mono() + inMs
    if (isClosed || at >= dueAt) return
    clearTimeout(timer)
    dueAt = at
    timer = setTimeout(() => {
      dueAt = Number.POSITIVE_INFINITY
      // What changed while a reading is under way may be missing in it.
      if (isReading) isAgain = true
      else void poll()
    }, inMs)
  }

  async function poll(): Promise<void> {
    try {
      await read()
      if (isFailing) log.info('the route map can be read again')
      isFailing = false
    } catch (error) {
      if (!isFailing) log.warn('the route map cannot be read', { err: error })
      isFailing = true
    }
    schedule(isAgain ? 0 : mapPollMs)
    isAgain = false
  }

  async function read(): Promise<void> {
    isReading = true
    const turn = ++begun
    try {
      const rows = await deps.readRoutes()
      if (isClosed) return
      lastReadAt = clock.mono()
      change(rows, turn)
    } finally {
      isReading = false
    }
  }

  /** Takes rows in. A row under a lower epoch than the known one is an old read and says nothing. */
  function change(rows: readonly RouteRow[], turn: number): void {
    const changes: RouteChange[] = []
    for (const row of rows) {
      const k = known[row.shard]
      if (k === undefined || row.epoch < k.epoch) continue
      const before = usable(k)
      if (row.epoch !== k.epoch || row.addr !== k.addr) {
        k.epoch = row.epoch
        k.addr = row.addr
        k.refusedAt = 0
        k.refusals = 0
      } else if (k.refusedAt !== 0 && turn > k.refusedAt) k.refusedAt = 0
      const after = usable(k)
      if (before?.addr !== after?.addr || before?.epoch !== after?.epoch)
        changes.push({ shard: row.shard, before, after })
    }
    if (changes.length > 0) deps.onChange(changes)
  }

  return {
    async start() {
      await read()
      stopListening = deps.listen?.(() => schedule(0))
      schedule(mapPollMs)
    },
    get: shard => usable(known[shard]!),
    hint(shard, to) {
      if (to.epoch > known[shard]!.epoch) change([{ shard, ...to }], begun)
    },
    refuse(shard, used) {
      const k = known[shard]!
      if (k.refusedAt !== 0 || k.epoch !== used.epoch || k.addr !== used.addr) return
      // Back-off per shard, with jitter: a claim takes some milliseconds, a dead owner some seconds.
      const wait = Math.min(linkBackoffMaxMs, linkBackoffMinMs * 2 ** k.refusals) * (0.5 + clock.random() / 2)
      k.refusals = Math.min(k.refusals + 1, 10)
      k.refusedAt = Math.max(begun, 1)
      schedule(wait)
    },
    refresh: () => schedule(linkBackoffMinMs * clock.random()),
    settled(shard) {
      known[shard]!.refusals = 0
    },
    addrs() {
      const all = new Set<string>()
      for (const { addr } of known) if (addr !== null) all.add(addr)
      return all
    },
    isFresh: () => clock.mono() - lastReadAt <= mapFreshMs,
    isComplete: () => clock.mono() - lastReadAt <= mapFreshMs && known.every(k => k.addr !== null),
    close() {
      isClosed = true
      clearTimeout(timer)
      stopListening?.()
    },
  }
}
