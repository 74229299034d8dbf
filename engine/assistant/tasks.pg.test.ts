/** The five tools against real Postgres: the requirements' names, isolation, and at most one effect. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { type Connected, openPool } from '#engine/storage/pool.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { recordCall } from './fixtures/recorded-call.ts'
import { createTasks, KeyConflict, type TaskRequest, type Tasks, type ToolResult } from './tasks.ts'
import { canonicalHash } from './tools.ts'

let database: TestDatabase
let gateway: Connected
let engine: Connected
let owner: Connected
let tasks: Tasks
let ana: string
let ben: string

before(async () => {
  database = await testDatabase()
  const open = (role?: 'parley_engine' | 'parley_gateway') =>
    openPool({ url: database.url, name: 'test-tasks', poolMax: 4, log: silentLog, ...(role ? { role } : {}) })
  ;[gateway, engine, owner] = await Promise.all([open('parley_gateway'), open('parley_engine'), open()])
  tasks = createTasks(gateway.pool)
})
after(async () => {
  await Promise.all([gateway.close(), engine.close(), owner.close()])
  await database.drop()
})

async function person(): Promise<string> {
  return (await owner.pool.query('insert into users default values returning id')).rows[0].id
}

/** Fresh people, so that no test sees another's tasks. */
async function people(): Promise<void> {
  ana = await person()
  ben = await person()
}

// biome-ignore lint/suspicious/noExplicitAny: each test knows its result
async function run(name: string, args: unknown, more: Partial<TaskRequest> = {}): Promise<any> {
  return tasks.run({ userId: ana, name, args, door: 'mcp', ...more })
}

const add = async (title: string, userId = ana): Promise<string> =>
  (await run('add_task', { title }, { userId })).task_id
const rowsOf = async (userId: string) =>
  (
    await owner.pool.query(
      'select id, title, description, completed_at from task where user_id = $1 order by created_at',
      [userId],
    )
  ).rows
const refused = (result: ToolResult, error: string) => {
  assert.deepEqual(
    { success: (result as { success?: boolean }).success, error: (result as { error?: string }).error },
    { success: false, error },
  )
}
const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

test('K-02 test_add_task_valid: the row is the caller’s, texts are trimmed', async () => {
  await people()
  const made = await run('add_task', { title: '  Buy milk ', description: ' two litres ', user_id: ana.toUpperCase() })
  assert.deepEqual(Object.keys(made).sort(), ['created_at', 'description', 'success', 'task_id', 'title'])
  assert.equal(made.title, 'Buy milk')
  assert.equal(made.description, 'two litres')
  assert.match(made.created_at, isoTime)
  assert.deepEqual(await rowsOf(ana), [
    { id: made.task_id, title: 'Buy milk', description: 'two litres', completed_at: null },
  ])
  assert.equal((await run('add_task', { title: '𝕏'.repeat(256), description: '𝕏'.repeat(2048) })).success, true)
})

test('K-02 test_add_task_invalid_title: blank, missing, too long or not storable; nothing is written', async () => {
  await people()
  for (const title of [undefined, '', '   ', 'x'.repeat(257), 5, null, 'a\0b', 'a\ud800']) {
    refused(await run('add_task', { title }), 'InvalidTitle')
  }
  for (const args of [
    { title: 'a', description: 'x'.repeat(2049) },
    { title: 'a', extra: 1 },
    [],
    'x',
    null,
    { title: 'a', completed: true },
  ]) {
    refused(await run('add_task', args), 'InvalidInput')
  }
  assert.deepEqual(await rowsOf(ana), [])
})

test('K-02 test_add_task_unauthorized: another’s user_id is refused and recorded', async () => {
  await people()
  refused(await run('add_task', { title: 'a', user_id: ben }), 'Unauthorized')
  assert.deepEqual([await rowsOf(ana), await rowsOf(ben)], [[], []])
  const { rows } = await owner.pool.query(
    `select action, detail ->> 'outcome' as outcome from audit where actor_id = $1`,
    [ana],
  )
  assert.deepEqual(rows, [{ action: 'tool.add_task', outcome: 'Unauthorized' }])
  refused(await run('add_task', { title: 'a', user_id: ana }, { door: 'turn' }), 'InvalidInput')
})

test('K-11 a call of a tool that is switched off does nothing and is recorded', async () => {
  await people()
  refused(await run('add_task', { title: 'a' }, { isOff: true }), 'Unauthorized')
  assert.deepEqual(await rowsOf(ana), [])
  const { rows } = await owner.pool.query(
    `select action, detail ->> 'outcome' as outcome from audit where actor_id = $1`,
    [ana],
  )
  assert.deepEqual(rows, [{ action: 'tool.add_task', outcome: 'Unauthorized' }])
})

