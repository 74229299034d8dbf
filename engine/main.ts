/**
 * The engine process: composes lease, worker threads, claims and the internal listener. No chat traffic comes here, so it
 * cannot be starved by it. Refuses to serve anything once its incarnation was buried.
 */
import { availableParallelism } from 'node:os'
import { engineDrainMsMax, handOverMsMax, selfFenceMs } from '#protos/limits.ts'
import { joinCluster, type Membership } from './cluster/membership.ts'
import { holdName, nodeName } from './cluster/name-hold.ts'
import { openScrape } from './cluster/scrape.ts'
import { openOwnershipStore } from './cluster/store.ts'
import { superviseThreads } from './cluster/supervisor.ts'
import type { FromWorker, ToWorker } from './control.ts'
import { processMono } from './control.ts'
import { keepForeignHost } from './foreign.ts'
import { json, openAdmin, readiness } from './ops/admin.ts'
import { systemClock } from './ops/clock.ts'
import { keepCompiled } from './ops/compile-cache.ts'
import { type Config, ConfigError, readConfig } from './ops/config.ts'
import { isLoopback, openIdentity } from './ops/identity.ts'
import { type Log, openLog } from './ops/log.ts'
import { openMetrics } from './ops/metrics.ts'
import { watchThread } from './ops/thread-health.ts'

/** Exit codes that the parent tells apart. */
const exitSetting = 2
const exitBuried = 75

/** What the parent hears over the channel when everything is claimed and listening. */
export interface EngineReady {
  kind: 'ready'
  incarnation: string
  node: string
  metricsUrl: string
  adminUrl: string
  threads: number
}

/** After that, and whenever a thread listens again. */
export interface EngineThreads {
  kind: 'threads'
  threads: { index: number; addr: string; startedAt: number }[]
}

const predecessorWaitMs = 5000
const version = '0.1.0'

