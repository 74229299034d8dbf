import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { cookieOf, type Reply, type TestHttp, testHttp } from '#load/kit/http.ts'

let http: TestHttp
before(async () => {
  http = await testHttp()
})
after(() => http.close())

const password = 'correct horse'
const refresh = (cookie: string) => http.call('POST', '/auth/refresh', { headers: { cookie } })
const reasonOf = (reply: Reply) => [reply.status, reply.body.error_code, reply.body.details?.reason]

test('A-01 registering stores a bcrypt hash and nothing of the password; the same address again is 409', async () => {
  const first = await http.call('POST', '/api/auth/register', {
    body: { email: 'Ada@Example.org', password: 'pä$$word-ada' },
  })
  assert.equal(first.status, 201)
  assert.equal(first.body.user.username, 'ada')
  assert.equal(first.body.user.email, 'ada@example.org')
  assert.equal(first.body.token_type, 'Bearer')
  assert.match(
    String(first.headers['set-cookie']),
    /^parley_refresh=[\w-]{43}; HttpOnly; SameSite=Strict; Path=\/; Max-Age=\d+$/,
  )
  const { rows } = await http.owner.pool.query(
    'select row_to_json(u)::text as t, password_bcrypt as hash from users u where email = $1',
    ['ada@example.org'],
  )
  assert.match(rows[0].hash, /^\$2[aby]\$04\$/)
  assert.ok(!rows[0].t.includes('pä$$word'))
  const again = await http.call('POST', '/auth/register', { body: { email: 'ADA@example.ORG', password } })
  assert.equal(again.status, 409)
  assert.equal(again.body.error_code, 'CONFLICT')
})

test('A-01 passwords have 8 to 128 characters, counted as code points, and their NFKC forms are one', async () => {
  const at = (n: number, char = 'x') =>
    http.call('POST', '/auth/register', {
      body: { email: `len${n}${char.length}@example.org`, password: char.repeat(n) },
    })
  assert.equal((await at(7)).status, 400)
  assert.equal((await at(8)).status, 201)
  assert.equal((await at(128)).status, 201)
  assert.equal((await at(129)).status, 400)
  assert.equal((await at(128, '𝕏')).status, 201)
  await http.call('POST', '/auth/register', { body: { email: 'nfkc@example.org', password: 'ﬁancée-123' } })
  const login = await http.call('POST', '/auth/login', {
    body: { email: 'nfkc@example.org', password: 'fiancée-123'.normalize('NFD') },
  })
  assert.equal(login.status, 200)
})

test('A-02 wrong password and unknown address get one body after one comparison each', async () => {
  const person = await http.person('grace')
  const hashes = async () => (await http.metrics.parley_password_hashes_total.get()).values[0]?.value ?? 0
  const before = await hashes()
  const wrong = await http.call('POST', '/auth/login', { body: { email: person.email, password: 'wrong horse' } })
  const unknown = await http.call('POST', '/auth/login', {
    body: { email: 'nobody@example.org', password: 'wrong horse' },
  })
  assert.equal((await hashes()) - before, 2)
  for (const reply of [wrong, unknown]) {
    assert.equal(reply.status, 401)
    assert.equal(reply.body.details, undefined)
  }
  assert.equal(wrong.body.error, unknown.body.error)
  const right = await http.call('POST', '/auth/login', { body: { email: 'GRACE@example.org', password } })
  assert.equal(right.status, 200)
  assert.equal(right.body.user.id, person.id)
})

test('A-06 a token is verified without a query and carries nothing personal', async t => {
  const person = await http.person('verify_me')
  const query = t.mock.method(http.database.pool, 'query')
  const access = await http.auth.tokens.verifyAccess(person.token)
  const queries = query.mock.callCount()
  t.mock.restoreAll()
  assert.equal(queries, 0)
  assert.ok('userId' in access && access.userId === person.id)
  const claims = decodeJwt(person.token)
  assert.equal(claims.exp! - claims.iat!, 900)
  assert.deepEqual(Object.keys(claims).sort(), ['aud', 'exp', 'iat', 'iss', 'sid', 'sub', 'sxp'])
  const header = decodeProtectedHeader(person.token)
  assert.deepEqual(Object.keys(header).sort(), ['alg', 'kid', 'typ'])
})

