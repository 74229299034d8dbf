/** The lock of the one gateway that runs without Redis. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client } from 'pg'
import { silentLog } from '#engine/ops/log.ts'
import { migrate } from '#engine/storage/migrate.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { holdOnlyOne } from './only-one.ts'

let database: TestDatabase

before(async () => {
  database = await testDatabase()
})
after(() => database.drop())

async function connect(): Promise<Client> {
  const client = new Client({ connectionString: database.url })
  client.on('error', () => {})
  await client.connect()
  return client
}

test('N13 the only gateway keeps out a second one, and not the schema command that parley token runs first', async () => {
  const only = await holdOnlyOne(connect, silentLog, () => assert.fail('lost'))
  assert.ok(only)
  try {
    assert.equal(await holdOnlyOne(connect, silentLog, () => {}), undefined)
    assert.deepEqual((await migrate(database.url, 'up', silentLog)).pending, [])
  } finally {
    await only.release()
  }
  const next = await holdOnlyOne(connect, silentLog, () => {})
  assert.ok(next)
  await next.release()
})
