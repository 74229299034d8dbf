/**
 * One worker thread: composes its own listener, database connections, journal and actors, and does what the main thread
 * tells it about ownership. The endless task of the pool: resolves only when told to stop. Refuses to decide who owns what.
 */
import { hostname } from 'node:os'
import { busyEveryMs, workerBeatMs } from '#protos/limits.ts'
import { createRegistry } from './actor/registry.ts'
import { createForeignLedger } from './assistant/foreign-ledger.ts'
import { openForeignLink } from './assistant/foreign-link.ts'
import { withForeignTools } from './assistant/foreign-toolbox.ts'
import { systemPromptOf } from './assistant/prompt.ts'
import { createProvider } from './assistant/provider.ts'
import { createTasks } from './assistant/tasks.ts'
import { createToolbox, readPolicies } from './assistant/toolbox.ts'
import { type FromWorker, processMono, type ToWorker, type WorkerData } from './control.ts'
import { systemClock } from './ops/clock.ts'
import { type Config, readConfig } from './ops/config.ts'
import { openIdentity } from './ops/identity.ts'
import { type Log, openLog } from './ops/log.ts'
import { readMcpServers } from './ops/mcp-servers.ts'
import { openMetrics } from './ops/metrics.ts'
import { watchThread } from './ops/thread-health.ts'
import { openListener } from './server/listener.ts'
import { createRelay } from './server/relay.ts'
import { budgetLimitsOf, createBudget } from './storage/budget.ts'
import { createDirectory } from './storage/directory.ts'
import { createJournal } from './storage/journal.ts'
import { PostgresLog } from './storage/log-postgres.ts'
import { openPool } from './storage/pool.ts'
import { isEngineAddress } from './storage/route-map.ts'
import { ShardTable } from './storage/shard-table.ts'

/** Reads beside the one writer: activation, look-ups, heads. */
const readersMax = 3
/** How long a starting thread waits for a database that is away; the supervisor then starts another. */
const databaseWaitMs = 60_000

export default async function work(data: WorkerData): Promise<void> {
  const beat = new Int32Array(data.beat)
  const beating = setInterval(() => Atomics.add(beat, 0, 1), workerBeatMs)
  try {
    const config = readConfig(data.env)
    const log = openLog(config.LOG_LEVEL, { node: data.nodeId, worker: data.worker })
    await serve(data, config, log)
  } finally {
    clearInterval(beating)
    data.port.close()
  }
}

