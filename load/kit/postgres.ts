/**
 * Databases for tests: one embedded Postgres per run, a migrated template in it, a clone of that per test file.
 * The runner shares its server through PARLEY_TEST_PG; a file run by itself starts one and stops it with its last database.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { silentLog } from '#engine/ops/log.ts'
import { type EmbeddedPostgres, startEmbedded } from '#engine/storage/embedded-postgres.ts'
import { migrate } from '#engine/storage/migrate.ts'

export interface TestPostgres {
  /** Of the maintenance database; what PARLEY_TEST_PG carries. */
  adminUrl: string
  server: EmbeddedPostgres
  stop(): Promise<void>
}

/** A server whose data nobody will miss: no fsync, so that clones and drops are quick. */
export async function startTestPostgres(settings: Record<string, string | number> = {}): Promise<TestPostgres> {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-test-'))
  // Searchable by the database user when the tests run as root.
  chmodSync(home, 0o755)
  const server = await startEmbedded(home, silentLog, { fsync: 'off', max_connections: 200, ...settings })
  return {
    adminUrl: server.adminUrl,
    server,
    stop: async () => {
      await server.stop()
      rmSync(server.dataDir, { recursive: true, force: true })
      rmSync(home, { recursive: true, force: true })
    },
  }
}

export interface TestDatabase {
  url: string
  adminUrl: string
  /** Ends every connection to it and removes it. */
  drop(): Promise<void>
}

let own: Promise<TestPostgres> | undefined
let open = 0

/** A fresh migrated database. `empty`: without the migrations. Drop it in `after`. */
export async function testDatabase(empty = false): Promise<TestDatabase> {
  open++
  const adminUrl = process.env['PARLEY_TEST_PG'] ?? (await (own ??= startTestPostgres())).adminUrl
  const name = `test_${randomBytes(6).toString('hex')}`
  const template = empty ? 'template0' : await ensureTemplate(adminUrl)
  await admin(adminUrl, async client => {
    await client.query(`create database ${name} template ${template} strategy file_copy`)
  })
  return {
    url: urlOf(adminUrl, name),
    adminUrl,
    drop: async () => {
      await admin(adminUrl, client => client.query(`drop database if exists ${name} with (force)`))
      if (--open === 0 && own) {
        const server = await own
        own = undefined
        await server.stop()
      }
    },
  }
}

async function ensureTemplate(adminUrl: string): Promise<string> {
  const hash = createHash('sha256')
  const folder = new URL('../../migrations/', import.meta.url)
  for (const file of readdirSync(folder).sort()) {
    if (file.endsWith('.ts') && !file.endsWith('.test.ts')) hash.update(readFileSync(new URL(file, folder)))
  }
  const name = `template_${hash.digest('hex').slice(0, 12)}`
  await admin(adminUrl, async client => {
    await client.query('select pg_advisory_lock(7275391847)')
    const found = await client.query('select 1 from pg_database where datname = $1', [name])
    if (found.rowCount) return
    const draft = `draft_${randomBytes(6).toString('hex')}`
    await client.query(`create database ${draft}`)
    await migrate(urlOf(adminUrl, draft), 'up', silentLog)
    await client.query(`alter database ${draft} rename to ${name}`)
  })
  return name
}

async function admin<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

function urlOf(adminUrl: string, database: string): string {
  return adminUrl.replace(/^([^:]+:\/\/[^/]*\/)[^?]*/, `$1${database}`)
}
