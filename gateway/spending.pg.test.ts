/** Quota and tokens of the day, on real processes: the provider says no for a while, the day is used up, and what is told. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createModelServer } from '#engine/assistant/dev-model.ts'
import { openClient } from '#load/kit/client.ts'
import { type Stack, startStack } from '#load/kit/stack.ts'

const model = createModelServer()
/** Requests that the provider still refuses for its quota. */
let refusals = 0
/** So long it thinks. */
let thinkMs = 0
const upstream = createServer((request, response) => {
  if (refusals === 0) return void setTimeout(() => model.emit('request', request, response), thinkMs)
  refusals--
  response.writeHead(429, { 'content-type': 'application/json', 'retry-after': '2' })
  response.end('{"error":{"message":"no quota","type":"insufficient_quota","code":"insufficient_quota"}}')
})
let stack: Stack

before(async () => {
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  const { port } = upstream.address() as AddressInfo
  // The scale of rates is 1,000 here: 12,000 tokens a day.
  stack = await startStack({ OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`, AI_TOKENS_PER_DAY: '12' })
})
after(async () => {
  // A stack that did not start has nothing to stop, and must not keep the file open.
  await (stack as Stack | undefined)?.stop()
  upstream.closeAllConnections()
  upstream.close()
})

test('I-08 without quota a question is answered 503 and queued, and later answered exactly once', async () => {
  const user = await stack.user('quota')
  refusals = 1
  const body = { message: 'hello', client_message_id: randomUUID() }
  const first = await user.rest('POST', `/api/${user.id}/chat`, body)
  assert.equal(first.status, 503, JSON.stringify(first.body))
  assert.equal(first.body.details.outcome, 'queued')
  assert.equal((await stack.sql('select 1 from ai_slot')).length, 0)
  const { conversation_id, message_id } = first.body.details
  const repeat = () => user.rest('POST', `/api/${user.id}/chat`, { ...body, conversation_id })
  let again = await repeat()
  for (const by = Date.now() + 10_000; again.status === 503; again = await repeat()) assert.ok(Date.now() < by)
  assert.deepEqual([again.status, again.body.message_id], [200, message_id])
  assert.match(again.body.response, /Hello/)
  const events = await stack.sql<{ kind: string; n: number }>(
    'select kind, count(*)::int as n from event where conversation_id = $1 group by kind order by kind',
    [conversation_id],
  )
  assert.deepEqual(Object.fromEntries(events.map(e => [e.kind, e.n])), {
    'chat.started': 1,
    'message.new': 2,
    'room.member_joined': 1,
  })
})

test('S22 the tokens of the day are reserved and settled, told by /me/usage, and never overspent', async () => {
  const user = await stack.user('spender')
  const usage = async () => (await user.rest('GET', '/me/usage')).body
  const fresh = await usage()
  assert.deepEqual(fresh.tokens, { limit: 12_000, used: 0, reserved: 0, left: 12_000, is_estimated: false })
  assert.equal(fresh.resets_at.slice(11), '00:00:00.000Z')
  const ask = (message: string) => user.rest('POST', `/api/${user.id}/chat`, { message })
  const one = await ask('what is on my mind?')
  assert.equal(one.status, 200)
  for (const by = Date.now() + 3000; (await usage()).tokens.reserved > 0; await sleep(20)) assert.ok(Date.now() < by)
  const spent = (await usage()).tokens
  assert.deepEqual([spent.used, spent.left], [one.body.tokens.total, 12_000 - one.body.tokens.total])
  // Several at once, the first still under way when the next begins: what does not fit is refused, whatever the order.
  thinkMs = 300
  const replies = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(`what is on my mind? ${i}`)))
  thinkMs = 0
  const refused = replies.filter(r => r.status === 429)
  assert.ok(refused.length > 0 && refused.length < 12, replies.map(r => r.status).join())
  for (const { body } of refused) {
    assert.deepEqual([body.error_code, body.details.limit], ['RATE_LIMITED', 'tokens'])
    assert.ok(body.details.left >= 0 && body.details.left < 12_000 && body.details.resets_at.endsWith('T00:00:00.000Z'))
  }
  assert.ok((await usage()).tokens.left >= 0)
})

test('S22 on a socket a turn without tokens ends failed, and its requester is told RLIMIT and when', async t => {
  const user = await stack.user('socket')
  await stack.sql(
    `insert into ai_budget (user_id, day, used) values ($1, (clock_timestamp() at time zone 'UTC')::date, 11000)`,
    [user.id],
  )
  const { body: room } = await user.rest('POST', '/conversations', { type: 'ai', title: 'Poor' })
  const client = await openClient(stack.url, { token: user.token })
  t.after(() => client.close())
  client.send({ type: 'room.join', conversationId: room.id })
  await client.next(f => f['type'] === 'room.joined')
  client.send({ type: 'chat.send', conversationId: room.id, clientMessageId: randomUUID(), content: 'hi' })
  const error = await client.next(f => f['type'] === 'error')
  assert.deepEqual([error['code'], error['reason'], error['retryable']], ['RLIMIT', 'budget', true])
  assert.ok(Number(error['retryAfterMs']) > 0 && Number(error['retryAfterMs']) <= 86_400_000)
  const done = await client.next(f => f['type'] === 'chat.done')
  assert.deepEqual([done['finish'], done['messageId']], ['failed', error['messageId']])
})

test('J-03 over HTTP a stream tells why its turn failed, before the end; one that is asked for again is as it was', async () => {
  const user = await stack.user('streamer')
  const stream = async (message: string, id: string) => {
    const body = { message, client_message_id: id, stream: true }
    const response = await fetch(`${stack.url}/api/${user.id}/chat`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const frames = [...(await response.text()).matchAll(/^data: (.*)$/gmu)].map(found => JSON.parse(found[1]!))
    return { frames, types: frames.map(f => f.type).filter(type => type !== 'chat.stream') }
  }
  const id = randomUUID()
  const cut = await stream('#fault cut', id)
  assert.deepEqual(cut.types, ['ack', 'chat.started', 'error', 'message.new', 'chat.done'])
  const error = cut.frames.find(f => f.type === 'error')
  assert.deepEqual([error.code, error.retryable, error.messageId], ['UPSTREAM', true, cut.frames.at(-1).messageId])
  const again = await stream('#fault cut', id)
  assert.deepEqual(again.types, ['ack', 'message.new', 'chat.done'])

  await stack.sql(
    `insert into ai_budget (user_id, day, used) values ($1, (clock_timestamp() at time zone 'UTC')::date, 9000)
       on conflict (user_id, day) do update set used = 9000`,
    [user.id],
  )
  // A turn could be answered with what is left, but not this one.
  const poor = await stream(`long ${'x'.repeat(4000)}`, randomUUID())
  assert.deepEqual(poor.types, ['ack', 'chat.started', 'error', 'message.new', 'chat.done'])
  const refusal = poor.frames.find(f => f.type === 'error')
  assert.deepEqual([refusal.code, refusal.reason, refusal.retryable], ['RLIMIT', 'budget', true])
  assert.match(refusal.message, /\d+ left, this needs up to \d+/u)
  assert.ok(refusal.retryAfterMs > 0)
})