test('K-03 test_list_tasks_all, test_list_tasks_pending, test_list_tasks_completed, test_list_tasks_limit', async () => {
  await people()
  const ids = [await add('milk'), await add('bread'), await add('50% of eggs')]
  await add('not hers', ben)
  await run('complete_task', { task_id: ids[1] })
  const titles = async (args: object) => {
    const found = await run('list_tasks', args)
    return [found.tasks.map((t: { title: string }) => t.title), found.total, found.status_filter]
  }
  assert.deepEqual(await titles({}), [['milk', 'bread', '50% of eggs'], 3, 'all'])
  assert.deepEqual(await titles({ status: 'pending' }), [['milk', '50% of eggs'], 2, 'pending'])
  assert.deepEqual(await titles({ status: 'completed' }), [['bread'], 1, 'completed'])
  assert.deepEqual(await titles({ limit: 1 }), [['milk'], 3, 'all'])
  assert.deepEqual(await titles({ query: 'EGGS 50%' }), [['50% of eggs'], 1, 'all'])
  assert.deepEqual(await titles({ query: 'e_gs' }), [[], 0, 'all'])
  const [done] = (await run('list_tasks', { status: 'completed' })).tasks
  assert.deepEqual(Object.keys(done).sort(), ['completed', 'completed_at', 'created_at', 'description', 'id', 'title'])
  refused(await run('list_tasks', { status: 'open' }), 'InvalidStatus')
  for (const limit of [0, 101, 1.5, '5']) refused(await run('list_tasks', { limit }), 'InvalidInput')
})

test('K-04 test_complete_task_success, test_complete_task_already_completed, test_complete_task_unauthorized, test_complete_task_not_found', async () => {
  await people()
  const id = await add('milk')
  const done = await run('complete_task', { task_id: id })
  assert.deepEqual([done.success, done.task_id, done.title, done.completed], [true, id, 'milk', true])
  assert.match(done.completed_at, isoTime)
  refused(await run('complete_task', { task_id: id }), 'AlreadyCompleted')
  refused(await run('complete_task', { task_id: id, user_id: ben }), 'Unauthorized')
  const theirs = await add('bread', ben)
  for (const task_id of [theirs, randomUUID(), 'milk']) refused(await run('complete_task', { task_id }), 'TaskNotFound')
  refused(await run('complete_task', {}), 'InvalidInput')
  assert.equal((await rowsOf(ben))[0].completed_at, null)
})

test('K-05 test_delete_task_success, test_delete_task_not_found, test_delete_task_unauthorized: others’ rows stay, the record stays', async () => {
  await people()
  const [id, theirs] = [await add('milk'), await add('milk', ben)]
  const gone = await run('delete_task', { task_id: id })
  assert.deepEqual([gone.success, gone.task_id, gone.title], [true, id, 'milk'])
  assert.match(gone.deleted_at, isoTime)
  for (const task_id of [id, theirs]) refused(await run('delete_task', { task_id }), 'TaskNotFound')
  refused(await run('delete_task', { task_id: theirs, user_id: ben }), 'Unauthorized')
  assert.deepEqual([await rowsOf(ana), (await rowsOf(ben)).length], [[], 1])
  const { rows } = await owner.pool.query('select 1 from audit where target_id = $1 and action = $2', [
    id,
    'tool.delete_task',
  ])
  assert.equal(rows.length, 1)
})

test('K-06 test_update_task_title, test_update_task_description, test_update_task_both, test_update_task_invalid: only what was given changes', async () => {
  await people()
  const id = await add('eggs')
  const row = async () => (await rowsOf(ana)).map(({ title, description }) => [title, description])[0]
  assert.equal((await run('update_task', { task_id: id, title: 'brown eggs' })).title, 'brown eggs')
  assert.deepEqual(await row(), ['brown eggs', null])
  await run('update_task', { task_id: id, description: 'from the farm' })
  assert.deepEqual(await row(), ['brown eggs', 'from the farm'])
  const both = await run('update_task', { task_id: id, title: 'eggs', description: 'six' })
  assert.deepEqual([both.title, both.description], ['eggs', 'six'])
  assert.match(both.updated_at, isoTime)
  for (const args of [
    {},
    { title: ' ' },
    { title: 'x'.repeat(257) },
    { description: 'x'.repeat(2049) },
    { completed: true },
  ]) {
    refused(await run('update_task', { task_id: id, ...args }), 'InvalidInput')
  }
  refused(await run('update_task', { task_id: randomUUID(), title: 'a' }), 'TaskNotFound')
  refused(await run('update_task', { task_id: id, title: 'a', user_id: ben }), 'Unauthorized')
  assert.deepEqual(await row(), ['eggs', 'six'])
})

