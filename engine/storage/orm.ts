/**
 * Opens the database: one MikroORM with its pool per process or thread, under a role of its own, and single connections
 * outside the pool for the journal. Refuses to know statements.
 */
import { Migrator } from '@mikro-orm/migrations'
import { MikroORM } from '@mikro-orm/postgresql'
import type { Client, ClientConfig, Pool, PoolConfig } from 'pg'
import { poolQueryMsMax } from '#protos/limits.ts'
import { type ConnectionOptions, openConnections, type Role, whenThere } from './connections.ts'
import { entities } from './entities.ts'

export interface DatabaseOptions extends ConnectionOptions {
  poolMax?: number
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

/** Throws what pg throws when the database cannot be reached within `waitMs`. */
export function openOrm(options: DatabaseOptions): Promise<Database> {
  return whenThere(options.waitMs ?? 0, () => open({ ...options, waitMs: 0 }))
}

async function open(options: DatabaseOptions): Promise<Database> {
  const { config, role, connect } = await openConnections(options)
  const driverOptions: PoolConfig = {
    ...config,
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
    connect,
    close: () => orm.close(true),
  }
}

const migrationsFolder = new URL('../../migrations', import.meta.url).pathname

function databaseOf(url: string): string {
  return decodeURIComponent(/^[^:]+:\/\/[^/]*\/([^?]*)/.exec(url)?.[1] ?? '') || 'postgres'
}
