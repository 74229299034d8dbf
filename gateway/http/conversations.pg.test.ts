import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startTestEngine, type TestEngine } from '#load/kit/engine.ts'
import { type Person, type Reply, type TestHttp, testHttp } from '#load/kit/http.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { checkServerFrame } from '#protos/catalogue.ts'
import { assistantId } from '#protos/ids.ts'

let database: TestDatabase
let engine: TestEngine
let http: TestHttp
let ada: Person
let bob: Person
let cyd: Person
let eve: Person

before(async () => {
  database = await testDatabase()
  const env = { GROUP_MEMBERS_MAX: '4', RATE_LIMIT_SCALE: '1000' }
  engine = await startTestEngine(database.url, env)
  http = await testHttp({ database, engine: engine.client, env })
  ;[ada, bob, cyd, eve] = (await Promise.all(['ada', 'bob', 'cyd', 'eve'].map(n => http.person(n)))) as [
    Person,
    Person,
    Person,
    Person,
  ]
})
after(async () => {
  await http.close()
  await engine.stop()
  await database.drop()
})

const as = (who: Person, method: string, url: string, body?: unknown): Promise<Reply> =>
  http.call(method, url, { token: who.token, body })
const make = (who: Person, body: object) => as(who, 'POST', '/conversations', body)
const group = async (who: Person, ...usernames: string[]) =>
  (await make(who, { type: 'group', title: 'Team', usernames })).body
const send = (who: Person, id: string, body: object) => as(who, 'POST', `/conversations/${id}/messages`, body)

test('X-02 a reply names a message of the same conversation that is not deleted', async () => {
  const { id } = await group(ada, 'bob')
  const other = await group(ada, 'bob')
  const { seq, id: messageId } = (await send(ada, id, { content: 'first' })).body
  await send(ada, other.id, { content: 'elsewhere' })
  const refused = async (replyTo: number) => {
    const { status, body } = await send(bob, id, { content: 'why', reply_to: replyTo })
    assert.deepEqual([status, body.error_code, body.details], [404, 'NOT_FOUND', { field: 'reply_to' }])
  }
  assert.equal((await send(bob, id, { content: 'yes', reply_to: seq })).body.reply_to, seq)
  // The first is how ada came in.
  await refused(1)
  await refused(seq + 9)
  const mark = `insert into message_state (conversation_id, seq, message_id, deleted_at) values ($1, $2, $3, now())`
  await http.owner.pool.query(mark, [id, seq, messageId])
  await refused(seq)
})

test('B-01 dm, group and ai are made; the same dm pair answers the same one with 200', async () => {
  const first = await make(ada, { type: 'dm', usernames: ['BOB'] })
  assert.equal(first.status, 201)
  assert.equal(first.body.title, null)
  assert.deepEqual(first.body.members.map((m: { username: string }) => m.username).sort(), ['ada', 'bob'])
  assert.equal(first.body.head_seq, 2)
  const again = await make(bob, { type: 'dm', usernames: ['ada'] })
  assert.deepEqual([again.status, again.body.id], [200, first.body.id])
  const both = await Promise.all([
    make(cyd, { type: 'dm', usernames: ['eve'] }),
    make(eve, { type: 'dm', usernames: ['cyd'] }),
  ])
  assert.equal(both[0].body.id, both[1].body.id)
  assert.deepEqual(
    both.map(r => r.status).sort((a, b) => a - b),
    [200, 201],
  )
  const team = await make(ada, { type: 'group', usernames: ['bob', 'Bob', 'ada', 'cyd'] })
  assert.equal(team.status, 201)
  assert.equal(team.body.title, 'New Conversation')
  assert.deepEqual(
    team.body.members.map((m: { username: string; role: string }) => [m.username, m.role]),
    [
      ['ada', 'owner'],
      ['bob', 'member'],
      ['cyd', 'member'],
    ],
  )
  const ai = await make(ada, { type: 'ai', title: 'Help' })
  assert.deepEqual([ai.status, ai.body.title, ai.body.members.length], [201, 'Help', 1])
})