test('A-07 only hashes of refresh tokens are stored', async () => {
  const { cookie } = await http.person('hashed')
  const token = cookie.split('=')[1]!
  const { rows } = await http.owner.pool.query(
    `select string_agg(row_to_json(t)::text, '') as dump from refresh_token t`,
  )
  assert.ok(!rows[0].dump.includes(token))
  assert.ok(!rows[0].dump.includes(Buffer.from(token, 'base64url').toString('hex')))
})

test('A-08 refresh rotates; the old token answers the same successor for 10 s, later it ends the family', async () => {
  const person = await http.person('rotate')
  const other = cookieOf(await http.call('POST', '/auth/login', { body: { email: person.email, password } }))
  const first = await refresh(person.cookie)
  assert.equal(first.status, 200)
  const successor = cookieOf(first)
  assert.notEqual(successor, person.cookie)
  assert.equal(cookieOf(await refresh(person.cookie)), successor)
  // Used or not: the successor's own rotation does not end the grace of its predecessor.
  const third = cookieOf(await refresh(successor))
  assert.equal(cookieOf(await refresh(person.cookie)), successor)

  await http.owner.pool.query(
    `update refresh_token set used_at = used_at - interval '11 s' where user_id = $1 and used_at is not null`,
    [person.id],
  )
  assert.deepEqual(reasonOf(await refresh(person.cookie)), [401, 'UNAUTHORIZED', 'TOKEN_REVOKED'])
  assert.deepEqual(reasonOf(await refresh(third)), [401, 'UNAUTHORIZED', 'TOKEN_REVOKED'])
  assert.deepEqual(reasonOf(await http.call('GET', '/me', { token: first.body.access_token })), [
    401,
    'UNAUTHORIZED',
    'TOKEN_REVOKED',
  ])
  assert.equal((await refresh(other)).status, 200, 'A-09 the second device stays logged in')
})

test('A-08 twenty parallel refreshes of one token give one successor', async () => {
  const { cookie } = await http.person('parallel')
  const replies = await Promise.all(Array.from({ length: 20 }, () => refresh(cookie)))
  assert.deepEqual([...new Set(replies.map(r => r.status))], [200])
  assert.equal(new Set(replies.map(cookieOf)).size, 1)
})

test('A-10 logout ends the session at once and tells who listens; all devices ends all', async () => {
  const person = await http.person('leaver')
  const ended: string[] = []
  http.auth.revocation.onRevoked(ids => void ended.push(...ids))
  const second = await http.call('POST', '/auth/login', { body: { email: person.email, password } })
  const out = await http.call('POST', '/auth/logout', { token: person.token })
  assert.equal(out.status, 200)
  assert.match(String(out.headers['set-cookie']), /Max-Age=0/)
  assert.deepEqual(ended, [decodeJwt(person.token)['sid']])
  assert.deepEqual(reasonOf(await http.call('GET', '/me', { token: person.token })), [
    401,
    'UNAUTHORIZED',
    'TOKEN_REVOKED',
  ])
  assert.equal((await refresh(person.cookie)).status, 401)
  assert.equal((await http.call('GET', '/me', { token: second.body.access_token })).status, 200)

  const third = await http.call('POST', '/auth/login', { body: { email: person.email, password } })
  const all = await http.call('POST', '/auth/logout', {
    headers: { cookie: cookieOf(third) },
    body: { all_devices: true },
  })
  assert.equal(all.status, 200)
  for (const reply of [second, third]) {
    assert.equal((await http.call('GET', '/me', { token: reply.body.access_token })).status, 401)
  }
})

test('A-10 a session ended elsewhere is known after one poll', async () => {
  const person = await http.person('elsewhere')
  assert.equal((await http.call('GET', '/me', { token: person.token })).status, 200)
  await http.owner.pool.query('update sessions set revoked_at = clock_timestamp() where user_id = $1', [person.id])
  await http.auth.revocation.poll()
  assert.equal((await http.call('GET', '/me', { token: person.token })).status, 401)
})

