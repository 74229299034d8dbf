/** Turns over the whole actor: slots, streaming, stop, take-over, back-pressure, drain. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ann, idOf } from '#engine/conversation/fixtures/scenario.ts'
import type { LogStore } from '#engine/storage/log-store.ts'
import { assistantId } from '#protos/ids.ts'
import { deltaBacklogBytesMax, segmentsKeptMs } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { tokens, Worker } from './fixtures/world.ts'
import type { TurnEvent, TurnRequest } from './ports.ts'

const room = idOf(1, 'c')
const ai = (conversationId = room, owner = ann) => ({
  type: 'conversation.create' as const,
  conversationId,
  kind: 'ai' as const,
  members: [{ userId: owner, role: 'owner' as const }],
})
const ask = (n: number, content = `q${n}`, conversationId = room) => ({
  type: 'chat.send' as const,
  conversationId,
  clientMessageId: idOf(n, 'd'),
  content,
})
const end: TurnEvent = { kind: 'end', finish: 'stop', tokens }

function gate() {
  let open = () => {}
  const passed = new Promise<void>(go => {
    open = go
  })
  return { open, passed }
}

/** A store whose commits begin after what they are made to wait for. */
const delayed =
  (before: () => Promise<unknown> | undefined) =>
  (inner: LogStore): LogStore =>
    new Proxy(inner, {
      get(target, key) {
        const own: unknown = Reflect.get(target, key)
        if (key !== 'commit') return typeof own === 'function' ? own.bind(target) : own
        return async (given: Parameters<LogStore['commit']>[0]) => {
          await before()
          return target.commit(given)
        }
      },
      set: (target, key, value) => Reflect.set(target, key, value),
    })

/** What a client that joined before would assemble, checked against the end. */
function assembled(w: Worker, messageId: unknown): string {
  let text = ''
  for (const { frame } of w.out) {
    if (frame['messageId'] !== messageId) continue
    if (frame.type === 'chat.stream') {
      assert.equal(frame['offset'], Buffer.byteLength(text), 'T6: deltas are contiguous')
      text += frame['content']
    } else if (frame.type === 'chat.done') {
      assert.equal(frame['bytes'], Buffer.byteLength(text))
      assert.equal(frame['sha256'], createHash('sha256').update(text).digest('hex'))
    } else if (frame.type === 'message.new') assert.equal(frame['content'], text)
  }
  return text
}

test('[T9] a question is answered: started, streamed, one message, one done', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.out.length = 0
  await w.ask(ann, ask(1, 'héllo 🙂'))
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(assembled(w, done.frame['messageId']), 'you said: héllo 🙂')
  const order = w.trace.filter(x => !x.startsWith('typing') && x !== 'delta:chat.stream')
  assert.deepEqual(order, ['fact:message.new', 'answer:ack', 'fact:chat.started', 'fact:message.new', 'done:chat.done'])
  assert.deepEqual(w.provider.requests[0]!.messages, [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: 'héllo 🙂' },
  ])
  assert.equal(w.database.slots.size, 0)
})

test('[T6] half a character is held back, and later deltas gather', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.provider.script = async function* () {
    for (const text of ['a\ud83d', '\ude42b', ...'cdefghijklmnop'.split(''), '\0']) yield { kind: 'delta', text }
    yield end
  }
  await w.ask(ann, ask(1))
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(assembled(w, done.frame['messageId']), 'a🙂bcdefghijklmnop\ufffd')
  const deltas = w.out.filter(o => o.frame.type === 'chat.stream')
  assert.ok(deltas.length <= 3, `${deltas.length} deltas for one burst`)
  assert.equal(deltas[0]!.frame['offset'], 0)
})

test('[J3] who joins in the middle gets the text so far, and then exactly the rest', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  const rest = gate()
  w.provider.script = async function* () {
    yield { kind: 'delta', text: 'first ' }
    await rest.passed
    yield { kind: 'delta', text: 'second' }
    yield end
  }
  await w.ask(ann, ask(1))
  await w.until(o => o.frame.type === 'chat.stream')
  const joined = await w.ask(ann, { type: 'room.join', conversationId: room })
  assert.deepEqual((joined['stream'] as { content: string }).content, 'first ')
  rest.open()
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(assembled(w, done.frame['messageId']), 'first second')
})

test('[T7] a stop ends a running turn at once with its prefix, and is acked then', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  let isAborted = false
  w.provider.script = async function* (request: TurnRequest) {
    yield { kind: 'delta', text: 'prefix' }
    await new Promise<void>(go => request.signal.addEventListener('abort', () => go()))
    isAborted = true
    yield { ...end, finish: 'stopped' }
  }
  await w.ask(ann, ask(1))
  const delta = await w.until(o => o.frame.type === 'chat.stream')
  const ack = await w.ask(ann, {
    type: 'chat.stop',
    conversationId: room,
    messageId: delta.frame['messageId'] as string,
  })
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.deepEqual([ack['seq'], ack['messageId']], [done.frame['seq'], done.frame['messageId']])
  assert.equal(done.frame['finish'], 'stopped')
  assert.equal(assembled(w, done.frame['messageId']), 'prefix')
  await sleep(5)
  assert.ok(isAborted)
  const again = await w.ask(ann, { type: 'chat.stop', conversationId: room, messageId: idOf(1, 'd') })
  assert.equal(again['code'], 'NOT_FOUND')
})

