import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { Ajv } from 'ajv'
import { cookieOf, type Person, type TestHttp, testHttp } from '#load/kit/http.ts'
import { refusalsOf } from './openapi.ts'
import { routesOf } from './routes.ts'

let http: TestHttp
let ada: Person
let port: number
const dist = new URL('../../load/kit/dist-sample/', import.meta.url).pathname

before(async () => {
  http = await testHttp({
    env: { CORS_ALLOWED_ORIGINS: 'https://friend.example' },
    deps: { requestTimeoutMs: 700, webDist: dist },
  })
  ada = await http.person('ada')
  await http.app.listen({ port: 0, host: '127.0.0.1' })
  port = (http.app.server.address() as { port: number }).port
})
after(() => http.close())

/** Bytes to the server, bytes back until it closes or is quiet. */
function raw(bytes: string, quietMs = 300): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let text = ''
    socket.setTimeout(quietMs, () => socket.destroy())
    socket.on('data', chunk => (text += chunk))
    socket.on('close', () => resolve(text))
    socket.on('error', reject)
    socket.write(bytes)
  })
}
const refusal = (reply: { status: number; body: { error_code: string } }) => `${reply.status} ${reply.body?.error_code}`

test('J-06 every refusal has error, error_code, request_id and the headers that every answer has', async () => {
  for (const [method, url, options, expected] of [
    ['GET', '/nowhere', {}, '404 NOT_FOUND'],
    ['GET', '/api/nowhere', {}, '404 NOT_FOUND'],
    ['DELETE', '/me', {}, '405 INVALID_REQUEST'],
    ['GET', '/users/me', {}, '405 INVALID_REQUEST'],
    ['PUT', '/api/conversations', {}, '405 INVALID_REQUEST'],
    ['GET', '/me', {}, '401 UNAUTHORIZED'],
    ['GET', '/me', { token: ada.token, headers: { accept: 'text/html' } }, '406 INVALID_REQUEST'],
    ['GET', '/conversations/not-an-id', { token: ada.token }, '400 INVALID_REQUEST'],
    ['GET', '/conversations/018f3b20-11aa-7c3e-8b57-2d9c5f60a7e1', { token: ada.token }, '404 NOT_FOUND'],
    ['GET', '/conversations/a%2Fb', { token: ada.token }, '400 INVALID_REQUEST'],
    ['GET', '/users/a%00b', { token: ada.token }, '400 INVALID_REQUEST'],
    ['GET', '/users/%zz', { token: ada.token }, '400 INVALID_REQUEST'],
    ['GET', '/me?x=1', { token: ada.token }, '400 INVALID_REQUEST'],
    [
      'POST',
      '/users/me',
      { token: ada.token, body: '{', headers: { 'content-type': 'application/json' } },
      '400 INVALID_REQUEST',
    ],
    [
      'POST',
      '/users/me',
      { token: ada.token, body: '\u0000', headers: { 'content-type': 'application/json' } },
      '400 INVALID_REQUEST',
    ],
    [
      'POST',
      '/users/me',
      { token: ada.token, body: 'x', headers: { 'content-type': 'text/plain' } },
      '415 INVALID_REQUEST',
    ],
    [
      'POST',
      '/users/me',
      { token: ada.token, body: 'a=b', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      '415 INVALID_REQUEST',
    ],
    ...(
      [
        { 'content-type': 'application/json; charset=latin1' },
        { 'content-type': 'application/json; charset="utf-16"' },
        { 'content-type': 'application/json', 'content-encoding': 'gzip' },
        { 'content-type': 'application/json', 'content-encoding': 'identity, br' },
      ] as Record<string, string>[]
    ).map(headers => ['POST', '/users/me', { token: ada.token, body: '{}', headers }, '415 INVALID_REQUEST'] as const),
    ['POST', '/users/me', { token: ada.token, body: { display_name: 'x'.repeat(70_000) } }, '413 TOO_LARGE'],
    ['POST', '/users/me', { token: ada.token }, '400 INVALID_REQUEST'],
    ['POST', '/users/me', { token: ada.token, body: { display_name: '\ud800' } }, '400 INVALID_REQUEST'],
    ['POST', '/users/me', { token: ada.token, body: { display_name: 'a\u0000b' } }, '400 INVALID_REQUEST'],
    ['POST', '/users/me', { token: ada.token, body: JSON.parse('{"__proto__":{"x":1}}') }, '400 INVALID_REQUEST'],
    ['POST', '/auth/login', { body: { email: 'a\u0000@b.c', password: 'x' } }, '400 INVALID_REQUEST'],
    ['POST', '/auth/guest', {}, '403 FORBIDDEN'],
  ] as const) {
    const reply = await http.call(method, url, options)
    assert.equal(refusal(reply), expected, `${method} ${url}`)
    assert.equal(reply.body.request_id, reply.headers['x-request-id'])
    assert.equal(typeof reply.body.error, 'string')
    assert.equal(reply.headers['content-type'], 'application/json; charset=utf-8')
    assert.equal(reply.headers['x-content-type-options'], 'nosniff')
    assert.equal(reply.headers['cache-control'], 'no-store')
    assert.equal(reply.headers['referrer-policy'], 'no-referrer')
    assert.match(String(reply.headers['content-security-policy']), /default-src 'none'; script-src 'self'/)
    assert.ok(!/at .*\.ts:|node_modules|select /i.test(reply.text), reply.text)
  }
})

test('J-06 a body in UTF-8 that says so is taken', async () => {
  for (const headers of [
    { 'content-type': 'application/json; charset=UTF-8' },
    { 'content-type': 'application/json;charset="utf8"', 'content-encoding': 'identity' },
  ] as Record<string, string>[]) {
    const reply = await http.call('POST', '/users/me', { token: ada.token, body: '{"display_name":"Ada"}', headers })
    assert.equal(reply.status, 200, reply.text)
  }
})

test('J-06 what Node would answer with an empty body has the form of every error', async () => {
  const expecting = 'GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: the worst\r\nConnection: close\r\n\r\n'
  for (const [bytes, status] of [
    ['GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
    [expecting, 417],
  ] as const) {
    const text = await raw(bytes)
    const [head, body] = text.split('\r\n\r\n') as [string, string]
    assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `))
    const id = /x-request-id: (\S+)/i.exec(head)?.[1]
    const { error, ...rest } = JSON.parse(body.replace(/^[0-9a-f]+\r\n/i, '').split('\r\n')[0]!)
    assert.equal(typeof error, 'string')
    assert.deepEqual(rest, { error_code: 'INVALID_REQUEST', request_id: id })
    assert.match(head, /x-content-type-options: nosniff/i)
  }
})

test('J-06 a wrong method names the right ones, also below /api, and OPTIONS is answered', async () => {
  assert.equal((await http.call('PUT', '/conversations')).headers['allow'], 'POST, GET, HEAD, OPTIONS')
  assert.equal((await http.call('PUT', '/users/me')).headers['allow'], 'POST, OPTIONS')
  const options = await http.call('OPTIONS', '/api/blocks/someone')
  assert.equal(options.status, 204)
  assert.equal(options.headers['allow'], 'POST, DELETE, OPTIONS')
  const text = { token: ada.token, headers: { 'content-type': 'text/plain' }, body: 'x' }
  const refused = await http.call('DELETE', '/conversations/018f3b21-9c1d-7aa0-9d3e-5b1f0c7e2a44', text)
  assert.equal(refusal(refused), '415 INVALID_REQUEST')
  const { paths } = (await http.call('GET', '/docs/openapi.json')).body
  assert.ok('415' in paths['/conversations/{id}'].delete.responses)
  const socket = await http.call('GET', '/api/ws/chat?convId=x')
  assert.deepEqual([refusal(socket), socket.headers['upgrade']], ['426 INVALID_REQUEST', 'websocket'])
  assert.equal(refusal(await http.call('POST', '/ws', { body: {} })), '405 INVALID_REQUEST')
  const head = await http.call('HEAD', '/me', { token: ada.token })
  assert.deepEqual([head.status, head.text], [200, ''])
})

test('O-02 only a listed origin gets CORS, exact and with credentials', async () => {
  const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
  const listed = await http.call('OPTIONS', '/conversations', {
    headers: { origin: 'https://friend.example', ...preflight },
  })
  assert.equal(listed.headers['access-control-allow-origin'], 'https://friend.example')
  assert.equal(listed.headers['access-control-allow-credentials'], 'true')
  assert.match(String(listed.headers['access-control-allow-headers']), /authorization/)
  for (const origin of ['https://evil.example', 'https://friend.example.evil', 'null', 'http://friend.example']) {
    const other = await http.call('OPTIONS', '/conversations', { headers: { origin, ...preflight } })
    assert.equal(other.headers['access-control-allow-origin'], undefined, origin)
  }
})

test('A-13 every route that is not public wants a bearer token, and headers that claim a user are ignored', async () => {
  const id = '018f3b20-11aa-7c3e-8b57-2d9c5f60a7e1'
  for (const spec of routesOf(http.deps)) {
    if (spec.auth !== 'bearer') continue
    const url = spec.path.replace(':username', 'ada').replace(/:\w+/g, id)
    const reply = await http.call(spec.method, url, { headers: { 'x-user-id': ada.id, cookie: ada.cookie } })
    assert.equal(refusal(reply), '401 UNAUTHORIZED', `${spec.method} ${url}`)
    assert.equal(reply.body.details.reason, 'TOKEN_MISSING')
    assert.equal(reply.headers['www-authenticate'], 'Bearer')
  }
})

test('strict "5" for 5 and an extra key are 400 on every route with a body', async () => {
  const id = '018f3b20-11aa-7c3e-8b57-2d9c5f60a7e1'
  let seen = 0
  for (const spec of routesOf(http.deps)) {
    if (spec.method !== 'POST' && spec.method !== 'PATCH') continue
    const url = spec.path.replace(':username', 'ada').replace(/:\w+/g, id)
    const fields = (spec.body as { properties?: Record<string, { type?: string }> } | undefined)?.properties ?? {}
    const extra = await http.call(spec.method, url, { token: ada.token, body: { extra: 1 } })
    assert.equal(extra.status, 400, `${spec.method} ${url} extra`)
    for (const [name, field] of Object.entries(fields)) {
      const wrong = field.type === 'integer' ? '5' : field.type === 'boolean' ? 'true' : 5
      const reply = await http.call(spec.method, url, { token: ada.token, body: { ...sample(fields), [name]: wrong } })
      assert.equal(reply.status, 400, `${spec.method} ${url} ${name}`)
      seen++
    }
  }
  assert.ok(seen > 10)
})

function sample(fields: Record<string, object>): Record<string, unknown> {
  const values: Record<string, unknown> = {
    email: 'x@example.org',
    password: 'correct horse',
    username: 'someone',
    content: 'hello',
    type: 'group',
    role: 'member',
  }
  return Object.fromEntries(Object.keys(fields).flatMap(name => (name in values ? [[name, values[name]]] : [])))
}

test('3.3 two Authorization headers are nobody’s; a broken or slow request is answered and closed', async () => {
  const two = await raw(
    `GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${ada.token}\r\nAuthorization: Bearer ${ada.token}\r\n\r\n`,
  )
  assert.match(two, /^HTTP\/1\.1 401 /)
  assert.match(two, /TOKEN_INVALID/)
  const both = await raw(
    'POST /auth/logout HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  )
  assert.match(both, /^HTTP\/1\.1 400 /)
  assert.match(both, /"error_code":"INVALID_REQUEST"/)
  const started = performance.now()
  const slow = await raw(
    `POST /users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${ada.token}\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{`,
    5000,
  )
  assert.match(slow, /^HTTP\/1\.1 408 /)
  assert.match(slow, /"error_code":"INVALID_REQUEST"/)
  assert.ok(performance.now() - started < 9000)
  const pipelined = await raw('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
  assert.equal(pipelined.match(/HTTP\/1\.1 200/g)?.length, 2)
  const offered = await raw('GET /me HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')
  assert.match(offered, /^HTTP\/1\.1 401 /, 'an offer of another protocol changes nothing')
  assert.match(await raw(`GET /me HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /)
})

test('healthz is alive; readyz says no more than whether it is, what is missing stays inside', async () => {
  assert.equal((await http.call('GET', '/healthz')).status, 200)
  const ready = await http.call('GET', '/api/readyz')
  assert.equal(ready.status, 503)
  assert.deepEqual(ready.body, { status: 'unavailable' })
  const inside = await http.deps.health.ready()
  assert.deepEqual(inside.body['checks'], { database: 'ok', engine: 'away', revocation: 'ok', draining: 'no' })
})

test('J-07 an engine that is away is 503 with Retry-After', async () => {
  const reply = await http.call('POST', '/conversations', { token: ada.token, body: { type: 'ai' } })
  assert.equal(refusal(reply), '503 SERVICE_UNAVAILABLE')
  assert.equal(reply.headers['retry-after'], '1')
})

test('web pages are one document, assets are immutable, nothing outside the folder is reached', async () => {
  for (const path of ['/', '/login', '/setup-username', '/u/ada', '/app', '/app/x/y', '/chat/1', '/join/abc']) {
    const page = await http.call('GET', path, { headers: { accept: 'text/html' } })
    assert.equal(page.status, 200, path)
    assert.match(String(page.headers['content-type']), /^text\/html/)
    assert.equal(page.headers['cache-control'], 'no-cache')
    assert.match(page.text, /sample/)
  }
  const asset = await http.call('GET', '/assets/sample-1a2b3c.js')
  assert.equal(asset.headers['cache-control'], 'public, max-age=31536000, immutable')
  const again = await http.call('GET', '/assets/sample-1a2b3c.js', {
    headers: { 'if-none-match': String(asset.headers['etag']) },
  })
  assert.equal(again.status, 304)
  for (const path of [
    '/assets/../../../package.json',
    '/assets/%2e%2e/%2e%2e/package.json',
    '/assets/',
    '/assets',
    '/index.html/x',
  ]) {
    assert.equal((await http.call('GET', path)).status, 404, path)
  }
})

test('J-06 the document names every route, every status that occurs, and its examples fit their schemas', async () => {
  const document = (await http.call('GET', '/docs/openapi.json')).body
  assert.equal(document.openapi, '3.1.0')
  const ajv = new Ajv({ strict: false })
  type Operation = {
    parameters: { name: string; schema: { minimum?: number; maximum?: number; default?: number } }[]
    requestBody?: { content: { 'application/json': { schema: object; example?: unknown } } }
  }
  for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Operation>>)) {
    for (const [method, { parameters, requestBody }] of Object.entries(methods)) {
      const limit = parameters.find(p => p.name === 'limit')?.schema
      if (limit) assert.ok(limit.minimum === 1 && limit.maximum! >= limit.default!, `${method} ${path}`)
      if (!requestBody) continue
      const { schema, example } = requestBody.content['application/json']
      assert.notEqual(example, undefined, `${method} ${path} has no example`)
      assert.ok(ajv.validate(schema, example), `${method} ${path}: ${ajv.errorsText()}`)
    }
  }
  for (const spec of routesOf(http.deps)) {
    const operation = document.paths[spec.path.replace(/:([a-z_]+)/g, '{$1}')][spec.method.toLowerCase()]
    const statuses = [...Object.keys(spec.answers).map(Number), ...refusalsOf(spec)].sort((a, b) => a - b)
    assert.deepEqual(Object.keys(operation.responses).map(Number), statuses)
    for (const [status, answer] of Object.entries(spec.answers)) {
      if (answer.schema)
        assert.ok(ajv.validate(answer.schema, answer.example), `${spec.path} ${status}: ${ajv.errorsText()}`)
    }
    for (const status of refusalsOf(spec)) {
      const { example } = operation.responses[status].content['application/json']
      assert.ok(ajv.validate(document.components.schemas.Error, example))
    }
  }
  for (const path of ['/docs', '/docs/page.js', '/docs/page.css'])
    assert.equal((await http.call('GET', path)).status, 200)
})

test('M-01 the 101st request of a user in a minute is 429 with an honest Retry-After', async t => {
  let now = 0
  const clock = { ...http.deps.clock, mono: () => now }
  const tight = await testHttp({ env: { RATE_LIMIT_SCALE: '1' }, clock })
  t.after(() => tight.close())
  const { token } = await tight.person('limited')
  for (let i = 0; i < 100; i++) assert.equal((await tight.call('GET', '/me', { token })).status, 200)
  const over = await tight.call('GET', '/me', { token })
  assert.equal(refusal(over), '429 RATE_LIMITED')
  now += Number(over.headers['retry-after']) * 1000
  assert.equal((await tight.call('GET', '/me', { token })).status, 200)

  const login = () => tight.call('POST', '/auth/login', { body: { email: 'limited@example.org', password: 'wrong' } })
  for (let i = 0; i < 5; i++) assert.equal((await login()).status, 401, 'M-04 having registered takes no login away')
  const sixth = await login()
  assert.equal(sixth.status, 429)
  const body = { email: 'limited@example.org', password: 'correct horse' }
  for (let i = 0; i < 5; i++) assert.equal((await tight.call('POST', '/auth/register', { body })).status, 409)
  assert.equal((await tight.call('POST', '/auth/register', { body })).status, 429, 'M-04 registering has its own limit')
  now += Number(sixth.headers['retry-after']) * 1000
  assert.equal((await login()).status, 401)
})

test('A-12 over https the cookie is Secure and host-only, and forwarded headers count from trusted proxies only', async t => {
  const proxied = await testHttp({ env: { TRUSTED_PROXIES: '127.0.0.1' } })
  t.after(() => proxied.close())
  const headers = { 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.9' }
  const body = { email: 'secure@example.org', password: 'correct horse' }
  const reply = await proxied.call('POST', '/auth/register', { body, headers })
  assert.match(String(reply.headers['set-cookie']), /^__Host-parley_refresh=.*; Secure$/)
  assert.match(String(reply.headers['strict-transport-security']), /max-age/)
  assert.equal(
    (await proxied.call('POST', '/auth/refresh', { headers: { ...headers, cookie: cookieOf(reply) } })).status,
    200,
  )
  const plain = await http.call('POST', '/auth/register', { body: { ...body, email: 'plain@example.org' }, headers })
  assert.match(String(plain.headers['set-cookie']), /^parley_refresh=/)
})