test('A-16 each word for a bad token', async () => {
  const reason = async (token: string | undefined, headers = {}) =>
    reasonOf(await http.call('GET', '/me', { token, headers }))[2]
  assert.equal(await reason(undefined), 'TOKEN_MISSING')
  assert.equal(await reason('nonsense'), 'TOKEN_INVALID')
  assert.equal(await reason('x'.repeat(8192)), 'TOKEN_INVALID')
  const person = await http.person('words')
  const sid = decodeJwt(person.token)['sid'] as string
  const who = { userId: person.id, sessionId: sid, sessionExpiresAt: Date.now() + 86_400_000 }
  for (const age of [0, -61]) {
    const { token } = await http.auth.tokens.sign(who, age)
    assert.equal(await reason(token), 'TOKEN_EXPIRED')
  }
  const [head, body, signature] = person.token.split('.') as [string, string, string]
  const forged = (header: object, sig = signature) =>
    `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${body}.${sig}`
  const real = decodeProtectedHeader(person.token)
  for (const token of [
    forged({ ...real, alg: 'none' }, ''),
    forged({ ...real, alg: 'HS256' }),
    forged({ ...real, kid: '../../etc/passwd' }),
    forged({ ...real, kid: "' or 1=1 --" }),
    forged({ ...real, typ: 'JWT' }),
    `${head}.${body}.${randomBytes(64).toString('base64url')}`,
    person.cookie.split('=')[1]!,
  ]) {
    assert.equal(await reason(token), 'TOKEN_INVALID', token)
  }
  assert.equal(await reason(undefined, { authorization: 'Basic abc' }), 'TOKEN_INVALID')
  assert.deepEqual(reasonOf(await http.call('POST', '/auth/refresh')), [401, 'UNAUTHORIZED', 'TOKEN_MISSING'])
  assert.deepEqual(reasonOf(await http.call('GET', `/me?token=${person.token}`)), [
    401,
    'UNAUTHORIZED',
    'TOKEN_MISSING',
  ])
})

test('A-17 guests are refused while they are off', async () => {
  assert.equal((await http.call('POST', '/api/auth/guest')).status, 403)
})

test('A-19 a name is derived from the address: lowered, others to _, numbered when taken, short or reserved', async () => {
  const named = async (email: string) =>
    (await http.call('POST', '/auth/register', { body: { email, password } })).body.user.username
  assert.equal(await named('Zoë.Smith+x@example.org'), 'zo__smith_x')
  assert.equal(await named('zoë.smith+x@example.com'), 'zo__smith_x_2')
  assert.equal(await named('zoë.smith+x@example.net'), 'zo__smith_x_3')
  assert.equal(await named('al@example.org'), 'al_2')
  assert.equal(await named('admin@example.org'), 'admin_2')
  assert.equal(await named('ﬁnn@example.org'), 'finn')
  assert.equal(await named(`${'w'.repeat(40)}@example.org`), 'w'.repeat(26))
  assert.equal(await named(`${'w'.repeat(41)}@example.org`), `${'w'.repeat(26)}_2`)
})

test('A-20 fifty parallel claims of one name give exactly one success', async () => {
  const people = await Promise.all(Array.from({ length: 50 }, (_, i) => http.person(`claimer_${i}`)))
  const replies = await Promise.all(
    people.map((p, i) =>
      http.call('POST', '/users/me/username', { token: p.token, body: { username: i % 2 ? 'TheName' : 'thename' } }),
    ),
  )
  assert.equal(replies.filter(r => r.status === 200).length, 1)
  assert.equal(replies.filter(r => r.status === 409).length, 49)
})

test('A-20 reserved is looked at before the length; a bad form is 400', async () => {
  const { token } = await http.person('renamer')
  const claim = async (username: string) =>
    (await http.call('POST', '/users/me/username', { token, body: { username } })).status
  for (const name of ['me', 'ME', 'admin', 'assistant', 'parley', 'all']) assert.equal(await claim(name), 409, name)
  for (const name of ['ab', 'a b c', 'näme', 'x'.repeat(31)]) assert.equal(await claim(name), 400, name)
  assert.equal(await claim('Renamed_1'), 200)
})