async function serve({ port, worker, nodeId, incarnation }: WorkerData, config: Config, log: Log): Promise<void> {
  const clock = systemClock
  const metrics = openMetrics()
  const unwatch = watchThread(metrics, `worker-${worker}`)
  const post = (message: FromWorker) => port.postMessage(message)
  const name = `parley-worker-${worker}`
  const database = await openPool({
    url: config.DATABASE_URL,
    role: 'parley_engine',
    poolMax: readersMax,
    name,
    pooler: config.DATABASE_POOLER,
    waitMs: databaseWaitMs,
    log,
  })
  const { named } = database

  const shards = new ShardTable()
  const store = new PostgresLog({ connect: extra => database.connect(extra), incarnation, worker, named, log })
  const journal = createJournal({
    clock,
    log,
    metrics,
    store,
    shards,
    onFenced(shard) {
      forget([shard])
      post({ kind: 'fenced', shards: [shard] })
    },
    onStamped(shard, epoch) {
      post({ kind: 'stamped', shards: [[shard, epoch]] })
    },
  })
  const directory = createDirectory({ pool: database.pool, named })
  const epochOf = (shard: number) => shards.epochOf(shard)
  const isCrowded = () => actors.isCrowded()
  const relay = createRelay({ clock, log, metrics, directory, epochOf, nodeId, incarnation, worker, isCrowded })
  const read = readMcpServers(config.MCP_SERVERS)
  const foreign = 'servers' in read ? read.servers : []
  const foreignLink = openForeignLink(clock)
  const ownTools = createToolbox({
    tasks: createTasks(database.pool),
    policies: readPolicies(config.TOOL_POLICIES),
    clock,
    log,
    metrics,
  })
  let renewedAt = clock.mono()
  const actors = createRegistry({
    clock,
    log,
    metrics,
    journal,
    directory,
    fanout: relay.fanout,
    refuser: relay,
    provider: createProvider({ config, metrics, log, clock }),
    toolbox:
      foreign.length === 0
        ? ownTools
        : withForeignTools(ownTools, {
            servers: foreign,
            link: foreignLink,
            ledger: createForeignLedger(database.pool),
            clock,
            log,
            metrics,
          }),
    titles: config.AI_TITLES,
    budget: createBudget({ pool: database.pool, named, limits: budgetLimitsOf(config), log, metrics }),
    systemPrompt: systemPromptOf(config.SYSTEM_PROMPT),
    limits: {
      scale: config.RATE_LIMIT_SCALE,
      groupMembersMax: config.GROUP_MEMBERS_MAX,
      idempotencyDays: config.IDEMPOTENCY_DAYS,
    },
    epochOf,
    renewedAt: () => renewedAt,
  })
  relay.serve(actors)

  function forget(lost: readonly number[]): void {
    actors.release(lost)
    relay.moved(lost.map(shard => ({ shard, addr: '', epoch: 0 })))
    metrics.parley_shards_owned.set(shards.size)
  }

  function own(given: readonly (readonly [number, number])[]): void {
    const fresh: number[] = []
    for (const [shard, epoch] of given) {
      const before = shards.epochOf(shard)
      if (before === epoch || !shards.set(shard, epoch)) continue
      // An epoch that this worker did not stamp itself: somebody else may have written in between.
      if (before !== undefined) actors.release([shard])
      fresh.push(shard)
    }
    metrics.parley_shards_owned.set(shards.size)
    if (fresh.length > 0) {
      actors.adopt(fresh).catch(error => log.error('conversations with open turns were not adopted', { err: error }))
    }
  }

  const grpcPort = config.ENGINE_PORT === 0 ? 0 : config.ENGINE_PORT + worker
  const listener = await openListener(
    relay,
    log,
    config.ENGINE_HOST,
    grpcPort,
    openIdentity(config.INTERNAL_TLS_DIR, 'engine'),
    addr => isEngineAddress(database.pool, addr, named),
  )
  const stopped = Promise.withResolvers<void>()
  let busyBefore = ''
  // Also while nobody leaves: a shard with a running turn is not moved to a newcomer either.
  let telling = setInterval(() => {
    const busy = actors.busyShards()
    if (busy.join() === busyBefore) return
    busyBefore = busy.join()
    post({ kind: 'busy', shards: busy, isQuiet: false })
  }, busyEveryMs)
  port.on('message', (message: ToWorker) => {
    switch (message.kind) {
      case 'own':
        own(message.shards)
        break
      case 'disown':
        forget(message.shards.filter(shard => shards.drop(shard)))
        break
      case 'moved':
        // One that came back meanwhile is ours; only those that are elsewhere are told.
        relay.moved(message.to.filter(to => shards.epochOf(to.shard) === undefined))
        break
      case 'renewed':
        renewedAt = clock.mono() - (processMono() - message.mono)
        break
      case 'tools':
        foreignLink.attach(message.port)
        break
      case 'metrics':
        metrics.registry
          .getMetricsAsJSON()
          .then(json => post({ kind: 'metrics', id: message.id, json: json as never }))
          .catch(error => log.error('metrics could not be read', { err: error }))
        break
      case 'quiesce': {
        actors.quiesce()
        const tell = () => post({ kind: 'busy', shards: actors.busyShards(), isQuiet: true })
        tell()
        clearInterval(telling)
        telling = setInterval(tell, busyEveryMs)
        break
      }
      case 'hush': {
        actors.hush(message.shards)
        const running = new Set(actors.busyShards())
        post({ kind: 'hushed', shards: message.shards, busy: message.shards.filter(shard => running.has(shard)) })
        break
      }
      case 'unhush':
        actors.unhush(message.shards)
        break
      case 'drain':
        listener.setServing(false)
        void actors
          .drain()
          .catch(error => log.error('the drain of this worker broke off', { err: error }))
          .then(() => post({ kind: 'drained' }))
        break
      case 'stop':
        stopped.resolve()
        break
      default:
        message satisfies never
    }
  })
  post({ kind: 'listening', addr: reachable(listener.addr) })

  await stopped.promise
  clearInterval(telling)
  listener.close()
  await actors.close()
  foreignLink.close()
  await journal.close()
  await database.close()
  unwatch()
}

/** An address for the route map: one that listens everywhere is reached by this machine's name. */
function reachable(addr: string): string {
  return addr.replace(/^(0\.0\.0\.0|\[::\])(?=:\d+$)/, hostname())
}
