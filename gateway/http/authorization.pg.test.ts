import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { startTestEngine, type TestEngine } from '#load/kit/engine.ts'
import { type Person, type Reply, type TestHttp, testHttp } from '#load/kit/http.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { assistantId } from '#protos/ids.ts'
import { routesOf } from './routes.ts'

interface Row {
  route: string
  on: 'none' | 'group' | 'dm' | 'deleted'
  body?: Record<string, unknown>
  query?: string
  username?: string
  user?: 'target' | 'owner' | 'self' | 'other' | 'assistant'
  /** The cell ends its own session, so each gets a fresh one. */
  fresh?: boolean
  cells: Record<string, number>
}
const file = new URL('../../load/authorization.json', import.meta.url)
const { rows } = JSON.parse(readFileSync(file, 'utf8')) as { rows: Row[] }

let database: TestDatabase
let engine: TestEngine
let http: TestHttp
const people = new Map<string, Person>()
const principals = ['N', 'M', 'C', 'O', 'R', 'B', 'D', 'X']
const who = (name: string): Person => people.get(name)!
let counter = 0

before(async () => {
  database = await testDatabase()
  const env = { RATE_LIMIT_SCALE: '100000', MODERATOR_EMAILS: 'user_d@example.org' }
  engine = await startTestEngine(database.url, env)
  http = await testHttp({ database, engine: engine.client, env })
  for (const p of principals) people.set(p, await http.person(`user_${p.toLowerCase()}`))
  for (const name of ['target', 'other', 'blocker', 'blocker2', 'newcomer']) people.set(name, await http.person(name))
  for (const name of ['blocker', 'blocker2']) await ok(as(who(name), 'POST', '/blocks/user_b'))
  await ok(as(who('X'), 'POST', '/auth/logout'))
})
after(async () => {
  await http.close()
  await engine.stop()
  await database.drop()
})

const as = (person: Person | undefined, method: string, url: string, body?: unknown): Promise<Reply> =>
  http.call(method, url, { token: person?.token, body })
async function ok(reply: Promise<Reply>): Promise<Reply['body']> {
  const { status, text, body } = await reply
  assert.ok(status < 300, `${status} ${text}`)
  return body
}

/** A conversation in which every principal has their part, and a message in it. */
async function scene(on: Row['on'], principal: string): Promise<{ id: string; message: string }> {
  if (on === 'dm') {
    // Between the principal (or M, for strangers) and someone new, who for B has blocked them.
    const other = await http.person(`other_${++counter}`)
    people.set('other', other)
    const side = who(principal === 'B' ? 'B' : 'M')
    const { id } = await ok(as(side, 'POST', '/conversations', { type: 'dm', usernames: [other.username] }))
    const { id: message } = await ok(as(other, 'POST', `/conversations/${id}/messages`, { content: 'first' }))
    if (principal === 'B') await ok(as(other, 'POST', '/blocks/user_b'))
    return { id, message }
  }
  const usernames = ['user_m', 'user_c', 'user_r', 'target']
  const { id } = await ok(as(who('O'), 'POST', '/conversations', { type: 'group', title: 'Scene', usernames }))
  await ok(as(who('O'), 'PATCH', `/conversations/${id}/members/${who('C').id}`, { role: 'admin' }))
  await ok(as(who('O'), 'DELETE', `/conversations/${id}/members/${who('R').id}`))
  const { id: message } = await ok(as(who('M'), 'POST', `/conversations/${id}/messages`, { content: 'first' }))
  if (on === 'deleted') await ok(as(who('O'), 'DELETE', `/conversations/${id}`))
  return { id, message }
}

async function check(row: Row, principal: string): Promise<number> {
  const [method, path] = row.route.split(' ') as [string, string]
  let person = principal === 'A' ? undefined : who(principal)
  if (row.fresh && person && principal !== 'X') {
    const login = await ok(
      http.call('POST', '/auth/login', { body: { email: person.email, password: 'correct horse' } }),
    )
    person = { ...person, token: login.access_token }
  }
  const { id, message } = row.on === 'none' ? { id: '', message: '' } : await scene(row.on, principal)
  if (row.route === 'POST /blocks/:username') await as(person, 'DELETE', '/blocks/target')
  const users = {
    target: () => who('target').id,
    other: () => who('other').id,
    owner: () => who('O').id,
    self: () => person?.id ?? who('M').id,
    assistant: () => assistantId,
  }
  const stranger = JSON.stringify(row.body ?? {}).includes('$stranger')
    ? await http.person(`stranger_${++counter}`)
    : undefined
  const body =
    row.body &&
    fill(row.body, {
      $fresh: `fresh${++counter}`,
      $own: person?.username ?? 'nobody_x',
      $stranger: stranger?.username ?? '',
    })
  const url = path
    .replace('/messages/:id', `/messages/${message}`)
    .replace('/tasks/:id', `/tasks/${path.startsWith('/tasks/') ? await foreignTask() : ''}`)
    .replace(':id', id)
    .replace(':call_id', 'none')
    .replace(':user_id', users[row.user ?? 'target']())
    .replace(':username', row.username ?? '')
  const reply = await as(person, method, row.query ? `${url}?${row.query}` : url, body)
  if (reply.status === 401 && principal === 'X' && path !== '/auth/login' && path !== '/auth/refresh') {
    assert.equal(reply.body.details?.reason, 'TOKEN_REVOKED', row.route)
  }
  return reply.status
}

/** A task that belongs to none of the principals. */
async function foreignTask(): Promise<string> {
  return (await ok(as(who('target'), 'POST', '/tasks', { title: 'Not yours' }))).id
}

function fill(body: Record<string, unknown>, words: Record<string, string>): Record<string, unknown> {
  let text = JSON.stringify(body)
  for (const [from, to] of Object.entries(words)) text = text.replaceAll(from, to)
  return JSON.parse(text) as Record<string, unknown>
}

test('B-11 the file names every route of the server, and no other', () => {
  const served = new Set(routesOf(http.deps).map(r => `${r.method} ${r.path}`))
  const named = new Set(rows.map(r => r.route))
  assert.deepEqual([...named].sort(), [...served].sort())
})

for (const [index, row] of rows.entries()) {
  const detail = [row.user, row.username, row.body && JSON.stringify(row.body)].filter(Boolean).join(' ')
  test(`B-07 row ${index + 1}: ${row.route} on ${row.on} ${detail}`, async () => {
    const found: Record<string, number> = {}
    for (const principal of Object.keys(row.cells)) found[principal] = await check(row, principal)
    assert.deepEqual(found, row.cells)
  })
}