test('B-01 what cannot be made is refused', async () => {
  for (const [body, status] of [
    [{ type: 'dm' }, 400],
    [{ type: 'dm', usernames: ['ada'] }, 400],
    [{ type: 'dm', usernames: ['bob', 'cyd'] }, 400],
    [{ type: 'dm', usernames: ['nobody_here'] }, 404],
    [{ type: 'dm', usernames: ['assistant'] }, 403],
    [{ type: 'group', usernames: ['assistant'] }, 403],
    [{ type: 'ai', usernames: ['bob'] }, 400],
    [{ type: 'room' }, 400],
    [{ type: 'group', title: 'x'.repeat(256) }, 400],
    [{ type: 'group', title: 'x'.repeat(255) }, 201],
  ] as const) {
    assert.equal((await make(ada, body)).status, status, JSON.stringify(body).slice(0, 80))
  }
})

test('B-02 the list holds only one’s own, latest activity first, paged without gap', async () => {
  const lister = await http.person('lister')
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push((await group(lister)).id)
  await send(lister, ids[1]!, { content: 'newest' })
  const all = await as(lister, 'GET', '/conversations')
  const expected = [ids[1], ids[4], ids[3], ids[2], ids[0]]
  assert.deepEqual(
    all.body.items.map((c: { id: string }) => c.id),
    expected,
  )
  assert.equal(all.body.items[0].last_message.content, 'newest')
  const paged: string[] = []
  for (let next: string | undefined = '', first = true; first || next; first = false) {
    const page: Reply = await as(lister, 'GET', `/conversations?limit=2${next ? `&after=${next}` : ''}`)
    paged.push(...page.body.items.map((c: { id: string }) => c.id))
    next = page.body.next
  }
  assert.deepEqual(paged, expected)
  for (const q of ['limit=0', 'limit=-1', 'limit=101', 'limit=abc', 'after=forged', 'limit=1&limit=2']) {
    assert.equal((await as(lister, 'GET', `/conversations?${q}`)).status, 400, q)
  }
})

test('B-04 B-05 B-06 members are added, promoted and removed by those who may', async () => {
  const { id } = await group(ada, 'bob')
  const members = `/conversations/${id}/members`
  assert.equal((await as(bob, 'POST', members, { username: 'cyd' })).status, 403)
  assert.equal((await as(eve, 'POST', members, { username: 'cyd' })).status, 404)
  const added = await as(ada, 'POST', members, { username: 'cyd' })
  assert.deepEqual([added.status, added.body.username, added.body.role], [201, 'cyd', 'member'])
  assert.equal((await as(ada, 'POST', members, { username: 'cyd' })).status, 200)
  assert.equal((await as(ada, 'POST', members, { username: 'assistant' })).status, 403)
  assert.equal((await as(ada, 'POST', members, { username: 'nobody_here' })).status, 404)
  assert.equal((await as(cyd, 'PATCH', `${members}/${bob.id}`, { role: 'admin' })).status, 403)
  const promoted = await as(ada, 'PATCH', `${members}/${bob.id.toUpperCase()}`, { role: 'admin' })
  assert.deepEqual([promoted.status, promoted.body.role], [200, 'admin'])
  assert.equal((await as(bob, 'PATCH', `${members}/${ada.id}`, { role: 'member' })).status, 403)
  assert.equal((await as(bob, 'DELETE', `${members}/${ada.id}`)).status, 403)
  assert.equal((await as(bob, 'DELETE', `${members}/${cyd.id}`)).status, 204)
  assert.equal((await as(cyd, 'GET', `/conversations/${id}`)).status, 404)
  assert.equal((await send(cyd, id, { content: 'still here?' })).status, 404)
  assert.equal((await as(ada, 'DELETE', `${members}/${assistantId}`)).status, 404)
  assert.equal((await as(ada, 'DELETE', `${members}/${ada.id}`)).status, 409, 'the last owner cannot leave')
  assert.equal((await as(bob, 'DELETE', `${members}/${bob.id}`)).status, 204)
})

test('B-09 one member above the limit is 409 with the limit', async () => {
  const { id } = await group(ada, 'bob', 'cyd', 'eve')
  await http.person('fifth')
  const over = await as(ada, 'POST', `/conversations/${id}/members`, { username: 'fifth' })
  assert.deepEqual([over.status, over.body.error_code, over.body.details.limit], [409, 'CONFLICT', 4])
  const made = await make(ada, { type: 'group', usernames: ['bob', 'cyd', 'eve', 'fifth'] })
  assert.deepEqual([made.status, made.body.details.limit], [409, 4])
})

