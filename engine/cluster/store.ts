/**
 * Owns the two database connections of the engine's main thread: one that only renews, one for everything else, so that a
 * claim that waits for a lock never stretches the lease. A connection that failed or fell silent is thrown away.
 * Refuses to retry a statement: the next round does that.
 */
import type { Client } from 'pg'
import type { Clock } from '#engine/ops/clock.ts'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import { type Connections, openConnections } from '#engine/storage/connections.ts'
import * as ownership from '#engine/storage/ownership.ts'
import { noticeRouteMap, watchRouteMap } from '#engine/storage/route-map.ts'
import { commitTimerMs } from '#protos/limits.ts'
import type { OwnershipStore } from './rows.ts'

export interface OwnershipDatabase extends OwnershipStore {
  /** Writes the incarnation's row; `isAlone`: it is proved that no other process of this node runs, so those are buried. */
  enter(node: { incarnation: string; nodeId: string; version: string; isAlone: boolean }): Promise<void>
  /** Calls back when another node changed rows; a hint that may never come. Answers how to stop. */
  watch(changed: () => void): () => void
  close(): Promise<void>
}

/** Waits for a database that is away. */
export async function openOwnershipStore(config: Config, log: Log, clock: Clock): Promise<OwnershipDatabase> {
  const database = await openConnections({
    url: config.DATABASE_URL,
    role: 'parley_engine',
    name: 'parley-engine-main',
    pooler: config.DATABASE_POOLER,
    waitMs: Number.POSITIVE_INFINITY,
    log,
  })
  const renewals = openLane(database)
  const changes = openLane(database)
  let prunedAt = clock.mono()

  return {
    async enter({ isAlone, ...node }) {
      await changes(async at => {
        await ownership.insertNode(at, { ...node, addrs: [] })
        if (!isAlone) return
        const buried = await ownership.buryPredecessors(at, node.nodeId, node.incarnation)
        if (buried.length > 0) log.info('the predecessor of this node is buried', { count: buried.length })
      })
    },
    renew: me => renewals(async at => (await ownership.renew(at, me)) !== undefined),
    read: () =>
      changes(async at => {
        if (clock.mono() - prunedAt > pruneEveryMs) {
          prunedAt = clock.mono()
          await ownership.prune(at)
        }
        // Nodes first: an owner that came in between is unknown then, and a claim against it finds no row.
        const nodes = await ownership.readNodes(at)
        return { nodes, shards: await ownership.readShards(at) }
      }),
    bury: (incarnation, beat, anyway) => changes(at => ownership.bury(at, incarnation, beat, anyway)),
    burySuspect: incarnation => changes(at => ownership.burySuspect(at, incarnation)),
    setAddrs: (me, addrs) =>
      changes(async at => {
        await ownership.renew(at, me, addrs)
        await noticeRouteMap(at)
      }),
    claim: (me, worker, wanted) =>
      changes(async at => {
        const granted = await ownership.claim(at, wanted, me, worker)
        await noticeRouteMap(at)
        return granted
      }),
    replace: (me, worker, shards) =>
      changes(async at => {
        const granted = await ownership.replace(at, me, shards, worker)
        await noticeRouteMap(at)
        return granted
      }),
    handOver: (me, held, { incarnation, worker }) =>
      changes(async at => {
        const moved = await ownership.handOver(at, held, me, incarnation, worker)
        await noticeRouteMap(at)
        return moved
      }),
    markDraining: me =>
      changes(async at => {
        await ownership.markDraining(at, me)
      }),
    leave: me =>
      changes(async at => {
        await ownership.buryKnown(at, me)
        await noticeRouteMap(at)
      }),
    watch: changed => watchRouteMap(() => database.connect(), log, changed),
    async close() {
      await Promise.all([renewals.close(), changes.close()])
    },
  }
}

const pruneEveryMs = 3_600_000

type Lane = (<T>(job: (at: Client) => Promise<T>) => Promise<T>) & { close(): Promise<void> }

/** One connection, opened when needed; jobs run one after another. */
function openLane(database: Connections): Lane {
  let client: Client | undefined
  let last: Promise<unknown> = Promise.resolve()
  const one = async <T>(job: (at: Client) => Promise<T>): Promise<T> => {
    if (!client) {
      const fresh = await database.connect({ query_timeout: commitTimerMs, connectionTimeoutMillis: commitTimerMs })
      fresh.on('error', () => {
        if (client === fresh) client = undefined
      })
      client = fresh
    }
    const used = client
    try {
      return await job(used)
    } catch (error) {
      // After a timer nobody knows what this connection still does.
      if (client === used) client = undefined
      used.end().catch(() => undefined)
      throw error
    }
  }
  const lane = <T>(job: (at: Client) => Promise<T>): Promise<T> => {
    const run = last.then(() => one(job))
    last = run.catch(() => undefined)
    return run
  }
  return Object.assign(lane, {
    async close() {
      await last
      await client?.end().catch(() => undefined)
      client = undefined
    },
  })
}
