/**
 * Brings a database to the schema of this checkout, one process at a time. Knows no SQL of the schema itself; that is in
 * migrations/.
 */
import { readdirSync } from 'node:fs'
import { Client } from 'pg'
import type { Log } from '#engine/ops/log.ts'
import { openOrm } from './orm.ts'

export interface MigrationStatus {
  applied: string[]
  pending: string[]
}

/** Any number that no other program uses; held while migrations run. */
const lockKey = 7_275_391_846

/** Old name → new name, without the ending. */
const renamed = { '0005-suspicion': '0008-suspicion' }

/** A database that ran a migration under its old name has it. */
async function followRenames(guard: Client): Promise<void> {
  const { rows } = await guard.query(`select to_regclass('migration') is not null as is_there`)
  if (!rows[0].is_there) return
  for (const [before, now] of Object.entries(renamed))
    await guard.query('update migration set name = replace(name, $1, $2) where name like $1 || $3', [before, now, '%'])
}

/** Names of those that this database has not run, in order. Changes nothing and needs no right but to read. */
export async function missingMigrations(at: Client): Promise<string[]> {
  const all = readdirSync(new URL('../../migrations', import.meta.url))
    .filter(file => /^\d{4}-.*\.ts$/.test(file))
    .map(file => file.slice(0, -3))
    .sort()
  const { rows } = await at.query(`select to_regclass('migration') is not null as is_there`)
  if (!rows[0].is_there) return all
  const done = await at.query<{ name: string }>('select name from migration')
  const names = new Set(done.rows.map(({ name }) => name.replace(/\.(ts|js)$/, '')))
  for (const [before, now] of Object.entries(renamed)) if (names.has(before)) names.add(now)
  return all.filter(name => !names.has(name))
}

/** `up`: all that is pending; `down`: the last one; `status`: changes nothing. Answers what holds afterwards. */
export async function migrate(url: string, action: 'up' | 'down' | 'status', log: Log): Promise<MigrationStatus> {
  const guard = new Client({ connectionString: url, application_name: 'parley-migrate' })
  guard.on('error', () => {})
  await guard.connect()
  try {
    await guard.query('select pg_advisory_lock($1::bigint)', [lockKey])
    await followRenames(guard)
    const database = await openOrm({ url, name: 'parley-migrate', poolMax: 2, log })
    try {
      const { migrator } = database.orm
      if (action === 'up') await migrator.up()
      if (action === 'down') await migrator.down()
      const applied = (await migrator.getExecuted()).map(row => row.name)
      const pending = (await migrator.getPending()).map(row => row.name)
      if (action !== 'status') log.info(`database schema: ${applied.length} applied, ${pending.length} pending`)
      return { applied, pending }
    } finally {
      await database.close()
    }
  } finally {
    await guard.end()
  }
}
