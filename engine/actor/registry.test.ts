/** Actors over a real journal on the in-memory database: commits, duplicates, joins, faults. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ann, ben, cat, idOf } from '#engine/conversation/fixtures/scenario.ts'
import { letterFlags } from '#protos/letter.ts'
import { actorAbsentIdleMs, letterAgeMsMax } from '#protos/limits.ts'
import { shardOf } from '#protos/shard.ts'
import { Worker } from './fixtures/world.ts'

const room = idOf(1, 'c')
const create = (conversationId = room) => ({
  type: 'conversation.create' as const,
  conversationId,
  kind: 'group' as const,
  members: [
    { userId: ann, role: 'owner' as const },
    { userId: ben, role: 'member' as const },
  ],
})
const send = (n: number, content = `m${n}`, conversationId = room) => ({
  type: 'message.send' as const,
  conversationId,
  clientMessageId: idOf(n, 'd'),
  content,
})

test('[A1] nothing leaves before the statement returned; then ack and facts leave together', async t => {
  const w = new Worker()
  t.after(() => w.close())
  w.give(ann, create())
  assert.deepEqual(w.trace, [])
  await w.until(o => o.frame.type === 'ack')
  assert.deepEqual(w.trace, [
    'user:conversation.added',
    'user:conversation.added',
    'fact:room.member_joined',
    'fact:room.member_joined',
    'answer:ack',
  ])
  const ack = await w.ask(ann, send(1))
  assert.deepEqual([ack['seq'], ack['duplicate']], [3, false])
  assert.equal(w.log(room).length, 3)
})

test('[N1] a pipeline of sends gets dense numbers in order', async t => {
  const w = new Worker()
  t.after(() => w.close())
  w.give(ann, create())
  const attempts = Array.from({ length: 200 }, (_, i) => w.give(ann, { ...send(i + 1), requestId: `r${i}` }))
  const seqs = []
  for (const attempt of attempts) seqs.push((await w.answered(attempt)).frame['seq'])
  assert.deepEqual(
    seqs,
    attempts.map((_, i) => i + 3),
  )
  assert.equal(w.log(room).length, 202)
})

test('[D2] a resent letter finds what an earlier owner stored', async t => {
  const first = new Worker()
  t.after(() => first.close())
  await first.ask(ann, create())
  const stored = await first.ask(ann, send(1))
  const next = new Worker(first.database)
  t.after(() => next.close())
  const again = await next.ask(ann, send(1), { flags: letterFlags.resend })
  assert.deepEqual([again['seq'], again['messageId'], again['duplicate']], [stored['seq'], stored['messageId'], true])
  const attempt = randomUUID()
  const add = { type: 'member.add' as const, conversationId: room, userId: cat, role: 'member' as const }
  const added = await next.ask(ann, add, { attempt })
  const third = new Worker(first.database)
  t.after(() => third.close())
  assert.equal((await third.ask(ann, add, { attempt, flags: letterFlags.resend }))['seq'], added['seq'])
  assert.equal(next.log(room).length, 4)
})

test('[D6] message.status is answered from the log', async t => {
  const first = new Worker()
  t.after(() => first.close())
  await first.ask(ann, create())
  await first.ask(ann, send(1))
  const next = new Worker(first.database)
  t.after(() => next.close())
  const status = (n: number) => ({
    type: 'message.status' as const,
    conversationId: room,
    clientMessageId: idOf(n, 'd'),
  })
  assert.equal((await next.ask(ann, status(1)))['seq'], 3)
  assert.equal((await next.ask(ann, status(2)))['code'], 'NOT_FOUND')
})

test('[J4] a join replays from the log or the tail, in order, up to the head it names', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  for (let i = 1; i <= 5; i++) await w.ask(ann, send(i))
  for (const way of ['tail', 'log']) {
    const worker = way === 'tail' ? w : new Worker(w.database)
    t.after(() => worker.close())
    worker.out.length = 0
    const attempt = worker.give(ben, { type: 'room.join', conversationId: room, afterSeq: 2, requestId: 'j' })
    const joined = await worker.answered(attempt)
    assert.equal(joined.frame.type, 'room.joined')
    assert.equal(joined.frame['requestId'], 'j')
    assert.equal(joined.frame['headSeq'], 7)
    const replayed = worker.out.filter(o => o.label.attempt === attempt && o.frame.type === 'message.new')
    assert.deepEqual(
      replayed.map(o => [o.frame['seq'], o.label.seq, o.frame['content']]),
      [3, 4, 5, 6, 7].map(seq => [seq, seq, `m${seq - 2}`]),
    )
    assert.equal(worker.out.at(-1), joined, 'the answer comes last')
  }
})

test('[J2] a join beyond the head or the window is told to resync', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  const ahead = await w.ask(ann, { type: 'room.join', conversationId: room, afterSeq: 9 })
  assert.deepEqual([ahead.type, ahead['reason'], ahead['headSeq']], ['resync_required', 'ahead', 2])
})

test('[J5] a join is not answered from memory: another owner, or no renewal, refuses it', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  w.renewedAt = () => performance.now() - 5000
  assert.equal((await w.ask(ann, { type: 'room.join', conversationId: room }))['code'], 'UNAVAILABLE')
  w.renewedAt = () => performance.now()
  const other = new Worker(w.database)
  t.after(() => other.close())
  assert.equal((await w.ask(ann, { type: 'room.join', conversationId: room })).type, 'notOwner')
})

test('[A3] a fenced actor sends everything back to be routed again', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  const other = new Worker(w.database)
  t.after(() => other.close())
  assert.equal((await w.ask(ann, send(1))).type, 'notOwner')
  assert.equal((await other.ask(ann, send(1), { flags: letterFlags.resend }))['seq'], 3)
  assert.equal(other.log(room).length, 3)
})

test('[S5] a letter older than twelve seconds is refused, and later sends of its socket with it', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  const late = w.give(ann, send(1), { age: 12_500 })
  const next = w.give(ann, send(2))
  const otherSocket = w.give(ann, send(3), { socket: 2 })
  assert.equal((await w.answered(late)).frame.type, 'UNAVAILABLE')
  assert.equal((await w.answered(next)).frame.type, 'UNAVAILABLE')
  assert.equal((await w.answered(otherSocket)).frame['seq'], 3)
})

test('[A2] while the database is away letters wait, and are served when it is back', async t => {
  const w = new Worker()
  t.after(() => w.close())
  w.isAway = true
  const attempt = w.give(ann, create())
  await sleep(120)
  assert.deepEqual(w.trace, [])
  w.isAway = false
  assert.equal((await w.answered(attempt)).frame['seq'], 1)
})

test('[P3] receipts are told at once and flushed to the store', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  await w.ask(ann, send(1))
  w.give(ben, { type: 'receipt.read', conversationId: room, seq: 99 })
  const receipt = await w.until(o => o.frame.type === 'receipt.updated')
  assert.deepEqual([receipt.frame['userId'], receipt.frame['readSeq'], receipt.label.seq], [ben, 3, 3])
  await w.registry.drain()
  const members = w.database.conversations.get(room)!.members
  assert.deepEqual([members.get(ann)!.readSeq, members.get(ben)!.readSeq], [3, 3])
})

test('[S6] a body that is no command is answered, not dropped', async t => {
  const w = new Worker()
  t.after(() => w.close())
  const bad = { type: 'message.send', conversationId: room, content: 'x', seq: 1 } as never
  const answer = await w.ask(ann, bad)
  assert.deepEqual([answer['code'], answer['retryable']], ['SERVER', true])
})

test('[S5] what waits longer than twelve seconds for the database is refused, unless it may be stored', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  const other = idOf(2, 'c')
  w.isAway = true
  const fresh = w.give(ann, create(other), { socket: 0 })
  const resent = w.give(ann, create(other), { socket: 0, flags: letterFlags.resend })
  const joining = w.give(ann, { type: 'room.join', conversationId: other })
  w.ahead = 12_500
  assert.equal((await w.answered(fresh)).frame.type, 'UNAVAILABLE')
  assert.equal((await w.answered(joining)).frame['code'], 'UNAVAILABLE')
  assert.ok(!w.out.some(o => o.label.attempt === resent), 'its outcome is unknown: silence')
  w.isAway = false
  assert.equal((await w.answered(resent)).frame.type, 'UNAVAILABLE', 'looked up, absent, too old')
})

test('[P5] an idle actor flushes its receipts and leaves memory; the next letter finds everything', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  await w.ask(ann, send(1))
  w.ahead = 70_000
  const until = performance.now() + 6000
  while (w.registry.stats().actors > 0 && performance.now() < until) await sleep(20)
  assert.equal(w.registry.stats().actors, 0)
  assert.equal(w.database.conversations.get(room)!.members.get(ann)!.readSeq, 3)
  assert.equal((await w.ask(ann, send(1)))['duplicate'], true)
  assert.equal((await w.ask(ben, send(2)))['seq'], 4)
})

test('[A4] without a renewed lease nothing is said from memory; a statement proves the rest', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  await w.ask(ann, send(1))
  w.renewedAt = () => performance.now() - 5000
  const stranger = w.give(cat, send(2), { socket: 3 })
  const known = w.give(
    ann,
    { type: 'message.status', conversationId: room, clientMessageId: idOf(1, 'd') },
    { socket: 2 },
  )
  await sleep(300)
  for (const attempt of [stranger, known]) assert.ok(!w.out.some(o => o.label.attempt === attempt))
  // A send is stored, or fenced: with it all that stood before it is true.
  assert.equal((await w.ask(ben, send(3)))['seq'], 4)
  assert.equal((await w.answered(stranger)).frame['code'], 'NOT_FOUND')
  assert.equal((await w.answered(known)).frame['seq'], 3)
  const again = w.give(cat, send(4), { socket: 3 })
  await sleep(150)
  assert.ok(!w.out.some(o => o.label.attempt === again))
  w.renewedAt = () => performance.now()
  assert.equal((await w.answered(again)).frame['code'], 'NOT_FOUND')
})

test('[S5] what waits is refused within twelve seconds of being read, not after', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  w.isAway = true
  const fresh = w.give(ann, create(idOf(2, 'c')), { socket: 0 })
  const began = performance.now()
  // Actors are looked at once a second.
  w.ahead = 10_950
  assert.equal((await w.answered(fresh)).frame.type, 'UNAVAILABLE')
  const age = w.ahead + performance.now() - began
  assert.ok(age <= letterAgeMsMax + 300, `${age} ms`)
})

test('[C2] a conversation that does not exist leaves memory within seconds: ids may be guessed', async t => {
  const w = new Worker()
  t.after(() => w.close())
  await w.ask(ann, create())
  for (let n = 100; n < 150; n++) {
    const conversationId = idOf(n, 'c')
    w.give(ann, { type: 'message.status', conversationId, clientMessageId: idOf(1, 'd') })
    w.give(ann, { type: 'typing.start', conversationId })
  }
  await w.answered(
    w.give(ann, { type: 'message.status', conversationId: idOf(149, 'c'), clientMessageId: idOf(2, 'd') }),
  )
  w.ahead = actorAbsentIdleMs + 1000
  for (const until = performance.now() + 5000; w.registry.stats().actors > 1 && performance.now() < until; )
    await sleep(20)
  assert.equal(w.registry.stats().actors, 1)
})

test('[T12] a shard that went while its open turns were being read leaves no actor behind', async t => {
  const w = new Worker()
  t.after(() => w.close())
  const open = Promise.withResolvers<string[]>()
  w.directory.openRuns = () => open.promise
  const shard = shardOf(room)
  const adopted = w.registry.adopt([shard])
  w.shards.drop(shard)
  w.registry.release([shard])
  open.resolve([room])
  await adopted
  assert.equal(w.registry.stats().actors, 0)
})

test('[D2] a young actor looks ids up before it numbers them: a takeover is no row of failed statements', async t => {
  const first = new Worker()
  t.after(() => first.close())
  await first.ask(ann, create())
  for (let n = 1; n <= 5; n++) await first.ask(ann, send(n))
  const next = new Worker(first.database)
  t.after(() => next.close())
  const answers = await Promise.all([1, 2, 3, 4, 5].map(n => next.ask(ann, send(n))))
  assert.ok(answers.every(a => a['duplicate'] === true))
  const { values } = await next.metrics.parley_commits_total.get()
  assert.ok(!values.some(v => v.labels.outcome === 'duplicate'))
})
