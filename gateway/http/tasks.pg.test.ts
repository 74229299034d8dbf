/** Tasks over REST: the same rules as the tools', with the status codes and the paging of REST. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { type Person, type TestHttp, testHttp } from '#load/kit/http.ts'

let http: TestHttp
let ana: Person
let ben: Person
before(async () => {
  http = await testHttp()
  ana = await http.person('ana')
  ben = await http.person('ben')
})
after(() => http.close())

const as = (person: Person, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  http.call(method, path, { token: person.token, body, headers })

test('3.3 a task is made, changed, done, opened again and deleted by its owner', async () => {
  const made = await as(ana, 'POST', '/api/tasks', { title: ' Milk ', description: null })
  assert.equal(made.status, 201)
  assert.deepEqual(
    [made.body.title, made.body.description, made.body.completed, made.body.completed_at],
    ['Milk', null, false, null],
  )
  const path = `/tasks/${made.body.id.toUpperCase()}`
  const changed = await as(ana, 'PATCH', path, { description: 'two litres', completed: true })
  assert.deepEqual(
    [changed.status, changed.body.title, changed.body.description, changed.body.completed],
    [200, 'Milk', 'two litres', true],
  )
  const same = await as(ana, 'PATCH', path, { completed: true })
  assert.equal(same.body.completed_at, changed.body.completed_at)
  const opened = await as(ana, 'PATCH', path, { completed: false, description: null })
  assert.deepEqual([opened.body.completed_at, opened.body.description], [null, null])
  assert.equal((await as(ana, 'DELETE', path)).status, 204)
  assert.equal((await as(ana, 'DELETE', path)).status, 404)
})

test('3.3 lists page by id, filter and search; nobody sees another’s', async () => {
  for (let i = 0; i < 5; i++) await as(ben, 'POST', '/tasks', { title: `task ${i}` })
  const first = await as(ben, 'GET', '/tasks?limit=3')
  assert.deepEqual(
    first.body.items.map((t: { title: string }) => t.title),
    ['task 0', 'task 1', 'task 2'],
  )
  const rest = await as(ben, 'GET', `/tasks?limit=3&after=${first.body.next}`)
  assert.deepEqual([rest.body.items.length, rest.body.next], [2, undefined])
  assert.equal((await as(ben, 'GET', '/tasks?query=4')).body.items.length, 1)
  assert.equal((await as(ben, 'GET', '/tasks?status=completed')).body.items.length, 0)
  assert.equal((await as(ana, 'GET', '/tasks?query=task')).body.items.length, 0)
  for (const query of ['limit=0', 'limit=101', 'limit=abc', 'status=open', 'after=5']) {
    assert.equal((await as(ben, 'GET', `/tasks?${query}`)).status, 400, query)
  }
})

test('3.3 refusals: bad bodies 400, another’s task 404 with similar ones of one’s own', async () => {
  for (const body of [
    {},
    { title: '' },
    { title: '   ' },
    { title: 'x'.repeat(257) },
    { title: 5 },
    { title: 'a', user_id: ben.id },
  ]) {
    assert.equal((await as(ana, 'POST', '/tasks', body)).status, 400, JSON.stringify(body))
  }
  const theirs = (await as(ben, 'POST', '/tasks', { title: 'secret' })).body.id
  await as(ana, 'POST', '/tasks', { title: 'mine' })
  const foreign = await as(ana, 'PATCH', `/tasks/${theirs}`, { title: 'taken' })
  assert.equal(foreign.status, 404)
  assert.deepEqual(
    foreign.body.details.similar_tasks.map((t: { title: string }) => t.title),
    ['mine'],
  )
  assert.equal((await as(ana, 'PATCH', `/tasks/${randomUUID()}`, {})).status, 400)
})

test('1 an Idempotency-Key makes one task; for another body it is a conflict', async () => {
  const key = { 'idempotency-key': 'once' }
  const [one, two] = await Promise.all([1, 2].map(() => as(ana, 'POST', '/tasks', { title: 'once' }, key)))
  assert.deepEqual([one!.status, two!.status, one!.body.id === two!.body.id], [201, 201, true])
  const other = await as(ana, 'POST', '/tasks', { title: 'twice' }, key)
  assert.deepEqual([other.status, other.body.details.code], [409, 'IDEMPOTENCY_CONFLICT'])
  assert.equal((await as(ana, 'POST', '/tasks', { title: 'x' }, { 'idempotency-key': 'x'.repeat(256) })).status, 400)
})

test('1 an Idempotency-Key that comes again gives the first answer, whatever became of the task', async () => {
  const key = { 'idempotency-key': 'gone' }
  const first = await as(ana, 'POST', '/tasks', { title: ' gone ', description: 'soon' }, key)
  assert.deepEqual(first.body, (await as(ana, 'GET', '/tasks?query=gone')).body.items[0])
  const path = `/tasks/${first.body.id}`
  const change = { completed: true, description: 'now' }
  const changed = await as(ana, 'PATCH', path, change, { 'idempotency-key': 'change' })
  assert.deepEqual([changed.body.completed, changed.body.created_at], [true, first.body.created_at])
  assert.deepEqual(changed.body, (await as(ana, 'GET', '/tasks?query=gone')).body.items[0])
  await as(ana, 'PATCH', path, { title: 'changed again' })
  assert.deepEqual((await as(ana, 'PATCH', path, change, { 'idempotency-key': 'change' })).body, changed.body)
  await as(ana, 'DELETE', path)
  assert.deepEqual((await as(ana, 'PATCH', path, change, { 'idempotency-key': 'change' })).body, changed.body)
  const again = await as(ana, 'POST', '/tasks', { title: ' gone ', description: 'soon' }, key)
  assert.deepEqual([again.status, again.body], [201, first.body])
})
