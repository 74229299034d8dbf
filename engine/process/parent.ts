/**
 * Owns a running product on one machine: database first, then migrations, model, engine and gateway as processes; keeps
 * them up, stops them in order, Postgres last. Refuses to import what they run: it starts them by path.
 */
import { availableParallelism } from 'node:os'
import path from 'node:path'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import type { EmbeddedPostgres } from '#engine/storage/embedded-postgres.ts'
import { type Child, keepChild } from './child.ts'
import { type KeptDatabase, keepDatabase } from './database.ts'
import { holdDataDir } from './hold-data-dir.ts'
import { nodeArgs } from './node-args.ts'
import { isAlive, openDataDir, readNodeFile, writeNodeFile } from './node-file.ts'
import { checkPort } from './ports.ts'
import { buildWeb } from './web-build.ts'

export interface ParentOptions {
  config: Config
  log: Log
  /** Top folder of the checkout. */
  root: string
  roles: readonly ('gateway' | 'engine')[]
  /** Migrates and builds the web app first; `serve` leaves both to whoever deploys. */
  prepares: boolean
  /** One line for a person, shown while the start goes on. */
  say: (line: string) => void
  /** Where children's lines go; undefined: straight to our stdout. */
  onLine: ((name: string, line: string) => void) | undefined
}

export interface Running {
  url: string | undefined
  metricsUrl: string | undefined
  engineMetricsUrl: string | undefined
  modelUrl: string | undefined
  dataDir: string
  postgres: EmbeddedPostgres | undefined
  /** In order: gateway, engine, model, Postgres. */
  stop(): Promise<void>
  /** Children at once; Postgres still stops cleanly, which takes a moment. */
  force(): Promise<void>
}

const scripts = { gateway: 'gateway/main.ts', engine: 'engine/main.ts', model: 'engine/assistant/dev-model.ts' }
/** A gateway asks its clients to come back for up to 10 s; an engine ends its turns within 5 s. */
const graceMs = { gateway: 12_000, engine: 7000, model: 2000 }
const leftoverMsMax = 6000

export async function startParent(options: ParentOptions): Promise<Running> {
  const { config, log, root, roles } = options
  const dataDir = path.resolve(config.DATA_DIR)
  openDataDir(dataDir)
  await holdDataDir(dataDir)
  await endLeftovers(dataDir)
  await checkPorts(config, roles)

  const isModelOurs = roles.includes('engine') && config.OPENAI_BASE_URL === '' && config.OPENAI_API_KEY === ''
  const found = {
    url: undefined as string | undefined,
    metricsUrl: undefined as string | undefined,
    engineMetricsUrl: undefined as string | undefined,
    modelUrl: undefined as string | undefined,
    /** Ports that the first run of a child found stay with its later runs. */
    ports: {} as Record<string, string>,
  }
  const children: Partial<Record<keyof typeof scripts, Child>> = {}
  let database: KeptDatabase | undefined
  let incarnation: string | undefined

  const note = () => {
    if (!database) return
    try {
      writeNodeFile(dataDir, {
        parent: process.pid,
        engine: children.engine?.pid(),
        gateway: children.gateway?.pid(),
        model: children.model?.pid(),
        postgres: database.embedded()?.pid,
        url: found.url,
        metricsUrl: found.metricsUrl,
        engineMetricsUrl: found.engineMetricsUrl,
        modelUrl: found.modelUrl,
        databaseUrl: database.url,
      })
    } catch (error) {
      // A full disk ends nothing that runs.
      log.warn('node.json could not be written', { err: error })
    }
  }

  function keep(name: keyof typeof scripts, onReady: (message: Record<string, unknown>) => void): Child {
    const child = keepChild({
      name,
      script: path.join(root, scripts[name]),
      nodeArgs: nodeArgs(name),
      env: () => ({
        ...process.env,
        ...(database && { DATABASE_URL: database.url }),
        DATA_DIR: dataDir,
        NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? path.join(dataDir, 'compile-cache'),
        ...(isModelOurs && found.modelUrl && { OPENAI_BASE_URL: found.modelUrl, OPENAI_API_KEY: 'built-in' }),
        ...found.ports,
      }),
      log,
      onReady(message) {
        onReady(message)
        note()
      },
      onEnded() {
        if (name === 'engine') {
          database?.engineEnded(incarnation)
          incarnation = undefined
        }
        note()
      },
      onLine: options.onLine && (line => options.onLine!(name, line)),
    })
    children[name] = child
    return child
  }

  const stop = async () => {
    await children.gateway?.stop(graceMs.gateway)
    await children.engine?.stop(graceMs.engine)
    await children.model?.stop(graceMs.model)
    await database?.stop()
  }
  const force = async () => {
    for (const child of Object.values(children)) child.kill()
    await database?.stop()
  }

  try {
    if (isModelOurs) {
      keep('model', message => {
        const port = String(message['port'])
        found.ports['MODEL_PORT'] = port
        found.modelUrl = `http://127.0.0.1:${port}/v1`
      })
    }
    const built = options.prepares ? buildWeb(root, options.say) : Promise.resolve()
    built.catch(() => undefined)
    database = await keepDatabase({ config, dataDir, log, migrates: options.prepares, onMoved: note })
    await children.model?.ready
    if (roles.includes('engine')) {
      keep('engine', message => {
        found.engineMetricsUrl = textOf(message['metricsUrl'])
        incarnation = textOf(message['incarnation'])
        fix('ENGINE_METRICS_PORT', found.engineMetricsUrl)
      })
    }
    // Built before the gateway reads web/dist; the engine starts meanwhile.
    await built
    if (roles.includes('gateway')) {
      keep('gateway', message => {
        found.url = textOf(message['url'])
        found.metricsUrl = textOf(message['metricsUrl'])
        fix('PORT', found.url)
        fix('METRICS_PORT', found.metricsUrl)
      })
    }
    await Promise.all(Object.values(children).map(child => child.ready))
  } catch (error) {
    await force()
    throw error
  }
  note()
  return { ...found, dataDir, postgres: database.embedded(), stop, force }

  function fix(setting: string, url: string | undefined): void {
    const port = url && new URL(url).port
    if (port) found.ports[setting] = port
  }
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : undefined)

/** Children of a parent that was killed end by themselves when their channel closes; their ports are free after that. */
async function endLeftovers(dataDir: string): Promise<void> {
  const before = readNodeFile(dataDir)
  if (!before) return
  const left = () =>
    (Object.keys(scripts) as (keyof typeof scripts)[]).filter(name => isAlive(before[name], scripts[name]))
  for (const until = performance.now() + leftoverMsMax; left().length > 0 && performance.now() < until; )
    await new Promise(resolve => setTimeout(resolve, 50))
  for (const name of left()) process.kill(before[name]!, 'SIGKILL')
}

async function checkPorts(config: Config, roles: ParentOptions['roles']): Promise<void> {
  if (roles.includes('gateway')) {
    await checkPort('PORT', config.PORT, config.HOST)
    await checkPort('METRICS_PORT', config.METRICS_PORT, config.METRICS_HOST)
  }
  if (!roles.includes('engine')) return
  await checkPort('ENGINE_METRICS_PORT', config.ENGINE_METRICS_PORT, config.METRICS_HOST)
  const threads = config.ENGINE_THREADS || Math.max(1, availableParallelism() - 1)
  await checkPort('ENGINE_PORT', config.ENGINE_PORT, config.ENGINE_HOST, threads)
  if (config.OPENAI_BASE_URL === '' && config.OPENAI_API_KEY === '')
    await checkPort('MODEL_PORT', config.MODEL_PORT, '127.0.0.1')
}