test('A-21 search is a prefix search in stable order that hides blockers, guests and the deleted', async () => {
  const me = await http.person('searcher')
  const ids = new Map<string, string>()
  for (const name of ['pre_b', 'pre_a', 'pre_c', 'pre_blocker', 'pre_deleted', 'pre_guest', 'prexa']) {
    ids.set(name, (await http.person(name)).id)
  }
  await http.owner.pool.query('update users set deleted_at = now() where id = $1', [ids.get('pre_deleted')])
  await http.owner.pool.query('update users set is_guest = true where id = $1', [ids.get('pre_guest')])
  await http.owner.pool.query('insert into blocks (blocker_id, blocked_id) values ($1, $2)', [
    ids.get('pre_blocker'),
    me.id,
  ])
  const search = (query: string) => http.call('GET', `/users/search?${query}`, { token: me.token })
  const names = (reply: Reply) => reply.body.items.map((u: { username: string }) => u.username)
  assert.deepEqual(names(await search('q=PRE_')), ['pre_a', 'pre_b', 'pre_c'])
  const first = await search('q=pre_&limit=2')
  assert.deepEqual(names(first), ['pre_a', 'pre_b'])
  assert.deepEqual(names(await search(`q=pre_&limit=2&after=${first.body.next}`)), ['pre_c'])
  assert.deepEqual(Object.keys(first.body.items[0]).sort(), [
    'avatar_url',
    'created_at',
    'display_name',
    'id',
    'username',
  ])
  for (const q of ['%25%25', '__', "''", '%5C%5C', '.*', '%5B%5E%5D'])
    assert.deepEqual(names(await search(`q=${q}`)), [], q)
  for (const bad of [
    '',
    'q=a',
    `q=${'a'.repeat(200)}`,
    'q=ab&q=cd',
    'q=ab&limit=0',
    'q=ab&limit=51',
    'q=ab&limit=abc',
    'q=ab&x=1',
    'q=a%00b',
  ]) {
    assert.equal((await search(bad)).status, 400, bad)
  }
  assert.equal((await http.call('GET', '/users/pre_blocker', { token: me.token })).status, 404)
})

test('A-22 a public profile has no address; unknown is 404; the assistant has one', async () => {
  const { token } = await http.person('viewer')
  const profile = await http.call('GET', '/users/Viewer', { token })
  assert.equal(profile.status, 200)
  assert.equal(profile.body.email, undefined)
  assert.equal((await http.call('GET', '/users/nobody_at_all', { token })).status, 404)
  assert.equal((await http.call('GET', '/users/assistant', { token })).body.id, '00000000-0000-7000-8000-0000000a1000')
})

test('A-23 one’s profile is changed and kept; bad values are 400', async () => {
  const { token } = await http.person('profile')
  const change = (body: object) => http.call('POST', '/users/me', { token, body })
  const changed = await change({ display_name: ' Pro\u200d ', avatar_url: 'https://example.org/a.png' })
  assert.equal(changed.body.display_name, ' Pro\u200d ')
  assert.equal((await http.call('GET', '/me', { token })).body.avatar_url, 'https://example.org/a.png')
  assert.equal((await change({ avatar_url: null })).body.avatar_url, null)
  for (const body of [
    { avatar_url: 'http://example.org/a.png' },
    { avatar_url: 'javascript:alert(1)' },
    { avatar_url: `https://example.org/${'a'.repeat(600)}` },
    { display_name: '' },
    { display_name: '   ' },
    { display_name: 'a\nb' },
    { display_name: 'x'.repeat(65) },
    { display_name: '\ud800' },
    { display_name: 5 },
    { email: 'x@y.z' },
  ]) {
    assert.equal((await change(body)).status, 400, JSON.stringify(body))
  }
})

test('S5 cookie routes refuse a foreign Origin and take their own', async () => {
  const person = await http.person('origin')
  const at = (origin: string) =>
    http.call('POST', '/auth/refresh', { headers: { cookie: person.cookie, origin, host: 'chat.example.org' } })
  assert.equal((await at('https://evil.example')).status, 403)
  assert.equal((await at('null')).status, 403)
  assert.equal((await at('http://chat.example.org')).status, 200)
})

test('S17 each of register, login, failed login, logout and reuse leaves one record', async () => {
  const person = await http.person('audited')
  await http.call('POST', '/auth/login', { body: { email: person.email, password: 'wrong' } })
  await http.call('POST', '/auth/logout', { token: person.token })
  const { rows } = await http.owner.pool.query(
    `select action from audit where actor_id = $1 or target_id = $1::text order by id`,
    [person.id],
  )
  assert.deepEqual(
    rows.map((r: { action: string }) => r.action),
    ['account.register', 'login.failed', 'logout'],
  )
})
