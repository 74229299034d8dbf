/**
 * Opens the database with MikroORM, whose pool serves statements written by hand too: migrations, gateways. Refuses to know
 * statements.
 */
import { Migrator } from '@mikro-orm/migrations'
import { MikroORM } from '@mikro-orm/postgresql'
import type { Pool } from 'pg'
import { openConnections, whenThere } from './connections.ts'
import { entities } from './entities.ts'
import { type Connected, connected, type PoolOptions, poolConfig } from './pool.ts'

export interface Database extends Connected {
  readonly orm: MikroORM
}

/** Throws what pg throws when the database cannot be reached within `waitMs`. */
export function openOrm(options: PoolOptions): Promise<Database> {
  return whenThere(options.waitMs ?? 0, () => open({ ...options, waitMs: 0 }))
}

async function open(options: PoolOptions): Promise<Database> {
  const connections = await openConnections(options)
  const orm = new MikroORM({
    entities,
    dbName: databaseOf(options.url),
    driverOptions: poolConfig(connections, options),
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
  return { ...connected(connections, options), orm, pool, close: () => orm.close(true) }
}

const migrationsFolder = new URL('../../migrations', import.meta.url).pathname

function databaseOf(url: string): string {
  return decodeURIComponent(/^[^:]+:\/\/[^/]*\/([^?]*)/.exec(url)?.[1] ?? '') || 'postgres'
}
