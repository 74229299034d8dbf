/**
 * A pool of connections under a role of its own, and single connections outside it for the journal. Loads nothing but the
 * driver: a worker thread runs statements that are written by hand, and the ORM is half of the modules that it would load at
 * a start, a third of a second of CPU in each, while its predecessor's conversations wait. Refuses to know statements.
 */
import { type Client, type ClientConfig, Pool, type PoolConfig, TypeOverrides } from 'pg'
import { poolQueryMsMax } from '#protos/limits.ts'
import { type ConnectionOptions, type Connections, openConnections, type Role, whenThere } from './connections.ts'

export interface PoolOptions extends ConnectionOptions {
  poolMax?: number
}

export interface Connected {
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

/** date, timestamp, timestamptz, interval: as text, as the ORM leaves them. */
const times = [1082, 1114, 1184, 1186]

/** Throws what pg throws when the database cannot be reached within `waitMs`. */
export function openPool(options: PoolOptions): Promise<Connected> {
  return whenThere(options.waitMs ?? 0, () => open({ ...options, waitMs: 0 }))
}

async function open(options: PoolOptions): Promise<Connected> {
  const connections = await openConnections(options)
  const types = new TypeOverrides()
  for (const oid of times) types.setTypeParser(oid, text => text)
  const pool = new Pool({ ...poolConfig(connections, options), types })
  pool.on('error', () => options.log.debug('an idle database connection was lost'))
  return { ...connected(connections, options), pool, close: () => pool.end() }
}

/** What the pools of both kinds are opened with. */
export function poolConfig({ config }: Connections, options: PoolOptions): PoolConfig {
  return {
    ...config,
    max: options.poolMax ?? 4,
    idleTimeoutMillis: 30_000,
    min: 0,
    // A database that hangs must not keep callers, and a migration may take long. pg's pool destroys what timed out.
    ...(options.role ? { query_timeout: poolQueryMsMax } : {}),
  }
}

/** What both kinds tell of themselves. */
export function connected({ role, connect }: Connections, options: PoolOptions): Omit<Connected, 'pool' | 'close'> {
  return { url: options.url, role, named: options.pooler !== 'transaction', connect }
}