async function run(config: Config, log: Log): Promise<void> {
  const clock = systemClock
  const metrics = openMetrics(true)
  watchThread(metrics, 'main')
  const incarnation = clock.id()
  const nodeId = nodeName(config.NODE_ID, 'engine')
  const count = config.ENGINE_THREADS || Math.max(1, availableParallelism() - 1)

  let membership: Membership | undefined
  const early: [number, string][] = []
  /** Threads that listen, for whoever writes down where they are. */
  const open = new Map<number, { index: number; addr: string; startedAt: number }>()
  let isReady = false
  const tellThreads = () => isReady && tellParent({ kind: 'threads', threads: [...open.values()] })
  /** By worker: shards where turns run. */
  const busy = new Map<number, ReadonlySet<number>>()
  /** Workers that were asked to start no turns in some shards; one question at a time. */
  const hushing = new Map<number, (busy: ReadonlySet<number>) => void>()
  /** Workers in which no turn starts any more. */
  const quiet = new Set<number>()
  const drained = new Set<number>()
  let onDrained = () => {}
  let stopping: Promise<void> | undefined
  let onOrphaned: () => unknown = () => process.exit(1)
  // Without its parent nobody would start or stop this process again.
  process.on('disconnect', () => onOrphaned())

  // Threads load their modules while the lease is being taken.
  const threads = superviseThreads<ToWorker, FromWorker>({
    count,
    module: new URL('./worker.ts', import.meta.url).href,
    heapMb: config.ENGINE_HEAP_MB,
    data: { nodeId, incarnation, env: { ...process.env } },
    clock,
    log,
    metrics,
    onMessage(worker, message) {
      switch (message.kind) {
        case 'listening':
          open.set(worker, {
            index: worker,
            addr: message.addr,
            startedAt: threads.threads().find(t => t.index === worker)?.startedAt ?? clock.now(),
          })
          tellThreads()
          foreign?.offer(worker)
          if (membership) membership.listening(worker, message.addr)
          else early.push([worker, message.addr])
          break
        case 'fenced':
          membership?.fenced(message.shards)
          break
        case 'stamped':
          membership?.stamped(message.shards)
          break
        case 'metrics':
          scrape.answered(message.id, message.json)
          break
        case 'busy':
          busy.set(worker, new Set(message.shards))
          if (message.isQuiet) quiet.add(worker)
          break
        case 'hushed':
          hushing.get(worker)?.(new Set(message.busy))
          break
        case 'drained':
          drained.add(worker)
          onDrained()
          break
        default:
          message satisfies never
      }
    },
    onEnded(worker) {
      busy.delete(worker)
      hushing.get(worker)?.(new Set())
      quiet.delete(worker)
      open.delete(worker)
      drained.delete(worker)
    },
    onHopeless(worker) {
      log.error('threads of this index end as soon as they start', { worker })
      process.exit(1)
    },
  })
  const foreign =
    config.MCP_SERVERS === ''
      ? undefined
      : keepForeignHost({
          data: { nodeId, env: { ...process.env } },
          log,
          metrics,
          give: (worker, port) => threads.post(worker, { kind: 'tools', port }, [port]),
        })
  const broadcast = (message: ToWorker) => threads.threads().filter(t => threads.post(t.index, message)).length
  const scrape = openScrape(metrics.registry, id => broadcast({ kind: 'metrics', id }))

  const isAlone = await holdNode(`${nodeId} ${config.DATABASE_URL}`, log)
  const store = await openOwnershipStore(config, log, clock)
  await store.enter({ incarnation, nodeId, version, isAlone })

  const isSettled = new Promise<void>(resolve => {
    membership = joinCluster({
      store,
      me: incarnation,
      workers: count,
      clock,
      log,
      metrics,
      isBusy: shard => [...busy.values()].some(shards => shards.has(shard)),
      hush: (worker, shards) =>
        new Promise(resolve => {
          const heard = (running: ReadonlySet<number>) => {
            clearTimeout(timer)
            hushing.delete(worker)
            resolve(running)
          }
          // A thread that does not answer is the supervisor's affair; here it is as if turns ran everywhere.
          const timer = setTimeout(heard, quiesceMsMax, new Set(shards))
          hushing.set(worker, heard)
          if (!threads.post(worker, { kind: 'hush', shards })) heard(new Set())
        }),
      unhush: (worker, shards) => threads.post(worker, { kind: 'unhush', shards }),
      own: (worker, shards) =>
        threads.post(worker, { kind: 'own', shards: shards.map(({ shard, epoch }) => [shard, epoch]) }),
      disown: (worker, shards) => threads.post(worker, { kind: 'disown', shards }),
      moved: (worker, to) => threads.post(worker, { kind: 'moved', to }),
      onRenewed: sentAt => broadcast({ kind: 'renewed', mono: processMono() - (clock.mono() - sentAt) }),
      onSettled: resolve,
      onBuried() {
        log.error('this incarnation was declared dead; nothing may be served any more', { node: nodeId })
        process.exit(exitBuried)
      },
    })
  })
  const unwatch = store.watch(() => membership!.hinted())
  for (const [worker, addr] of early) membership!.listening(worker, addr)

  const checks = () => {
    const { leaseAgeMs, addrs } = membership!.status()
    const listening = addrs.filter(addr => addr !== '').length
    return {
      lease: { ok: leaseAgeMs < selfFenceMs, detail: `renewed ${Math.round(leaseAgeMs)} ms ago` },
      threads: { ok: listening === count, detail: `${listening} of ${count} listen` },
      serving: { ok: stopping === undefined, ...(stopping && { detail: 'draining' }) },
    }
  }
  const admin = await openAdmin(config.METRICS_HOST, config.ENGINE_METRICS_PORT, log, {
    'GET /healthz': (_request, response) => json(response, 200, { status: 'ok' }),
    'GET /readyz': (_request, response) => readiness(response, checks()),
    'GET /metrics': async (_request, response) => {
      const text = await scrape.text()
      response.writeHead(200, { 'content-type': metrics.registry.contentType })
      response.end(text)
    },
    'GET /threads': (_request, response) =>
      json(response, 200, {
        threads: threads.threads().map(t => ({ ...t, addr: membership!.status().addrs[t.index] ?? '' })),
      }),
  })

  /** No turn starts any more, and every thread has said where some run. */
  async function quiesced(): Promise<void> {
    const asked = broadcast({ kind: 'quiesce' })
    for (const until = clock.mono() + quiesceMsMax; quiet.size < asked && clock.mono() < until; )
      await new Promise(resolve => setTimeout(resolve, 5))
  }

  async function stop(limitMs: number): Promise<void> {
    // Whatever hangs, the process ends: what is acked is stored, the rest is replayed to the next owner.
    setTimeout(() => process.exit(1), handOverMsMax + limitMs).unref()
    log.info('draining', { node: nodeId })
    await quiesced()
    await membership!.drain(handOverMsMax).catch(error => log.warn('the hand-over stopped', { err: error }))
    setTimeout(() => process.exit(1), limitMs).unref()
    const asked = broadcast({ kind: 'drain' })
    await new Promise<void>(resolve => {
      onDrained = () => drained.size >= asked && resolve()
      onDrained()
      setTimeout(resolve, limitMs * 0.7)
    })
    unwatch()
    broadcast({ kind: 'stop' })
    await threads.stop(limitMs * 0.1)
    await membership!.close(true).catch(error => log.warn('the lease was left to expire', { err: error }))
    await Promise.all([store.close(), admin.close(), foreign?.stop(limitMs * 0.1)])
    process.exit(0)
  }
  const onSignal = () => {
    if (stopping) process.exit(1)
    stopping = stop(engineDrainMsMax)
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  onOrphaned = () => (stopping ??= stop(orphanDrainMs))

  await isSettled
  const ready: EngineReady = {
    kind: 'ready',
    incarnation,
    node: nodeId,
    metricsUrl: admin.url,
    adminUrl: admin.url,
    threads: count,
  }
  isReady = true
  keepCompiled()
  if (process.send) tellParent(ready)
  else console.log(JSON.stringify(ready))
  tellThreads()
}

function tellParent(message: EngineReady | EngineThreads): void {
  // A parent that is just going closes the channel under the message; 'disconnect' then says what to do.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined)
}

/** A thread that does not answer by then is not waited for. */
const quiesceMsMax = 500

/** A crashed parent is started again soon; its successor waits for our ports. */
const orphanDrainMs = 1000

/** In plaintext nothing may leave the machine. */
function checkLinks({ ENGINE_HOST, INTERNAL_TLS_DIR }: Config): void {
  if (INTERNAL_TLS_DIR === '') {
    if (isLoopback(ENGINE_HOST)) return
    throw new ConfigError(
      `ENGINE_HOST ${ENGINE_HOST} is not loopback: set INTERNAL_TLS_DIR to a folder that parley certs made.`,
    )
  }
  try {
    openIdentity(INTERNAL_TLS_DIR, 'engine')
  } catch (error) {
    throw new ConfigError(`INTERNAL_TLS_DIR: ${(error as Error).message}. parley certs makes what is missing.`)
  }
}

/** Waits for a predecessor of the same name to be gone; the name stays ours until this process ends. True: that is proved. */
async function holdNode(name: string, log: Log): Promise<boolean> {
  for (const until = performance.now() + predecessorWaitMs; ; ) {
    const hold = await holdName(name)
    if (hold.kind !== 'taken') return hold.kind === 'held'
    if (performance.now() > until) {
      log.error('another engine of this name runs on this machine against this database; set NODE_ID')
      process.exit(exitSetting)
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

try {
  const config = readConfig()
  checkLinks(config)
  const log = openLog(config.LOG_LEVEL, { node: 'engine' })
  process.on('unhandledRejection', error => {
    log.error('nobody handled a failure', { err: error })
    process.exit(1)
  })
  run(config, log).catch(error => {
    log.error('the engine could not start', { err: error })
    process.exit(1)
  })
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  console.error(error.message)
  process.exit(exitSetting)
}