test('B-08 title and tool policy change; a dm has neither and cannot be deleted', async () => {
  const { id } = await group(ada, 'bob')
  const changed = await as(ada, 'PATCH', `/conversations/${id}`, { title: 'Other', tool_policy: 'members' })
  assert.deepEqual([changed.body.title, changed.body.tool_policy], ['Other', 'members'])
  assert.equal((await as(bob, 'PATCH', `/conversations/${id}`, { title: 'Mine' })).status, 403)
  assert.equal((await as(ada, 'PATCH', `/conversations/${id}`, {})).status, 400)
  assert.equal((await as(bob, 'DELETE', `/conversations/${id}`)).status, 403)
  assert.equal((await as(ada, 'DELETE', `/conversations/${id}`)).status, 204)
  assert.equal((await as(ada, 'GET', `/conversations/${id}`)).status, 404)
  const dm = (await make(ada, { type: 'dm', usernames: ['bob'] })).body.id
  assert.equal((await as(ada, 'DELETE', `/conversations/${dm}`)).status, 403)
  assert.equal((await as(ada, 'PATCH', `/conversations/${dm}`, { title: 'x' })).status, 403)
  assert.equal((await as(ada, 'DELETE', `/conversations/${dm}/members/${bob.id}`)).status, 403)
})

test('C-02 R1 a REST send is stored once; the same id again is 200, with other content 409', async () => {
  const { id } = await group(ada, 'bob')
  const body = { content: '  Zoë 👋 \n', client_message_id: '018F3B21-5CFF-7001-8D11-0C2F6A9B3E55' }
  const stale = await send(ada, id, body)
  assert.equal(stale.status, 409, 'the id is v7 and older than 30 days')
  assert.equal(stale.body.details.code, 'IDEMPOTENCY_EXPIRED')
  const fresh = { ...body, client_message_id: http.deps.clock.id() }
  const first = await send(ada, id, fresh)
  assert.equal(first.status, 201, first.text)
  assert.equal(first.body.content, fresh.content)
  assert.equal(first.body.client_message_id, fresh.client_message_id)
  assert.equal(first.body.seq, 3)
  assert.match(first.body.created_at, /^\d{4}-.*\.\d{3}Z$/)
  const again = await send(ada, id, fresh)
  assert.deepEqual([again.status, again.body], [200, first.body])
  const other = await send(ada, id, { ...fresh, content: 'other' })
  assert.deepEqual([other.status, other.body.details.code], [409, 'IDEMPOTENCY_CONFLICT'])
  assert.equal((await send(ada, id, { content: 'reply', reply_to: 3 })).body.reply_to, 3)
  assert.equal((await send(bob, id, { content: 'no id' })).status, 201)
})

test('C-09 content of 1 to 4096 characters, stored byte for byte; anything else 400 with the field', async () => {
  const { id } = await group(ada)
  for (const content of ['x', '𝕏'.repeat(4096), ' \u200d a\u0301 ']) {
    const sent = await send(ada, id, { content })
    assert.deepEqual([sent.status, sent.body.content], [201, content])
  }
  for (const content of ['', '   \n', 'x'.repeat(4097), 'a\u0000b', '\udc00', 5, null]) {
    const refused = await send(ada, id, { content })
    assert.equal(refused.status, 400, String(content).slice(0, 20))
    assert.equal(refused.body.details.field, 'content')
  }
  for (const body of [
    { content: 'x', reply_to: '5' },
    { content: 'x', reply_to: 0 },
    { content: 'x', seq: 1 },
    { content: 'x', client_message_id: 'x' },
    { content: 'x', attachments: [http.deps.clock.id()] },
  ]) {
    assert.equal((await send(ada, id, body)).status, 400, JSON.stringify(body))
  }
})

