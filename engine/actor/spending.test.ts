/** What holds a turn up for want of money: the provider's quota, the tokens of the day. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ann, idOf } from '#engine/conversation/fixtures/scenario.ts'
import { outputTokensMax, quotaRetryMsMin } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { tokens, Worker } from './fixtures/world.ts'
import type { Budget, TurnEvent } from './ports.ts'

const room = idOf(1, 'c')
const ai = (conversationId = room) => ({
  type: 'conversation.create' as const,
  conversationId,
  kind: 'ai' as const,
  title: 'Money',
  members: [{ userId: ann, role: 'owner' as const }],
})
const ask = (n: number, conversationId = room) => ({
  type: 'chat.send' as const,
  conversationId,
  clientMessageId: idOf(n, 'd'),
  content: `q${n}`,
})
const end: TurnEvent = { kind: 'end', finish: 'stop', tokens }

async function until(isSo: () => boolean): Promise<void> {
  for (const by = performance.now() + 5000; !isSo(); ) {
    assert.ok(performance.now() < by, 'it did not come about')
    await sleep(2)
  }
}

test('[T21] without quota a turn waits in the queue without a slot, asks again, gives one answer, and can be stopped', async t => {
  const w = new Worker()
  t.after(() => w.close())
  let asked = 0
  const askedAt: number[] = []
  const away: TurnEvent = { kind: 'end', finish: 'failed', reason: 'quota', retryAfterMs: 0, tokens }
  w.provider.script = async function* () {
    askedAt.push(performance.now())
    if (asked++ < 2) return yield away
    yield { kind: 'delta', text: 'at last' }
    yield end
  }
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  await w.until(o => o.frame.type === 'chat.queued' && o.frame['position'] === 1)
  assert.equal(w.database.slots.size, 0)
  assert.deepEqual(
    [...w.database.runs.values()].map(r => r.status),
    ['queued'],
  )
  const { frame } = await w.until(o => o.frame.type === 'chat.done')
  assert.deepEqual([frame['finish'], asked], ['stop', 3])
  const pauses = askedAt.slice(1).map((at, i) => at - askedAt[i]!)
  assert.ok(Math.min(...pauses) >= quotaRetryMsMin, `${pauses}: a provider that says "at once" is not asked in a loop`)
  const queued = await w.metrics.parley_turn_queue_ms.get()
  assert.equal(queued.values.find(v => v.metricName?.endsWith('_count'))?.value, 1, 'each turn is counted once')
  assert.deepEqual(
    w.log(room).map(r => r.kind),
    ['room.member_joined', 'message.new', 'chat.started', 'message.new'],
  )
  assert.equal(w.database.slots.size, 0)
  w.provider.script = async function* () {
    yield { ...away, retryAfterMs: 60_000 }
  }
  const before = w.out.filter(o => o.frame.type === 'chat.queued').length
  await w.ask(ann, ask(2))
  const started = await w.until(o => o.frame.type === 'chat.started' && o.frame['inReplyTo'] !== 2)
  await until(() => w.out.filter(o => o.frame.type === 'chat.queued').length > before)
  await w.ask(ann, { type: 'chat.stop', conversationId: room, messageId: String(started.frame['messageId']) })
  const stopped = await w.until(o => o.frame.type === 'chat.done' && o.frame['finish'] === 'stopped')
  assert.equal(stopped.frame['bytes'], 0)
  w.provider.script = async function* () {
    yield { ...away, retryAfterMs: 3_600_001 }
  }
  await w.ask(ann, ask(3))
  await w.until(o => o.frame.type === 'chat.done' && o.frame['finish'] === 'failed')
})

test('[T21] whoever waits for quota keeps nobody from a slot, and another owner goes on without a second start', async t => {
  const w = new Worker()
  t.after(() => w.close())
  let hasQuota = false
  w.provider.script = async function* () {
    if (!hasQuota) return yield { kind: 'end', finish: 'failed', reason: 'quota', retryAfterMs: 60_000, tokens }
    yield { kind: 'delta', text: 'yes' }
    yield end
  }
  const rooms = [1, 2, 3].map(n => idOf(n, 'c'))
  for (const [n, conversationId] of rooms.entries()) {
    await w.ask(ann, ai(conversationId))
    await w.ask(ann, ask(n + 1, conversationId))
  }
  await until(() => [...w.database.runs.values()].every(r => r.status === 'queued' && r.startedAt))
  assert.equal(w.database.slots.size, 0)
  hasQuota = true
  const next = new Worker(w.database)
  t.after(() => next.close())
  next.provider.script = w.provider.script
  await next.registry.adopt(rooms.map(shardOf))
  await until(() => next.out.filter(o => o.frame.type === 'chat.done').length === 3)
  for (const conversationId of rooms) {
    const kinds = next.log(conversationId).map(r => r.kind)
    assert.deepEqual(kinds, ['room.member_joined', 'message.new', 'chat.started', 'message.new'])
  }
})

/** A purse of so many tokens, which keeps what it was asked. */
function purse(tokens: number) {
  const asked: Parameters<Budget['reserve']>[0][] = []
  const settled: Parameters<Budget['settle']>[0][] = []
  const budget: Budget = {
    async reserve(ask) {
      asked.push(ask)
      if (ask.tokens <= tokens) return { isGranted: true }
      return { isGranted: false, scope: 'user', left: tokens, resetsInMs: 5000 }
    },
    async settle(spent) {
      settled.push(spent)
    },
  }
  return { budget, asked, settled }
}

