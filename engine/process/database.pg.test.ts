/** The database of a start that somebody else prepares. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Client } from 'pg'
import { readConfig } from '#engine/ops/config.ts'
import { silentLog } from '#engine/ops/log.ts'
import { migrate } from '#engine/storage/migrate.ts'
import { testDatabase } from '#load/kit/postgres.ts'
import { keepDatabase } from './database.ts'
import { StartError } from './start-error.ts'

test('[DB1] a database without the schema of this version is refused in a sentence that says what to do', async t => {
  const database = await testDatabase()
  t.after(() => database.drop())
  const keep = () =>
    keepDatabase({
      config: readConfig({ DATABASE_URL: database.url }),
      dataDir: '/nowhere',
      log: silentLog,
      migrates: false,
      onMoved() {},
    })
  const whole = await keep()
  await whole.stop()
  await migrate(database.url, 'down', silentLog)
  const refused = (error: Error) => {
    assert.ok(error instanceof StartError)
    assert.match(error.message, /^DATABASE_URL: the database at .* \(\d{4}-.* is missing\)\. Run parley migrate up\.$/)
    return true
  }
  await assert.rejects(keep(), refused)
  const sql = new Client({ connectionString: database.url })
  await sql.connect()
  await sql.query('drop table migration')
  await sql.end()
  await assert.rejects(keep(), refused)
})
