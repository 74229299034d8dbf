import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import { startTestEngine, type TestEngine } from '#load/kit/engine.ts'
import { type Person, type TestHttp, testHttp } from '#load/kit/http.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'

/** 2 000 with every run; more by PARLEY_FUZZ_CALLS. */
const calls = Number(process.env['PARLEY_FUZZ_CALLS'] ?? 2000)

let database: TestDatabase
let engine: TestEngine
let http: TestHttp
let ada: Person
let known: string[]

before(async () => {
  database = await testDatabase()
  const env = { RATE_LIMIT_SCALE: '1000000' }
  engine = await startTestEngine(database.url, env)
  http = await testHttp({ database, engine: engine.client, env })
  ada = await http.person('ada')
  const bob = await http.person('bob')
  const make = (body: object) => http.call('POST', '/conversations', { token: ada.token, body })
  const group = (await make({ type: 'group', usernames: ['bob'] })).body.id
  const dm = (await make({ type: 'dm', usernames: ['bob'] })).body.id
  const sent = await http.call('POST', `/conversations/${group}/messages`, {
    token: bob.token,
    body: { content: 'hi' },
  })
  known = [group, dm, sent.body.id, bob.id, ada.id]
})
after(async () => {
  await http.close()
  await engine.stop()
  await database.drop()
})

interface Schema {
  type?: string | string[]
  enum?: string[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
}
interface Operation {
  parameters: { name: string; in: string; required: boolean; schema: Schema }[]
  requestBody?: { content: { 'application/json': { schema: Schema } } }
  responses: Record<string, { content?: { 'application/json': { schema: Schema } } }>
  security?: unknown
}

const odd = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    ' ',
    '%',
    '_',
    "'",
    '\\',
    '../..',
    '\u0000',
    '\ud800',
    '𝕏'.repeat(300),
    '-1',
    '0',
    '1e9',
    'null',
    'x'.repeat(5000),
  ),
)
const anyJson = fc.oneof(
  odd,
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.array(odd, { maxLength: 3 }),
  fc.dictionary(odd, odd, { maxKeys: 3 }),
)

/** Mostly what the schema wants, sometimes anything at all. */
function anyOf(name: string, schema: Schema): fc.Arbitrary<unknown> {
  const type = [schema.type].flat()[0]
  const fitting: fc.Arbitrary<unknown> = schema.enum
    ? fc.constantFrom(...schema.enum)
    : name.endsWith('id')
      ? fc.oneof(fc.constantFrom(...known), fc.uuid())
      : name === 'username' || name === 'q'
        ? fc.constantFrom('bob', 'ada', 'assistant', 'nobody', 'BOB')
        : name === 'email'
          ? fc.emailAddress()
          : type === 'integer'
            ? fc.integer({ min: 1, max: 10 })
            : type === 'boolean'
              ? fc.boolean()
              : type === 'array'
                ? fc.array(anyOf('username', schema.items ?? {}), { maxLength: 3 })
                : fc.oneof(
                    fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' }),
                    fc.integer({ min: 0, max: 100 }).map(String),
                  )
  return fc.oneof({ weight: 5, arbitrary: fitting }, { weight: 1, arbitrary: anyJson })
}

function bodyOf(schema: Schema): fc.Arbitrary<unknown> {
  const fields = Object.entries(schema.properties ?? {}).map(([name, s]) => [name, anyOf(name, s)] as const)
  const whole = fc.record(Object.fromEntries(fields), { requiredKeys: schema.required ?? [] })
  return fc.oneof({ weight: 8, arbitrary: whole }, { weight: 1, arbitrary: anyJson })
}

test('3.3 whatever is sent, the answer is one that the document names, of its schema, and never our fault', async () => {
  const document = (await http.call('GET', '/docs/openapi.json')).body
  const ajv = new Ajv({ strict: false })
  ajv.addSchema(document.components.schemas.Error, '#/components/schemas/Error')
  const operations = Object.entries(document.paths as Record<string, Record<string, Operation>>).flatMap(
    ([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const call = fc.constantFrom(...operations).chain(({ path, method, operation }) => {
    const schema = operation.requestBody?.content['application/json'].schema
    return fc.record({
      at: fc.constant({ path, method, operation }),
      parameters: fc.record(Object.fromEntries(operation.parameters.map(p => [p.name, anyOf(p.name, p.schema)])), {
        requiredKeys: operation.parameters.filter(p => p.required).map(p => p.name),
      }),
      body: schema ? bodyOf(schema) : fc.constant(undefined),
      isSignedIn: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
    })
  })
  const seen = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(call, async ({ at: { path, method, operation }, parameters, body, isSignedIn }) => {
      let url = path
      const query: string[] = []
      for (const p of operation.parameters) {
        const value = parameters[p.name]
        if (value === undefined) continue
        // An empty segment would be another path.
        const text = encodeURIComponent((typeof value === 'string' ? value : JSON.stringify(value)).toWellFormed())
        if (p.in === 'path') url = url.replace(`{${p.name}}`, text === '' || /^\.+$/.test(text) ? 'x' : text)
        else query.push(`${p.name}=${text}`)
      }
      const reply = await http.call(method.toUpperCase(), query.length > 0 ? `${url}?${query.join('&')}` : url, {
        // Logging out for good would end the game.
        token: isSignedIn && !url.endsWith('logout') ? ada.token : undefined,
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      })
      seen.set(reply.status, (seen.get(reply.status) ?? 0) + 1)
      const name = `${method} ${url} ${query.join('&')} → ${reply.status} ${reply.text.slice(0, 200)}`
      // No hub runs here, so a turn cannot be followed: that is said, and is no fault of a request's.
      const isAway = reply.status === 503 && name.includes('/chat ')
      assert.ok(reply.status < 500 || isAway, name)
      // A parameter longer than any route takes is a path that does not exist.
      const isOtherPath = reply.status === 404 && /nothing here/.test(reply.text)
      if (isOtherPath) return
      const response = operation.responses[reply.status]
      assert.ok(response, name)
      const schema = response.content?.['application/json'].schema
      if (schema) assert.ok(ajv.validate(schema, reply.body), `${name}: ${ajv.errorsText()}`)
    }),
    { numRuns: calls, endOnFailure: true },
  )
  assert.ok((seen.get(200) ?? 0) > calls / 20 && (seen.get(201) ?? 0) > 0, JSON.stringify([...seen]))
})
