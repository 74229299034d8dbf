/**
 * Owns a cluster on one machine: two gateways and two engines as processes of their own, on a real Postgres and a real
 * Redis, all kept alive at the same addresses, written down in cluster.json. For trying and breaking what runs on several
 * hosts in earnest; only here an engine can be asked to break its own threads. Refuses to import what it runs.
 */
import path from 'node:path'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import { type Child, keepChild } from './child.ts'
import {
  type ClusterFile,
  type ClusterWorker,
  readClusterFile,
  removeClusterFile,
  writeClusterFile,
} from './cluster-file.ts'
import { type KeptDatabase, keepDatabase } from './database.ts'
import { holdDataDir } from './hold-data-dir.ts'
import { nodeArgs } from './node-args.ts'
import { isAlive, openDataDir, writeNodeFile } from './node-file.ts'
import { checkPort, findPorts } from './ports.ts'
import { type KeptRedis, keepRedis, needRedis } from './redis.ts'
import { buildWeb } from './web-build.ts'

export interface ClusterOptions {
  config: Config
  /** As given, before defaults. */
  env: NodeJS.ProcessEnv
  log: Log
  /** Top folder of the checkout. */
  root: string
  random(): number
  say: (line: string) => void
  onLine: ((name: string, line: string) => void) | undefined
}

export interface RunningCluster {
  file: string
  urls: string[]
  stop(): Promise<void>
  force(): Promise<void>
}

const count = 2
const threadsEach = 2
const restartMs = 1000
const graceMs = { gateway: 12_000, engine: 7000, model: 2000 }
const leftoverMsMax = 6000
const scripts = { gateway: 'gateway/main.ts', engine: 'engine/main.ts', model: 'engine/assistant/dev-model.ts' }
/** Where nothing else is said: everybody comes from one address, and passwords are made by the hundred. */
const defaults = { RATE_LIMIT_SCALE: '1000', SOCKETS_PER_ADDRESS: '0', BCRYPT_COST: '6' }

interface Member {
  name: string
  child: Child | undefined
  /** The last one known; a process between its end and its next start keeps it. */
  pid: number
  url: string
  metricsUrl: string
  incarnation: string | undefined
  workers: ClusterWorker[]
}