test('[T22] each request is reserved before it is made and settled with what the provider says', async t => {
  const money = purse(1e6)
  const w = new Worker(undefined, { budget: money.budget })
  t.after(() => w.close())
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  await w.until(o => o.frame.type === 'chat.done')
  const [runId] = w.database.runs.keys()
  const bytes = Buffer.byteLength(JSON.stringify([w.provider.requests[0]!.messages, []]))
  assert.deepEqual(money.asked, [{ runId, userId: ann, round: 0, tokens: bytes + outputTokensMax }])
  assert.deepEqual(money.settled, [{ runId, round: 0, input: 1, output: 2, estimated: false }])
})

test('[T22] a turn that is stopped is settled by an estimate that says so', async t => {
  const money = purse(1e6)
  const w = new Worker(undefined, { budget: money.budget })
  t.after(() => w.close())
  w.provider.script = async function* (request) {
    yield { kind: 'delta', text: 'abcdefgh' }
    await new Promise(go => request.signal.addEventListener('abort', go))
    yield { kind: 'end', finish: 'stopped', tokens }
  }
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  const { frame } = await w.until(o => o.frame.type === 'chat.stream')
  await w.ask(ann, { type: 'chat.stop', conversationId: room, messageId: String(frame['messageId']) })
  await until(() => money.settled.length === 1)
  const { input, output, estimated } = money.settled[0]!
  assert.deepEqual([input > 0, output, estimated], [true, 2, true])
})

test('[T22] without tokens a turn ends failed, the model is not asked, and the requester is told when there are some', async t => {
  const money = purse(100)
  const w = new Worker(undefined, { budget: money.budget })
  t.after(() => w.close())
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  const { frame } = await w.until(o => o.frame.type === 'chat.done')
  assert.deepEqual([frame['finish'], frame['bytes']], ['failed', 0])
  assert.deepEqual([w.provider.requests.length, money.settled.length], [0, 0])
  const error = w.out.find(o => o.frame.type === 'error')!.frame
  assert.deepEqual(
    [error['code'], error['reason'], error['retryAfterMs'], error['messageId'], error['retryable']],
    ['RLIMIT', 'budget', 5000, frame['messageId'], true],
  )
  assert.match(String(error['message']), /100 left/)
})