test('[T10] another owner finds the ended turn in the log, by the answer’s id or the question’s', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  const question = await w.ask(ann, ask(1))
  const done = await w.until(o => o.frame.type === 'chat.done')
  const next = new Worker(w.database)
  t.after(() => next.close())
  for (const messageId of [question['messageId'], done.frame['messageId']] as string[]) {
    const ack = await next.ask(ann, { type: 'chat.stop', conversationId: room, messageId })
    assert.deepEqual([ack['seq'], ack['duplicate']], [done.frame['seq'], true])
  }
})

test('[T12] a turn whose owner died ends interrupted with the stored prefix; queued ones go on', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.provider.script = async function* () {
    yield { kind: 'delta', text: 'half an ans' }
    await new Promise(() => {})
  }
  await w.ask(ann, ask(1))
  const delta = await w.until(o => o.frame.type === 'chat.stream')
  await w.ask(ann, ask(2))
  const next = new Worker(w.database)
  t.after(() => next.close())
  await next.registry.adopt([...Array(256).keys()])
  const done = await next.until(o => o.frame.type === 'chat.done')
  assert.deepEqual([done.frame['messageId'], done.frame['finish']], [delta.frame['messageId'], 'interrupted'])
  const second = await next.until(o => o.frame.type === 'chat.done' && o !== done)
  assert.equal(second.frame['finish'], 'stop')
  assert.equal(next.log(room).filter(r => r.senderId === assistantId && r.kind === 'message.new').length, 2)
})

test('[T5] a third turn of one user waits for a slot, is told so, and runs when one is free', async t => {
  const w = new Worker()
  t.after(() => w.close())
  const gates = [gate(), gate()]
  let turn = 0
  w.provider.script = async function* () {
    await gates[turn++]?.passed
    yield end
  }
  for (let i = 1; i <= 3; i++) {
    await w.ask(ann, ai(idOf(i, 'c')))
    await w.ask(ann, ask(i, 'q', idOf(i, 'c')))
    if (i < 3) await w.until(o => o.frame.type === 'chat.started' && o.label.conversation === idOf(i, 'c'))
  }
  const queued = await w.until(o => o.frame.type === 'chat.queued')
  assert.deepEqual([queued.frame['conversationId'], queued.frame['position']], [idOf(3, 'c'), 1])
  const openedAt = performance.now()
  gates[0]!.open()
  await w.until(o => o.frame.type === 'chat.done' && o.label.conversation === idOf(3, 'c'))
  assert.ok(performance.now() - openedAt < 1500, 'it did not wait out its pause')
  gates[1]!.open()
  await w.until(o => o.frame.type === 'chat.done' && o.label.conversation === idOf(2, 'c'))
})

test('[T4] queued questions of one conversation run one after the other, at once', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  const startedAt = performance.now()
  const questions = [1, 2, 3, 4].map(n => w.give(ann, ask(n)))
  for (const q of questions) assert.equal((await w.answered(q)).frame.type, 'ack')
  await w.until(() => w.out.filter(o => o.frame.type === 'chat.done').length === 4)
  assert.ok(performance.now() - startedAt < 1500, 'none waited out a pause')
  const answers = w.log(room).filter(r => r.kind === 'message.new' && r.senderId === assistantId)
  assert.deepEqual(
    answers.map(r => (JSON.parse(r.body) as { inReplyTo: number }).inReplyTo),
    [2, 3, 4, 5],
  )
})

test('[T11] a provider that throws ends its turn failed, once, and the next goes on', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.provider.script = async function* () {
    yield { kind: 'delta', text: 'x' }
    throw new Error('broken promise')
  }
  await w.ask(ann, ask(1))
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(done.frame['finish'], 'failed')
  assert.ok(w.out.some(o => o.frame['code'] === 'UPSTREAM'))
})

test('[T6] a provider is not pulled while too much of its text waits for the journal', async t => {
  const held = gate()
  let isHeld = false
  const store = delayed(() => (isHeld ? held.passed : undefined))
  const w = new Worker(undefined, { store })
  t.after(() => w.close())
  await w.ask(ann, ai())
  let pulled = 0
  w.provider.script = async function* () {
    isHeld = true
    for (let i = 0; i < 40; i++) {
      pulled++
      yield { kind: 'delta', text: 'y'.repeat(16_384) }
    }
    yield end
  }
  await w.ask(ann, ask(1))
  await sleep(100)
  assert.ok(pulled * 16_384 <= deltaBacklogBytesMax + 2 * 16_384, `${pulled} pulled`)
  assert.ok(pulled > 10, `only ${pulled} pulled`)
  held.open()
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(assembled(w, done.frame['messageId']).length, 40 * 16_384)
})

