/**
 * Opens the database: one MikroORM with its pool per process or thread, under a role of its own, and single connections
 * outside the pool for the journal. The role comes with the startup packet, so no statement can forget it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Migrator } from '@mikro-orm/migrations'
import { MikroORM } from '@mikro-orm/postgresql'
import { Client, type ClientConfig, type Pool, type PoolConfig } from 'pg'
import type { Log } from '#engine/ops/log.ts'
import { poolQueryMsMax } from '#protos/limits.ts'
import { entities } from './entities.ts'

export type Role = 'parley_engine' | 'parley_gateway'

export interface DatabaseOptions {
  /** Anything pg understands, unix sockets included (postgresql://app@/parley?host=/folder). */
  url: string
  /** Absent: the login itself, for migrations and tools. */
  role?: Role
  poolMax?: number
  /** application_name, to tell connections apart in pg_stat_activity. */
  name: string
  /** 'transaction': statements go without names and the role is the login's. */
  pooler?: 'session' | 'transaction'
  /** How long to wait for a database that is away, ms. 0: one try. */
  waitMs?: number
  log: Log
}

export interface Database {
  readonly orm: MikroORM
  /** The ORM's own pool, for statements that are written by hand. */
  readonly pool: Pool
  readonly url: string
  /** The role in force; undefined when the login could not take it. */
  readonly role: Role | undefined
  /** Whether statements may have names. */
  readonly named: boolean
  /** A fresh connection outside the pool, same role. The caller ends it and listens for its errors. */
  readonly connect: (extra?: ClientConfig) => Promise<Client>
  close(): Promise<void>
}

const connectTimeoutMs = 5000
/** Role missing, not granted, unknown parameter, or a pooler that refuses startup options. */
const roleErrors = new Set(['22023', '42501', '42704', '08P01', '28000'])

/** Throws what pg throws when the database cannot be reached within `waitMs`. */
export async function openOrm(options: DatabaseOptions): Promise<Database> {
  const until = performance.now() + (options.waitMs ?? 0)
  for (let pause = 50; ; pause = Math.min(pause * 2, 1000)) {
    try {
      return await open(options)
    } catch (error) {
      if (performance.now() + pause > until || !isAway(error)) throw error
      await sleep(pause)
    }
  }
}

/** Whether an error says that the database cannot be reached now and may be later. */
export function isAway(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? ''
  return (
    /^(08|57P|53)/.test(code) ||
    ['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTFOUND', 'EAI_AGAIN'].includes(
      code,
    ) ||
    /timeout|terminated|Connection ended/i.test((error as Error).message ?? '')
  )
}

async function open(options: DatabaseOptions): Promise<Database> {
  let role = options.pooler === 'transaction' ? undefined : options.role
  try {
    await probe(options, role)
  } catch (error) {
    if (!role || !roleErrors.has((error as { code?: string }).code ?? '')) throw error
    options.log.warn('the database role could not be taken; the login itself is used', {
      code: (error as { code: string }).code,
    })
    role = undefined
    await probe(options, role)
  }
  const base = clientConfig(options, role)
  const driverOptions: PoolConfig = {
    ...base,
    max: options.poolMax ?? 4,
    idleTimeoutMillis: 30_000,
    min: 0,
    // A database that hangs must not keep callers, and a migration may take long. pg's pool destroys what timed out.
    ...(options.role ? { query_timeout: poolQueryMsMax } : {}),
  }
  const orm = new MikroORM({
    entities,
    dbName: databaseOf(options.url),
    driverOptions,
    ensureDatabase: false,
    extensions: [Migrator],
    logger: () => {},
    migrations: {
      path: migrationsFolder,
      pathTs: migrationsFolder,
      emit: 'ts',
      snapshot: false,
      tableName: 'migration',
      disableForeignKeys: false,
    },
  })
  await orm.connect()
  const pool = (await orm.em.getConnection().getNativeClient()) as Pool
  pool.on('error', () => options.log.debug('an idle database connection was lost'))
  return {
    orm,
    pool,
    url: options.url,
    role,
    named: options.pooler !== 'transaction',
    connect: async extra => connectClient({ ...base, ...extra }),
    close: () => orm.close(true),
  }
}

const migrationsFolder = new URL('../../migrations', import.meta.url).pathname

async function probe(options: DatabaseOptions, role: Role | undefined): Promise<void> {
  const client = await connectClient(clientConfig(options, role))
  await client.end()
}

async function connectClient(config: ClientConfig): Promise<Client> {
  const client = new Client(config)
  // Without a listener a lost connection ends the process; the owner adds its own for what it means.
  client.on('error', () => {})
  await client.connect()
  return client
}

function clientConfig(options: DatabaseOptions, role: Role | undefined): ClientConfig {
  return {
    connectionString: options.url,
    application_name: options.name,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    ...(role ? { options: `-c role=${role}` } : {}),
  }
}

function databaseOf(url: string): string {
  return decodeURIComponent(/^[^:]+:\/\/[^/]*\/([^?]*)/.exec(url)?.[1] ?? '') || 'postgres'
}