test('J-09 a missing task comes with up to three similar titles of one’s own', async () => {
  await people()
  for (const title of ['water plants', 'buy milk', 'milk the cow', 'call mum', 'buy a milkshake']) await add(title)
  await add('milk for Ben', ben)
  const { similar_tasks } = await run('complete_task', { task_id: randomUUID() }, { hint: 'I bought the milk' })
  assert.equal(similar_tasks.length, 3)
  for (const { title } of similar_tasks) assert.match(title, /milk/)
})

test('K-09 the same key gives the first result without a second effect, also at the same time; another use is a conflict', async () => {
  await people()
  const key = { kind: 'own', key: 'k1' } as const
  const results = await Promise.all(Array.from({ length: 8 }, () => run('add_task', { title: 'milk' }, { key })))
  for (const result of results) assert.deepEqual(result, results[0])
  assert.equal((await rowsOf(ana)).length, 1)
  await assert.rejects(run('add_task', { title: 'bread' }, { key }), KeyConflict)
  assert.equal((await run('add_task', { title: 'milk' }, { key, userId: ben })).success, true)
  await owner.pool.query(`update tool_key set created_at = now() - interval '25 hours' where user_id = $1`, [ana])
  assert.notEqual((await run('add_task', { title: 'bread' }, { key })).task_id, results[0].task_id)
})

test('K-11 every execution leaves one record with user, tool and time', async () => {
  await people()
  const id = await add('milk')
  await run('list_tasks', {})
  await run('complete_task', { task_id: id })
  await run('nonsense', {})
  const { rows } = await owner.pool.query(
    `select action, detail ->> 'arguments_hash' as hash from audit where actor_id = $1 and at is not null order by at`,
    [ana],
  )
  // Of the exact arguments, whatever the order of their keys; never the texts.
  assert.equal(rows[2].hash, canonicalHash('complete_task', { task_id: id }).toString('hex'))
  assert.deepEqual(
    rows.map(r => r.action),
    ['tool.add_task', 'tool.list_tasks', 'tool.complete_task', 'tool.nonsense'],
  )
})

// --- calls of a turn ---------------------------------------------------------------------------------------------------------

async function called(name: string, args: object, approval: 'auto' | 'required', decision?: 'approve' | 'reject') {
  const { runId, callId } = await recordCall(owner.pool, ana, name, args, approval, decision)
  return { runId, key: { kind: 'call', runId, callId } as const }
}
const inTurn = (name: string, args: unknown, key: TaskRequest['key'], userId = ana): Promise<ToolResult> =>
  createTasks(engine.pool).run({ userId, name, args, door: 'turn', ...(key ? { key } : {}) })

test('K-09 a turn’s call takes effect once, however often it is made', async () => {
  await people()
  const { key } = await called('add_task', { title: 'milk' }, 'auto')
  const results = await Promise.all(Array.from({ length: 5 }, () => inTurn('add_task', { title: 'milk' }, key)))
  for (const result of results) assert.deepEqual(result, results[0])
  assert.equal((await rowsOf(ana)).length, 1)
})

test('R6 without approval, after rejection, with other arguments, for another or after the turn nothing happens', async () => {
  await people()
  const task_id = await add('milk')
  const other = await add('bread')
  const args = { task_id }
  refused(await inTurn('delete_task', args, (await called('delete_task', args, 'required')).key), 'Unauthorized')
  refused(
    await inTurn('delete_task', args, (await called('delete_task', args, 'required', 'reject')).key),
    'Unauthorized',
  )
  const allowed = await called('delete_task', args, 'required', 'approve')
  refused(await inTurn('delete_task', { task_id: other }, allowed.key), 'Unauthorized')
  const ended = await called('delete_task', args, 'required', 'approve')
  await owner.pool.query(`update ai_run set status = 'ended' where id = $1`, [ended.runId])
  refused(await inTurn('delete_task', args, ended.key), 'Unauthorized')
  refused(
    await inTurn('delete_task', args, (await called('delete_task', args, 'required', 'approve')).key, ben),
    'Unauthorized',
  )
  refused(await inTurn('delete_task', args, { kind: 'call', runId: randomUUID(), callId: 'c1' }), 'Unauthorized')
  assert.equal((await rowsOf(ana)).length, 2)
  const good = await called('delete_task', args, 'required', 'approve')
  assert.equal(((await inTurn('delete_task', args, good.key)) as { success: boolean }).success, true)
  assert.equal((await rowsOf(ana)).length, 1)
})

test('N-09 with a person go that person’s tasks and no others', async () => {
  await people()
  await add('milk')
  await add('bread', ben)
  await owner.pool.query('delete from users where id = $1', [ana])
  assert.deepEqual([(await rowsOf(ana)).length, (await rowsOf(ben)).length], [0, 1])
})
