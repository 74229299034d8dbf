/**
 * Single connections to the database under a role that comes with the startup packet, so that no statement can forget it.
 * Waits for a database that is away. Refuses to pool, and loads nothing but the driver: a process that needs a connection
 * or two starts an eighth of a second sooner without the ORM.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type ClientConfig } from 'pg'
import type { Log } from '#engine/ops/log.ts'

export type Role = 'parley_engine' | 'parley_gateway'

export interface ConnectionOptions {
  /** Anything pg understands, unix sockets included (postgresql://app@/parley?host=/folder). */
  url: string
  /** Absent: the login itself, for migrations and tools. */
  role?: Role
  /** application_name, to tell connections apart in pg_stat_activity. */
  name: string
  /** 'transaction': statements go without names and the role is the login's. */
  pooler?: 'session' | 'transaction'
  /** How long to wait for a database that is away, ms. 0: one try. */
  waitMs?: number
  log: Log
}

export interface Connections {
  /** Of every connection. */
  readonly config: ClientConfig
  /** The role in force; undefined when the login could not take it. */
  readonly role: Role | undefined
  /** A fresh connection. The caller ends it and listens for its errors. */
  readonly connect: (extra?: ClientConfig) => Promise<Client>
}

const connectTimeoutMs = 5000
/** Role missing, not granted, unknown parameter, or a pooler that refuses startup options. */
const roleErrors = new Set(['22023', '42501', '42704', '08P01', '28000'])

/** Throws what pg throws when the database cannot be reached within `waitMs`. */
export function openConnections(options: ConnectionOptions): Promise<Connections> {
  return whenThere(options.waitMs ?? 0, () => open(options))
}

/** Tries again, later and later, while the database is away and `waitMs` are not over. */
export async function whenThere<T>(waitMs: number, job: () => Promise<T>): Promise<T> {
  const until = performance.now() + waitMs
  for (let pause = 50; ; pause = Math.min(pause * 2, 1000)) {
    try {
      return await job()
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

async function open(options: ConnectionOptions): Promise<Connections> {
  let role = options.pooler === 'transaction' ? undefined : options.role
  try {
    await probe(configOf(options, role))
  } catch (error) {
    if (!role || !roleErrors.has((error as { code?: string }).code ?? '')) throw error
    options.log.warn('the database role could not be taken; the login itself is used', {
      code: (error as { code: string }).code,
    })
    role = undefined
    await probe(configOf(options, role))
  }
  const config = configOf(options, role)
  return { config, role, connect: extra => connectClient({ ...config, ...extra }) }
}

async function probe(config: ClientConfig): Promise<void> {
  const client = await connectClient(config)
  await client.end()
}

async function connectClient(config: ClientConfig): Promise<Client> {
  const client = new Client(config)
  // Without a listener a lost connection ends the process; the owner adds its own for what it means.
  client.on('error', () => {})
  await client.connect()
  return client
}

function configOf(options: ConnectionOptions, role: Role | undefined): ClientConfig {
  return {
    connectionString: options.url,
    application_name: options.name,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    ...(role ? { options: `-c role=${role}` } : {}),
  }
}
