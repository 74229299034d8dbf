/** What a broken statement does to actors: answers get lost before or after the store did its work, ids collide. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ann, ben, cat, dan, idOf } from '#engine/conversation/fixtures/scenario.ts'
import type { LogStore } from '#engine/storage/log-store.ts'
import { FaultyStore } from '#load/kit/journal-bench.ts'
import { assistantId } from '#protos/ids.ts'
import { admissionStandsMs } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { tokens, Worker } from './fixtures/world.ts'

const room = idOf(1, 'c')
const create = {
  type: 'conversation.create' as const,
  conversationId: room,
  kind: 'group' as const,
  members: [
    { userId: ann, role: 'owner' as const },
    { userId: ben, role: 'member' as const },
  ],
}
const send = (n: number, content = `m${n}`) => ({
  type: 'message.send' as const,
  conversationId: room,
  clientMessageId: idOf(n, 'd'),
  content,
})

function faulty(): { w: Worker; store: FaultyStore } {
  let store: FaultyStore | undefined
  const w = new Worker(undefined, { store: inner => (store = new FaultyStore(inner)) })
  return { w, store: store! }
}

for (const fault of ['before', 'after', 'retry'] as const) {
  test(`[A2] a pipeline over a statement lost "${fault}" is acked once each, dense and in order`, async t => {
    const { w, store } = faulty()
    t.after(() => w.close())
    await w.ask(ann, create)
    store.faults.push(fault)
    const attempts = Array.from({ length: 20 }, (_, i) => w.give(i % 2 ? ann : ben, send(i + 1)))
    const acks = []
    for (const a of attempts) acks.push((await w.answered(a)).frame)
    assert.deepEqual(
      acks.map(a => a['seq']),
      attempts.map((_, i) => i + 3),
    )
    assert.equal(w.out.filter(o => o.frame.type === 'ack').length, 21, 'each is answered once')
    const rows = w.log(room)
    assert.equal(rows.length, 22)
    for (const ack of acks) assert.equal(rows[Number(ack['seq']) - 1]!.messageId, ack['messageId'])
  })
}

/** A store that, while `isOn`, has run a statement and keeps its answer until `open`. */
function holdable() {
  const gate = Promise.withResolvers<void>()
  const hold = {
    isOn: false,
    open: () => gate.resolve(),
    store<S extends LogStore>(inner: S): S {
      const commit = inner.commit.bind(inner)
      inner.commit = async contributions => {
        const result = await commit(contributions)
        if (hold.isOn) await gate.promise
        return result
      }
      return inner
    },
  }
  return hold
}

test('[A1] a store without room refuses with UNAVAILABLE and keeps the head', async t => {
  const { w, store } = faulty()
  t.after(() => w.close())
  await w.ask(ann, create)
  store.faults.push('full')
  assert.equal((await w.ask(ann, send(1), { socket: 0 })).type, 'UNAVAILABLE')
  assert.equal((await w.ask(ann, send(1), { socket: 0 }))['seq'], 3)
})

test('[J5] a join waits while the log is ahead of the state: a statement has run and its answer is on its way', async t => {
  const hold = holdable()
  const w = new Worker(undefined, { store: hold.store })
  t.after(() => w.close())
  await w.ask(ann, create)
  hold.isOn = true
  w.give(ann, send(1))
  while (w.log(room).length < 3) await new Promise(go => setTimeout(go, 1))
  const join = w.give(ben, { type: 'room.join', conversationId: room, afterSeq: 2 })
  await new Promise(go => setTimeout(go, 60))
  assert.ok(!w.out.some(o => o.label.attempt === join), 'others may have read the row already')
  hold.open()
  assert.equal((await w.answered(join)).frame['headSeq'], 3)
  assert.ok(w.out.some(o => o.label.attempt === join && o.frame.type === 'message.new'))
})

test('[J5] whoever was added by a statement that has not answered yet joins when it has', async t => {
  const hold = holdable()
  const w = new Worker(undefined, { store: hold.store })
  t.after(() => w.close())
  await w.ask(ann, create)
  hold.isOn = true
  w.give(ann, { type: 'member.add', conversationId: room, userId: dan, role: 'member' })
  while (w.log(room).length < 3) await new Promise(go => setTimeout(go, 1))
  const join = w.give(dan, { type: 'room.join', conversationId: room, afterSeq: 0 })
  const stranger = w.give(cat, { type: 'room.join', conversationId: room })
  hold.open()
  assert.equal((await w.answered(join)).frame['headSeq'], 3)
  assert.equal((await w.answered(stranger)).frame['code'], 'NOT_FOUND')
})

test('[D2] ids that another owner stored meanwhile are found by the index, neighbours are stored', async t => {
  const { w } = faulty()
  t.after(() => w.close())
  await w.ask(ann, create)
  const known = await w.ask(ann, send(1))
  // The recent map is made to forget, as after a thousand other sends.
  for (let i = 0; i < 1100; i++) {
    w.give(i % 2 ? ann : ben, send(100 + i), { socket: 2 + (i % 10) })
    if (i % 200 === 199) await w.answered(w.give(ann, send(5000 + i)))
  }
  await w.ask(ben, send(9000))
  const head = w.log(room).length
  const again = w.give(ann, send(1))
  const fresh = w.give(ben, send(9001))
  const frame = (await w.answered(again)).frame
  assert.deepEqual([frame['seq'], frame['duplicate'], frame['messageId']], [3, true, known['messageId']])
  assert.equal((await w.answered(fresh)).frame['seq'], head + 1)
})