test('C-01 173 messages are paged by seq, id and time without gap or duplicate', async () => {
  const { id } = await group(ada)
  for (let i = 0; i < 173; i += 10) {
    await Promise.all(Array.from({ length: Math.min(10, 173 - i) }, (_, n) => send(ada, id, { content: `m ${i + n}` })))
    await sleep(2)
  }
  const url = `/conversations/${id}/messages`
  const all = new Map<number, { id: string; created_at: string }>()
  let query = 'limit=50'
  for (let next: string | undefined = 'first'; next; ) {
    const page: Reply = await as(ada, 'GET', `${url}?${query}`)
    assert.equal(page.status, 200)
    const seqs = page.body.items.map((m: { seq: number }) => m.seq)
    assert.deepEqual(
      seqs,
      [...seqs].sort((a, b) => a - b),
    )
    for (const m of page.body.items) {
      assert.ok(!all.has(m.seq))
      all.set(m.seq, m)
    }
    next = page.body.next
    query = `limit=50&before=${next}`
  }
  assert.deepEqual(
    [...all.keys()].sort((a, b) => a - b),
    Array.from({ length: 173 }, (_, i) => i + 2),
  )
  const forward: number[] = []
  for (let next: string | undefined = '0'; next; ) {
    const page: Reply = await as(ada, 'GET', `${url}?limit=100&after=${next}`)
    forward.push(...page.body.items.map((m: { seq: number }) => m.seq))
    next = page.body.next
  }
  assert.deepEqual(
    forward,
    Array.from({ length: 173 }, (_, i) => i + 2),
  )
  const seqs = async (q: string) => (await as(ada, 'GET', `${url}?${q}`)).body.items.map((m: { seq: number }) => m.seq)
  const mark = all.get(100)!
  assert.deepEqual(await seqs(`before=${mark.id}&limit=2`), [98, 99])
  assert.deepEqual(await seqs(`after=${mark.id}&limit=2`), [101, 102])
  const byTime = await as(ada, 'GET', `${url}?before=${mark.created_at}&limit=100`)
  assert.ok(byTime.body.items.length > 0)
  assert.ok(byTime.body.items.every((m: { created_at: string }) => m.created_at < mark.created_at))
  const later = await as(ada, 'GET', `${url}?after=${mark.created_at}&limit=100`)
  assert.ok(later.body.items.every((m: { created_at: string }) => m.created_at > mark.created_at))
  const sameTime = [...all.values()].filter(m => m.created_at === mark.created_at).length
  assert.equal((await count(`before=${mark.created_at}`)) + (await count(`after=${mark.created_at}`)) + sameTime, 173)
  async function count(q: string) {
    let n = 0
    const [name] = q.split('=')
    for (let at: string | undefined = q; at; ) {
      const page: Reply = await as(ada, 'GET', `${url}?limit=100&${at}`)
      n += page.body.items.length
      at = page.body.next && `${name}=${page.body.next}`
    }
    return n
  }
  for (const q of [
    'limit=0',
    'limit=-1',
    'limit=101',
    'limit=abc',
    'before=1&after=1',
    'before=x',
    'before=2026-13-01T00:00:00Z',
    `before=${http.deps.clock.id()}`,
    'after=99999999999999999',
    "before=1'--",
  ]) {
    assert.equal((await as(ada, 'GET', `${url}?${q}`)).status, 400, q)
  }
})

test('3.2 events are the raw log: dense frames that pass the catalogue', async () => {
  const { id } = await group(ada, 'bob')
  await send(ada, id, { content: 'hello' })
  const all = await as(bob, 'GET', `/conversations/${id}/events`)
  assert.deepEqual([all.body.first_seq, all.body.head_seq], [1, 3])
  assert.deepEqual(
    all.body.items.map((e: { type: string; seq: number }) => [e.seq, e.type]),
    [
      [1, 'room.member_joined'],
      [2, 'room.member_joined'],
      [3, 'message.new'],
    ],
  )
  for (const frame of all.body.items) assert.ok('frame' in checkServerFrame(frame), JSON.stringify(frame))
  const rest = await as(bob, 'GET', `/conversations/${id}/events?after=2&limit=1000`)
  assert.equal(rest.body.items.length, 1)
  assert.equal((await as(bob, 'GET', `/conversations/${id}/events?limit=1001`)).status, 400)
  assert.equal((await as(eve, 'GET', `/conversations/${id}/events`)).status, 404)
})

test('F-01 reading moves the position that the list shows; strangers are told nothing', async () => {
  const { id } = await group(ada, 'bob')
  const sent = (await send(ada, id, { content: 'read me' })).body
  const unread = async () => (await as(bob, 'GET', `/conversations/${id}`)).body
  assert.equal((await unread()).unread, 1)
  const read = await as(bob, 'POST', `/messages/${sent.id}/read`)
  assert.deepEqual([read.status, read.body], [200, { conversation_id: id, read_seq: sent.seq }])
  assert.equal((await as(eve, 'POST', `/messages/${sent.id}/read`)).status, 404)
  assert.equal((await as(bob, 'POST', `/messages/${http.deps.clock.id()}/read`)).status, 404)
  assert.equal((await as(bob, 'POST', '/messages/nonsense/read')).status, 400)
  for (const until = performance.now() + 12_000; (await unread()).unread !== 0; await sleep(200)) {
    assert.ok(performance.now() < until, 'the position is stored within a flush')
  }
  assert.equal((await unread()).read_seq, sent.seq)
})

