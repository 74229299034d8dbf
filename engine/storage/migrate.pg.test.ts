/** The schema: up, down, its dump, the rights of the two roles, and that the hot reads use their indexes. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { dumpSchema } from '#load/kit/schema-dump.ts'
import { isAway } from './connections.ts'
import { User } from './entities.ts'
import { migrate } from './migrate.ts'
import { type Database, openOrm } from './orm.ts'

let database: TestDatabase
let admin: Database

before(async () => {
  database = await testDatabase()
  admin = await openOrm({ url: database.url, name: 'test-admin', log: silentLog })
})
after(async () => {
  await admin.close()
  await database.drop()
})

const schemaFile = new URL('../../migrations/schema.sql', import.meta.url)

test('N13 migrations run from empty, down step by step to nothing, and up again to the same schema', async () => {
  const empty = await testDatabase(true)
  try {
    const dump = async () => {
      const db = await openOrm({ url: empty.url, name: 'test-dump', log: silentLog })
      try {
        return await dumpSchema(db.pool)
      } finally {
        await db.close()
      }
    }
    const bare = await dump()
    const { applied, pending } = await migrate(empty.url, 'up', silentLog)
    assert.ok(applied.length >= 3)
    assert.deepEqual(pending, [])
    const full = await dump()
    assert.deepEqual((await migrate(empty.url, 'up', silentLog)).applied, applied)
    for (let left = applied.length; left > 0; left--) {
      assert.equal((await migrate(empty.url, 'down', silentLog)).applied.length, left - 1)
    }
    assert.equal(await dump(), bare)
    await migrate(empty.url, 'up', silentLog)
    assert.equal(await dump(), full)
  } finally {
    await empty.drop()
  }
})

test('N13 several processes may migrate at once: one does it', async () => {
  const empty = await testDatabase(true)
  try {
    const results = await Promise.all([1, 2, 3].map(() => migrate(empty.url, 'up', silentLog)))
    for (const result of results) assert.deepEqual(result.pending, [])
  } finally {
    await empty.drop()
  }
})

test('N01 schema.sql is what the migrations make (UPDATE_SCHEMA=1 writes it)', async () => {
  const dump = await dumpSchema(admin.pool)
  if (process.env['UPDATE_SCHEMA'] || !existsSync(schemaFile)) writeFileSync(schemaFile, dump)
  assert.equal(readFileSync(schemaFile, 'utf8'), dump)
})

const refused = { code: '42501' }

test('N15 only the engine writes the log; only the gateway sees keys and passwords', async () => {
  const [engine, gateway] = await Promise.all(
    (['parley_engine', 'parley_gateway'] as const).map(role =>
      openOrm({ url: database.url, role, name: `test-${role}`, poolMax: 1, log: silentLog }),
    ),
  )
  try {
    for (const table of ['event', 'ai_segment', 'message_state', 'conversation', 'conversation_member']) {
      for (const sql of [`delete from ${table}`, `insert into ${table} select * from ${table}`]) {
        await assert.rejects(gateway!.pool.query(sql), refused, sql)
        await engine!.pool.query(sql)
      }
      await gateway!.pool.query(`select 1 from ${table}`)
    }
    for (const table of ['ai_run', 'ai_slot', 'receipt_mark', 'blocks', 'shard', 'engine_node']) {
      await assert.rejects(gateway!.pool.query(`insert into ${table} select * from ${table}`), refused, table)
      await gateway!.pool.query(`select 1 from ${table}`)
    }
    for (const table of ['sessions', 'refresh_token', 'signing_key', 'reports']) {
      await assert.rejects(engine!.pool.query(`select 1 from ${table}`), refused, table)
      await gateway!.pool.query(`select 1 from ${table}`)
    }
    await assert.rejects(engine!.pool.query('update users set email = null'), refused)
    await assert.rejects(gateway!.pool.query('delete from audit'), refused)
  } finally {
    await engine!.close()
    await gateway!.close()
  }
})

test('N16 a role that cannot be taken is a warning, not an end', async () => {
  const warnings: string[] = []
  const log = { ...silentLog, warn: (text: string) => warnings.push(text) }
  const db = await openOrm({ url: database.url, role: 'parley_nobody' as 'parley_engine', name: 'test-role', log })
  try {
    assert.equal(db.role, undefined)
    assert.equal(warnings.length, 1)
    assert.equal((await db.pool.query('select 1 as one')).rows[0].one, 1)
  } finally {
    await db.close()
  }
})

test('N18 each migration has a number of its own, and one that got another is not run again', async () => {
  const names = readdirSync(new URL('../../migrations', import.meta.url)).filter(name => name.endsWith('.ts'))
  assert.equal(new Set(names.map(name => name.slice(0, 4))).size, names.length, names.join())
  const old = await testDatabase()
  try {
    await migrate(old.url, 'up', silentLog)
    const db = await openOrm({ url: old.url, name: 'test-rename', log: silentLog })
    await db.pool.query(`update migration set name = replace(name, '0008-suspicion', '0005-suspicion')`)
    await db.close()
    const { applied, pending } = await migrate(old.url, 'up', silentLog)
    assert.deepEqual([applied.length, pending], [names.length, []])
    assert.ok(
      applied.some(name => name.startsWith('0008-suspicion')),
      applied.join(),
    )
  } finally {
    await old.drop()
  }
})

test('N17 a statement that hangs gives its caller back after 5 s, ends in the database, and leaves a pool that works', async () => {
  const db = await openOrm({ url: database.url, role: 'parley_gateway', name: 'test-hang', poolMax: 1, log: silentLog })
  const running = async () =>
    (await admin.pool.query(`select 1 from pg_stat_activity where application_name = 'test-hang' and state = 'active'`))
      .rowCount
  try {
    const began = performance.now()
    await assert.rejects(db.pool.query('select pg_sleep(60)'), isAway)
    assert.ok(performance.now() - began < 10_000)
    assert.equal((await db.pool.query('select 1 as one')).rows[0].one, 1)
    assert.equal(db.pool.totalCount, 1)
    const until = performance.now() + 10_000
    while ((await running()) !== 0) {
      assert.ok(performance.now() < until, 'the statement runs on in the database')
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  } finally {
    await db.close()
  }
})

test('N14 entities read and write their rows; an e-mail is unique whatever its case', async () => {
  const em = admin.orm.em.fork()
  const email = `${randomUUID()}@Example.org`
  const user = em.create(User, { email, passwordBcrypt: '$2b$04$secret' })
  await em.flush()
  const found = await em.fork().findOneOrFail(User, { id: user.id })
  assert.equal(found.email, email)
  assert.ok(found.createdAt instanceof Date)
  assert.equal(JSON.stringify(found).includes('secret'), false)
  const other = admin.orm.em.fork()
  other.create(User, { email: email.toLowerCase() })
  await assert.rejects(other.flush(), { code: '23505' })
})

test('N11 the frequent reads use their indexes', async () => {
  const client = await admin.pool.connect()
  try {
    await client.query('begin')
    await client.query(`
      insert into event (conversation_id, seq, message_id, kind, sender_id, client_id, body_hash, body, epoch, created_at)
      select c.id, n, uuidv7(), 'message.new', c.id, uuidv7(), '', '{"role":"user"}', 1, now()
        from (select uuidv7() as id from generate_series(1, 200)) c, generate_series(1, 50) n`)
    await client.query(`insert into users (username) select 'u' || n from generate_series(1, 5000) n`)
    await client.query('analyze event, users')
    const id = (await client.query('select conversation_id as id from event limit 1')).rows[0].id
    const plans: [index: string, sql: string][] = [
      ['event_position', `select body from event where conversation_id = '${id}' and seq > 10 order by seq limit 20`],
      ['event_position', `select seq from event where conversation_id = '${id}' order by seq desc limit 1`],
      ['event_message', `select 1 from event where message_id = '${id}'`],
      [
        'event_client',
        `select 1 from event where sender_id = '${id}' and conversation_id = '${id}' and client_id = '${id}'`,
      ],
      ['event_client', `select 1 from event where sender_id = '${id}'`],
      [
        'event_position',
        `select sender_id, seq from event where conversation_id = '${id}' and seq > 40 and kind = 'message.new'`,
      ],
      ['users_username', `select 1 from users where username = 'u77'`],
      ['users_username', `select 1 from users where username like 'u77%'`],
      ['users_email_key', `select 1 from users where lower(email) = 'a@b.c'`],
    ]
    for (const [index, sql] of plans) {
      const plan = (await client.query(`explain ${sql}`)).rows.map(row => row['QUERY PLAN']).join('\n')
      assert.ok(plan.includes(index), `${index}: ${sql}\n${plan}`)
    }
    await client.query('set local enable_seqscan = off')
    const members = (await client.query(`explain select 1 from conversation_member where user_id = '${id}'`)).rows
    assert.ok(JSON.stringify(members).includes('conversation_member_user'))
  } finally {
    await client.query('rollback')
    client.release()
  }
})