export async function startCluster(options: ClusterOptions): Promise<RunningCluster> {
  const { config, env, log, root } = options
  const dataDir = path.resolve(config.DATA_DIR)
  const isRedisOurs = config.REDIS_URL === ''
  if (isRedisOurs) needRedis()
  openDataDir(dataDir)
  await holdDataDir(dataDir)
  await endLeftovers(dataDir)
  const ports = await choosePorts(options)
  const unsaid = Object.fromEntries(Object.entries(defaults).filter(([name]) => !env[name]))

  const member = (name: string): Member => ({
    name,
    child: undefined,
    pid: 0,
    url: '',
    metricsUrl: '',
    incarnation: undefined,
    workers: [],
  })
  const gateways = ports.gateways.map((_, i) => member(`gateway-${i + 1}`))
  const engines = ports.engines.map((_, i) => member(`engine-${i + 1}`))
  let model: Child | undefined
  let modelUrl: string | undefined
  let database: KeptDatabase | undefined
  let redis: KeptRedis | undefined
  let isComplete = false

  function note(): void {
    if (!isComplete) return
    for (const m of [...gateways, ...engines]) m.pid = m.child?.pid() ?? m.pid
    const postgresPid = database!.embedded()?.pid
    const redisPid = redis?.pid()
    const content: ClusterFile = {
      gateways: gateways.map(({ pid, url, metricsUrl }) => ({ pid, url, metrics_url: metricsUrl })),
      engines: engines.map(({ pid, metricsUrl, workers }) => ({
        pid,
        admin_url: metricsUrl,
        metrics_url: metricsUrl,
        workers,
      })),
      postgres: { ...(postgresPid && { pid: postgresPid }), url: databaseUrl() },
      redis: { ...(redisPid && { pid: redisPid }), url: redis?.url ?? config.REDIS_URL },
    }
    writeClusterFile(dataDir, content)
  }

  /** For tools that know sockets of files not: over TCP. */
  function databaseUrl(): string {
    const embedded = database!.embedded()
    return embedded ? `postgresql://app@127.0.0.1:${embedded.port}/parley` : config.DATABASE_URL
  }

  function keep(
    m: Pick<Member, 'name'>,
    script: keyof typeof scripts,
    own: Record<string, string>,
    hear: {
      ready(message: Record<string, unknown>): void
      ended?(): void
      said?(message: Record<string, unknown>): void
    },
  ): Child {
    const isFaulty = script === 'engine'
    return keepChild({
      name: m.name,
      script: path.join(root, scripts[script]),
      nodeArgs: [...nodeArgs(script), ...(isFaulty ? ['--import', path.join(root, 'load/rig/faults.ts')] : [])],
      restartMs,
      env: () => ({
        ...env,
        ...unsaid,
        DATA_DIR: dataDir,
        NODE_COMPILE_CACHE: env['NODE_COMPILE_CACHE'] ?? path.join(dataDir, 'compile-cache'),
        ...(database && { DATABASE_URL: database.url }),
        ...(redis && { REDIS_URL: redis.url }),
        ...(modelUrl && { OPENAI_BASE_URL: modelUrl, OPENAI_API_KEY: 'built-in' }),
        ...own,
      }),
      log,
      onSpawned: note,
      onReady(message) {
        hear.ready(message)
        note()
      },
      onSaid(message) {
        hear.said?.(message)
        note()
      },
      onEnded() {
        hear.ended?.()
        note()
      },
      onLine: options.onLine && (line => options.onLine!(m.name, line)),
    })
  }

  const nameOf = (m: Member) => (config.NODE_ID === '' ? `cluster-${m.name}` : `${config.NODE_ID}-${m.name}`)

  function keepEngine(m: Member, at: { metrics: number; grpc: number }): void {
    const own = {
      NODE_ID: nameOf(m),
      ENGINE_THREADS: `${threadsEach}`,
      ENGINE_METRICS_PORT: `${at.metrics}`,
      ENGINE_PORT: `${at.grpc}`,
    }
    m.child = keep(m, 'engine', own, {
      ready(message) {
        m.incarnation = textOf(message['incarnation'])
        m.metricsUrl = textOf(message['metricsUrl']) ?? m.metricsUrl
      },
      said(message) {
        if (message['kind'] === 'threads') m.workers = withThreads(m.workers, message['threads'] as Thread[])
      },
      ended() {
        database?.engineEnded(m.incarnation)
        m.incarnation = undefined
      },
    })
  }

  function keepGateway(m: Member, at: { port: number; metrics: number }): void {
    const own = { NODE_ID: nameOf(m), PORT: `${at.port}`, METRICS_PORT: `${at.metrics}` }
    m.child = keep(m, 'gateway', own, {
      ready(message) {
        m.url = (textOf(message['url']) ?? m.url).replace('//0.0.0.0', '//127.0.0.1').replace('//[::]', '//[::1]')
        m.metricsUrl = textOf(message['metricsUrl']) ?? m.metricsUrl
      },
    })
  }

  async function stop(): Promise<void> {
    isComplete = false
    removeClusterFile(dataDir)
    await Promise.all(gateways.map(m => m.child?.stop(graceMs.gateway)))
    await Promise.all(engines.map(m => m.child?.stop(graceMs.engine)))
    await model?.stop(graceMs.model)
    await redis?.stop()
    await database?.stop()
  }
  async function force(): Promise<void> {
    isComplete = false
    removeClusterFile(dataDir)
    for (const m of [...gateways, ...engines]) m.child?.kill()
    model?.kill()
    await redis?.stop()
    await database?.stop()
  }

  try {
    if (config.OPENAI_BASE_URL === '' && config.OPENAI_API_KEY === '') {
      model = keep(
        { name: 'model' },
        'model',
        { MODEL_PORT: `${ports.model}` },
        {
          ready: message => (modelUrl = `http://127.0.0.1:${String(message['port'])}/v1`),
        },
      )
    }
    const built = buildWeb(root, options.say)
    built.catch(() => undefined)
    if (isRedisOurs) redis = await keepRedis({ port: ports.redis, restartMs, log, onMoved: note })
    database = await keepDatabase({
      config,
      dataDir,
      log,
      migrates: true,
      onMoved: note,
      server: { listen_addresses: '127.0.0.1', port: ports.postgres, max_connections: 200 },
      restartMs,
    })
    // `parley token` and `parley seed` find the database by the folder; who looks for a start finds this one.
    writeNodeFile(dataDir, { parent: process.pid, databaseUrl: database.url })
    await model?.ready
    for (const [i, m] of engines.entries()) keepEngine(m, ports.engines[i]!)
    await built
    for (const [i, m] of gateways.entries()) keepGateway(m, ports.gateways[i]!)
    await Promise.all([...gateways, ...engines].map(m => m.child!.ready))
  } catch (error) {
    await force()
    throw error
  }
  isComplete = true
  note()
  return { file: path.join(dataDir, 'cluster.json'), urls: gateways.map(m => m.url), stop, force }
}