test('[T6] an answer survives lost statements: contiguous deltas, one ending', async t => {
  const { w, store } = faulty()
  t.after(() => w.close())
  await w.ask(ann, create)
  w.provider.script = async function* () {
    for (let i = 0; i < 12; i++) {
      yield { kind: 'delta', text: `word${i} ` }
      if (i % 3 === 1) store.faults.push(i % 2 ? 'before' : 'after')
      await new Promise(go => setTimeout(go, 15))
    }
    yield { kind: 'end', finish: 'stop', tokens }
  }
  await w.ask(ann, { ...send(1), type: 'chat.send' as const })
  const done = await w.until(o => o.frame.type === 'chat.done')
  let text = ''
  for (const { frame } of w.out) {
    if (frame.type !== 'chat.stream') continue
    assert.equal(frame['offset'], Buffer.byteLength(text))
    text += frame['content']
  }
  assert.equal(done.frame['bytes'], Buffer.byteLength(text))
  assert.equal(text.split(' ').length, 13)
  assert.equal(w.log(room).filter(r => r.senderId === assistantId && r.kind === 'message.new').length, 1)
})

/** Positions that were taken twice: what rests on a head that nobody read again. */
const headConflicts = async (w: Worker) => (await w.metrics.parley_head_conflict_total.get()).values[0]?.value ?? 0

test('[A2] after a lost connection a head is read again before the next append: a failover may have gone back', async t => {
  const { w, store } = faulty()
  t.after(() => w.close())
  await w.ask(ann, create)
  await w.ask(ann, send(1))
  await w.ask(ann, send(2))
  const lost = w.database.events.get(room)!.pop()!
  w.database.clients.delete(`${room}/${ann}/${lost.clientId}`)
  store.discard()
  assert.equal((await w.ask(ben, send(3)))['seq'], 4)
  assert.equal(await headConflicts(w), 0)
})

test('[A2] under another epoch than the one it was read under a head is read again: others have written meanwhile', async t => {
  const hold = holdable()
  const w = new Worker(undefined, { store: hold.store })
  t.after(() => w.close())
  await w.ask(ann, create)
  hold.isOn = true
  const first = w.give(ann, send(1))
  while (w.log(room).length < 3) await new Promise(go => setTimeout(go, 1))
  // The shard goes and comes back while the answer of a statement that was stored is on its way.
  const shard = shardOf(room)
  const other = new Worker(w.database, { own: false })
  t.after(() => other.close())
  other.shards.set(shard, w.database.move(shard))
  assert.equal((await other.ask(ben, send(2)))['seq'], 4)
  w.shards.set(shard, w.database.move(shard))
  w.registry.release([shard])
  void w.registry.adopt([shard])
  hold.isOn = false
  hold.open()
  assert.equal((await w.answered(first)).frame['seq'], 3)
  assert.equal((await w.ask(ann, send(3)))['seq'], 5)
  assert.equal(await headConflicts(w), 0)
})

test('[S5] sends that wait behind a refused one of their socket are refused with it, those of others are not', async t => {
  const gate = Promise.withResolvers<void>()
  let isFull = false
  const w = new Worker(undefined, {
    store: inner => {
      const commit = inner.commit.bind(inner)
      inner.commit = async contributions => {
        if (!isFull) return commit(contributions)
        await gate.promise
        isFull = false
        return { kind: 'full' }
      }
      return inner
    },
  })
  t.after(() => w.close())
  await w.ask(ann, create)
  isFull = true
  const refused = w.give(ann, send(1))
  await new Promise(go => setTimeout(go, 20))
  const behind = w.give(ann, send(2))
  const others = w.give(ann, send(3), { socket: 2 })
  gate.resolve()
  for (const attempt of [refused, behind]) assert.equal((await w.answered(attempt)).frame.type, 'UNAVAILABLE')
  assert.equal((await w.answered(others)).frame['seq'], 3)
})

test('[A1] what would wait too long behind a queue that stands is refused, a burst on an idle worker is not', async t => {
  const slow = { ms: 0 }
  const w = new Worker(undefined, {
    store: inner => {
      const commit = inner.commit.bind(inner)
      inner.commit = async contributions => {
        await new Promise(go => setTimeout(go, slow.ms))
        return commit(contributions)
      }
      return inner
    },
  })
  t.after(() => w.close())
  // Several rooms: the bound of one sender in one is another.
  const rooms = Array.from({ length: 16 }, (_, i) => idOf(2 + i, 'c'))
  for (const conversationId of rooms) await w.ask(ann, { ...create, conversationId })
  let given = 0
  const burst = (letters: number) => {
    const attempts: string[] = []
    for (let i = 0; i < letters; i++) {
      attempts.push(w.give(ann, { ...send(++given), conversationId: rooms[given % 16]! }, { socket: 0 }))
    }
    return async () =>
      (await Promise.all(attempts.map(a => w.answered(a)))).filter(o => o.frame.type === 'OVERLOADED').length
  }
  await new Promise(go => setTimeout(go, 1100))
  assert.equal(await burst(800)(), 0)
  // 256 rows in 100 ms: 512 may wait for long.
  slow.ms = 100
  await new Promise(go => setTimeout(go, 1100))
  await burst(1)()
  const first = burst(2400)
  const more = []
  for (const until = performance.now() + admissionStandsMs + 100; performance.now() < until; ) {
    await new Promise(go => setTimeout(go, 20))
    more.push(burst(20))
  }
  assert.equal(await first(), 0)
  assert.equal(await more[0]!(), 0)
  assert.equal(await more.at(-1)!(), 20)
})