test('R10 a block is made once, hides the blocker, stops sends and new dms, and is undone', async () => {
  const [gil, hal] = [await http.person('gil_r10'), await http.person('hal_r10')]
  const dm = (await make(gil, { type: 'dm', usernames: ['hal_r10'] })).body.id
  assert.equal((await as(gil, 'POST', '/blocks/hal_r10')).status, 201)
  assert.equal((await as(gil, 'POST', '/blocks/HAL_r10')).status, 200)
  assert.deepEqual(
    (await as(gil, 'GET', '/blocks')).body.items.map((u: { id: string }) => u.id),
    [hal.id],
  )
  assert.equal((await as(hal, 'GET', '/users/gil_r10')).status, 404)
  for (const who of [gil, hal]) assert.equal((await send(who, dm, { content: 'hi' })).status, 403)
  assert.equal((await as(hal, 'GET', `/conversations/${dm}/messages`)).status, 200)
  const kim = await http.person('kim_r10')
  await as(kim, 'POST', '/blocks/hal_r10')
  assert.equal((await make(hal, { type: 'dm', usernames: ['kim_r10'] })).status, 403)
  assert.equal((await as(gil, 'DELETE', '/blocks/hal_r10')).status, 204)
  assert.equal((await send(hal, dm, { content: 'hi' })).status, 201)
  assert.equal((await as(gil, 'POST', '/blocks/gil_r10')).status, 400)
  assert.equal((await as(gil, 'POST', '/blocks/assistant')).status, 403)
  assert.equal((await as(gil, 'POST', '/blocks/nobody_here')).status, 404)
})

test('B-07 a stranger finds nothing at any route of a conversation', async () => {
  const { id } = await group(ada, 'bob')
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['PATCH', '', { title: 'x' }],
    ['DELETE', '', undefined],
    ['GET', '/messages', undefined],
    ['GET', '/events', undefined],
    ['POST', '/messages', { content: 'x' }],
    ['POST', '/members', { username: 'eve' }],
    ['DELETE', `/members/${ada.id}`, undefined],
    ['PATCH', `/members/${ada.id}`, { role: 'admin' }],
  ] as const) {
    const there = await as(eve, method, `/conversations/${id}${path}`, body)
    const nowhere = await as(eve, method, `/conversations/${http.deps.clock.id()}${path}`, body)
    assert.equal(there.status, 404, `${method} ${path}`)
    assert.equal(there.body.error, nowhere.body.error)
  }
})

test('S17 membership, roles, deletion and blocks leave one record each, repetitions none', async () => {
  const actor = await http.person('actor_s17')
  const { id } = await group(actor, 'bob')
  const members = `/conversations/${id}/members`
  await as(actor, 'POST', members, { username: 'cyd' })
  await as(actor, 'POST', members, { username: 'cyd' })
  await as(actor, 'PATCH', `${members}/${cyd.id}`, { role: 'admin' })
  await as(actor, 'DELETE', `${members}/${cyd.id}`)
  await as(actor, 'PATCH', `/conversations/${id}`, { title: 'No right of anybody' })
  await as(actor, 'PATCH', `/conversations/${id}`, { tool_policy: 'members' })
  await as(actor, 'PATCH', `/conversations/${id}`, { tool_policy: 'members' })
  await as(actor, 'POST', '/blocks/eve')
  await as(actor, 'POST', '/blocks/eve')
  await as(actor, 'DELETE', '/blocks/eve')
  await as(actor, 'DELETE', `/conversations/${id}`)
  const expected = [
    'account.register',
    'member.add',
    'member.role',
    'member.remove',
    'tool_policy.members',
    'block',
    'unblock',
    'conversation.delete',
  ]
  let actions: string[] = []
  for (
    const until = performance.now() + 2000;
    actions.length < expected.length && performance.now() < until;
    await sleep(20)
  ) {
    const { rows } = await http.owner.pool.query('select action from audit where actor_id = $1 order by at', [actor.id])
    actions = rows.map((r: { action: string }) => r.action)
  }
  assert.deepEqual(actions, expected)
})