interface Thread {
  index: number
  addr: string
  startedAt: number
}

/** A thread that is being replaced keeps its line until the next one listens. */
function withThreads(before: readonly ClusterWorker[], threads: readonly Thread[]): ClusterWorker[] {
  const all = new Map(before.map(worker => [worker.index, worker]))
  for (const { index, addr, startedAt } of threads)
    all.set(index, { index, grpc: addr, started_at: new Date(startedAt).toISOString() })
  return [...all.values()].sort((a, b) => a.index - b.index)
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : undefined)

/** Every port is known before the first start, so that each process comes back at its own. */
async function choosePorts({ config, env, random }: ClusterOptions) {
  const taken = new Set<number>()
  const free = (neighbours = 1) => findPorts(neighbours, taken, random)
  const gateways: { port: number; metrics: number }[] = []
  for (let i = 0; i < count; i++) {
    const port = config.PORT === 0 ? await free() : config.PORT + i
    await checkPort('PORT', port, config.HOST)
    const isGiven = i === 0 && env['METRICS_PORT'] && config.METRICS_PORT !== 0
    if (isGiven) await checkPort('METRICS_PORT', config.METRICS_PORT, config.METRICS_HOST)
    gateways.push({ port, metrics: isGiven ? config.METRICS_PORT : await free() })
  }
  const engines: { metrics: number; grpc: number }[] = []
  for (let i = 0; i < count; i++) engines.push({ metrics: await free(), grpc: await free(threadsEach) })
  return { gateways, engines, model: await free(), postgres: await free(), redis: await free() }
}

/** What a cluster that was killed left behind: its Node processes end by themselves, its Redis does not. */
async function endLeftovers(dataDir: string): Promise<void> {
  const before = readClusterFile(dataDir)
  if (!before) return
  removeClusterFile(dataDir)
  const known: [number | undefined, string][] = [
    ...before.gateways.map((g): [number, string] => [g.pid, scripts.gateway]),
    ...before.engines.map((e): [number, string] => [e.pid, scripts.engine]),
    [before.redis.pid, 'redis-server'],
  ]
  const left = (which: string[]) =>
    known.filter(([pid, script]) => which.includes(script) && isAlive(pid, script)).map(([pid]) => pid!)
  for (const until = performance.now() + leftoverMsMax; performance.now() < until; ) {
    if (left([scripts.gateway, scripts.engine]).length === 0) break
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  for (const pid of left([scripts.gateway, scripts.engine, 'redis-server'])) process.kill(pid, 'SIGKILL')
}
