/**
 * Owns the database of a start: the one that DATABASE_URL names, or the embedded one, which it keeps running. Says in one
 * sentence why a database cannot be used. Refuses to stop a database that it did not start.
 */
import { Client } from 'pg'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import { EmbeddedPostgresError } from '#engine/storage/embedded-place.ts'
import { type EmbeddedPostgres, startEmbedded } from '#engine/storage/embedded-postgres.ts'
import { migrate, missingMigrations } from '#engine/storage/migrate.ts'
import { buryKnown } from '#engine/storage/ownership.ts'
import { noticeRouteMap } from '#engine/storage/route-map.ts'
import { isAlive } from './node-file.ts'
import { StartError } from './start-error.ts'

export interface KeptDatabase {
  url: string
  embedded(): EmbeddedPostgres | undefined
  /** The process of this incarnation is gone: its lease need not run out. */
  engineEnded(incarnation: string | undefined): void
  stop(): Promise<void>
}

const watchMs = 500
const backoffMsMax = 5000

export async function keepDatabase(options: {
  config: Config
  dataDir: string
  log: Log
  migrates: boolean
  /** The embedded server runs as another process now. */
  onMoved(): void
  /** Settings of the embedded server on top of ours. */
  server?: Record<string, string | number>
  /** How long after its end the embedded server is started again; 0 when not given. */
  restartMs?: number
}): Promise<KeptDatabase> {
  const { config, dataDir, log } = options
  let embedded = config.DATABASE_URL === '' ? await startOwn(dataDir, log, options.server) : undefined
  const url = embedded?.url ?? config.DATABASE_URL
  try {
    if (!embedded) await reach(url)
    if (options.migrates) await bringUp(url, embedded !== undefined, log)
    else await expectSchema(url)
  } catch (error) {
    await embedded?.stop()
    throw error
  }
  let isStopping = false
  let failures = 0
  let restarting: Promise<void> | undefined
  const watch = setInterval(() => {
    if (!embedded || restarting || isAlive(embedded.pid)) return
    log.warn('the embedded Postgres ended and is started again')
    restarting = restart().finally(() => (restarting = undefined))
  }, watchMs)

  async function restart(): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, options.restartMs ?? 0))
    while (!isStopping) {
      try {
        embedded = await startEmbedded(dataDir, log, options.server)
        failures = 0
        if (embedded.url !== url) log.error('the embedded Postgres came back at another address')
        options.onMoved()
        return
      } catch (error) {
        log.error('the embedded Postgres did not start', { err: error })
        await new Promise(resolve => setTimeout(resolve, Math.min(backoffMsMax, 100 * 2 ** failures++)))
      }
    }
  }

  return {
    url,
    embedded: () => embedded,
    engineEnded(dead) {
      if (dead) void once(url, at => buryAndTell(at, dead)).catch(error => log.debug('not buried', { err: error }))
    },
    async stop() {
      isStopping = true
      clearInterval(watch)
      await restarting
      await embedded?.stop()
    },
  }
}

async function buryAndTell(at: Client, incarnation: string): Promise<void> {
  await buryKnown(at, incarnation)
  await noticeRouteMap(at)
}

/** Runs `job` against the configured or the embedded database, started for this when it is not running. */
export async function withDatabase<T>(
  config: Config,
  dataDir: string,
  log: Log,
  job: (url: string) => Promise<T>,
  migrates = true,
): Promise<T> {
  if (config.DATABASE_URL !== '') {
    await reach(config.DATABASE_URL)
    return job(config.DATABASE_URL)
  }
  const embedded = await startOwn(dataDir, log)
  try {
    if (migrates) await bringUp(embedded.url, true, log)
    return await job(embedded.url)
  } finally {
    // One that was running belongs to a start that runs, or waits to be adopted by the next.
    if (!embedded.adopted) await embedded.stop()
  }
}

async function startOwn(
  dataDir: string,
  log: Log,
  server: Record<string, string | number> = {},
): Promise<EmbeddedPostgres> {
  try {
    return await startEmbedded(dataDir, log, server)
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw new StartError(error.message)
    log.debug('the embedded Postgres did not start', { err: error })
    throw new StartError(`DATA_DIR ${dataDir}: its database could not be started: ${reasonOf(error)}.`)
  }
}

async function reach(url: string): Promise<void> {
  try {
    await once(url, at => at.query('select 1'))
  } catch (error) {
    throw new StartError(`DATABASE_URL: the database at ${placeOf(url)} cannot be used: ${reasonOf(error)}.`)
  }
}

async function bringUp(url: string, isEmbedded: boolean, log: Log): Promise<void> {
  try {
    await migrate(url, 'up', log)
  } catch (error) {
    const which = isEmbedded ? 'The embedded database' : `DATABASE_URL: the database at ${placeOf(url)}`
    throw new StartError(`${which} could not be migrated: ${reasonOf(error)}.`)
  }
}

/** Where somebody else migrates, that has to be done before anything starts. */
async function expectSchema(url: string): Promise<void> {
  const [first] = await once(url, missingMigrations).catch((error: unknown) => {
    // A login that may not look at the table serves all the same.
    if ((error as { code?: string }).code === '42501') return []
    throw new StartError(`DATABASE_URL: the database at ${placeOf(url)} cannot be used: ${reasonOf(error)}.`)
  })
  if (first === undefined) return
  throw new StartError(
    `DATABASE_URL: the database at ${placeOf(url)} has not the schema of this version (${first} is missing). Run parley migrate up.`,
  )
}

async function once<T>(url: string, job: (at: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5000, query_timeout: 5000 })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await job(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** Host and database name; never the password. */
function placeOf(url: string): string {
  try {
    const { host, pathname, searchParams } = new URL(url)
    return `${host || searchParams.get('host') || 'localhost'}${pathname}`
  } catch {
    return 'the given address'
  }
}

function reasonOf(error: unknown): string {
  const { code, message, errors } = error as { code?: string; message?: string; errors?: Error[] }
  const said = message || errors?.map(e => e.message).join('; ') || 'no reason given'
  return code && !said.includes(code) ? `${said} (${code})` : said
}