test('[C7] drain ends what runs as interrupted and starts nothing more', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.provider.script = async function* () {
    yield { kind: 'delta', text: 'cut' }
    await new Promise(() => {})
  }
  await w.ask(ann, ask(1))
  await w.until(o => o.frame.type === 'chat.stream')
  await w.ask(ann, ask(2))
  await w.registry.drain()
  const dones = w.out.filter(o => o.frame.type === 'chat.done')
  assert.deepEqual(
    dones.map(o => o.frame['finish']),
    ['interrupted'],
  )
  assert.deepEqual(
    [...w.database.runs.values()].map(r => r.status),
    ['ended', 'queued'],
  )
})

test('[T6] the pieces of an answer are cleared away a while after it became one message, not before', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  await w.until(o => o.frame.type === 'chat.done')
  const [run] = w.database.runs.values()
  w.ahead = segmentsKeptMs - 5000
  await sleep(1200)
  assert.ok(run!.segments.size > 0)
  w.ahead = segmentsKeptMs + 1
  for (const until = performance.now() + 5000; run!.segments.size > 0 && performance.now() < until; ) await sleep(20)
  assert.equal(run!.segments.size, 0)
})

test('[T6] pieces that an earlier owner left are cleared away a while after the shard came', async t => {
  const first = new Worker()
  t.after(() => first.close())
  await first.ask(ann, ai())
  await first.ask(ann, ask(1))
  await first.until(o => o.frame.type === 'chat.done')
  const [run] = first.database.runs.values()
  run!.endedAt! -= 2 * segmentsKeptMs
  const next = new Worker(first.database)
  t.after(() => next.close())
  await next.registry.adopt([shardOf(room)])
  next.ahead = segmentsKeptMs + 1
  for (const until = performance.now() + 5000; run!.segments.size > 0 && performance.now() < until; ) await sleep(20)
  assert.equal(run!.segments.size, 0)
})

/** Statements take some turns of the event loop, as real ones do. */
const slowly = delayed(() => sleep(5))

test('[T19] a shard that is about to move starts no turn; one whose start is on its way counts as running', async t => {
  const w = new Worker(undefined, { store: slowly })
  t.after(() => w.close())
  await w.ask(ann, ai())
  const shard = shardOf(room)
  w.registry.hush([shard])
  await w.ask(ann, ask(1))
  await sleep(50)
  assert.deepEqual(
    w.out.filter(o => o.frame.type === 'chat.started'),
    [],
  )
  assert.deepEqual(w.registry.busyShards(), [])
  w.registry.unhush([shard])
  await w.until(o => o.frame.type === 'chat.done')

  const rest = gate()
  w.provider.script = async function* () {
    await rest.passed
    yield { kind: 'delta', text: 'late' }
    yield end
  }
  w.out.length = 0
  void w.ask(ann, ask(2))
  for (let seen = false; !seen; await new Promise(setImmediate)) seen = w.registry.busyShards().includes(shard)
  const isStarted = () => w.out.some(o => o.frame.type === 'chat.started')
  assert.ok(!isStarted(), 'its start is not stored yet')
  w.registry.hush([shard])
  rest.open()
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(done.frame['finish'], 'stop')
})

test('[T12] a turn whose start was stored while no others begin runs to its end', async t => {
  const w = new Worker(undefined, { store: slowly })
  t.after(() => w.close())
  await w.ask(ann, ai())
  w.out.length = 0
  void w.ask(ann, ask(1))
  while (w.registry.busyShards().length === 0) await new Promise(setImmediate)
  w.registry.quiesce()
  const done = await w.until(o => o.frame.type === 'chat.done')
  assert.equal(done.frame['finish'], 'stop')
})

test('[T6] the first delta is stored at once, later ones gather: many small ones cost few rows', async t => {
  const w = new Worker()
  t.after(() => w.close())
  w.provider.script = async function* () {
    for (let i = 0; i < 100; i++) {
      yield { kind: 'delta', text: `${i} ` }
      await sleep(2)
    }
    yield end
  }
  await w.ask(ann, ai())
  await w.ask(ann, ask(1))
  const began = await w.until(o => o.frame.type === 'chat.stream')
  assert.equal(began.frame['content'], '0 ')
  await w.until(o => o.frame.type === 'chat.done')
  const shown = w.out.filter(o => o.frame.type === 'chat.stream').length
  // 100 deltas in 200 ms and more, one row in 40 ms.
  assert.ok(shown > 1 && shown <= 50, `${shown}`)
})
