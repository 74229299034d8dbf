/** What every directory answers, over a log written by the journal: run on memory and on Postgres. */
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Directory, SideChange } from '#engine/actor/ports.ts'
import { type Bench, openBench, settled, type TestSource, type World } from '#load/kit/journal-bench.ts'
import { checkServerFrame } from '#protos/catalogue.ts'

export interface DirectoryWorld extends World {
  directory: Directory
  /** A person whom rows may point at. */
  user(username: string): Promise<string>
  /** What is kept of the context of a run's first round. */
  contextOf(runId: string): Promise<readonly number[][]>
}

export async function makeRoom(
  bench: Bench,
  kind: 'dm' | 'group' | 'ai',
  users: readonly string[],
): Promise<TestSource> {
  const source = bench.source()
  await bench.own(source)
  source.send({
    side: {
      kind: 'conversation.created',
      conversationKind: kind,
      title: kind === 'dm' ? null : 'Room',
      createdBy: users[0]!,
      at: 1_700_000_000_123,
      members: users.map((userId, i) => ({ userId, role: i === 0 && kind !== 'dm' ? 'owner' : 'member', seq: i + 1 })),
    },
  })
  await settled(source)
  return source
}

export function directoryContract(name: string, open: () => Promise<DirectoryWorld>): void {
  const contract = (title: string, body: (bench: Bench, world: DirectoryWorld) => Promise<void>) =>
    void test(`${name}: ${title}`, { timeout: 30_000 }, async () => {
      const world = await open()
      const bench = await openBench(world)
      try {
        await body(bench, world)
      } finally {
        await bench.close()
      }
    })

  contract('D1 an activation has head, members in order, open runs with their prefix', async (b, w) => {
    const [ann, bob] = [await w.user('ann'), await w.user('bob')]
    const s = await makeRoom(b, 'group', [ann, bob])
    s.send()
    const run = {
      id: randomUUID(),
      requester: ann,
      questionId: randomUUID(),
      questionSeq: 2,
      clientMessageId: randomUUID(),
      ...({ answerId: randomUUID(), status: 'queued', trace: 'trace', createdAt: 1_700_000_000_456 } as const),
    }
    s.send({ side: { kind: 'run.queued', run } })
    await settled(s)
    s.send({ segment: { runId: run.id, offset: 0, text: 'good ' } })
    s.send({ segment: { runId: run.id, offset: 5, text: 'day' } })
    await settled(s)
    const found = await w.directory.activate([s.conversation, randomUUID()])
    assert.equal(found.size, 1)
    assert.deepEqual(found.get(s.conversation), {
      id: s.conversation,
      kind: 'group',
      title: 'Room',
      toolPolicy: 'requester',
      createdBy: ann,
      deleted: false,
      head: 3,
      firstSeq: 1,
      blocks: [],
      members: [
        { userId: ann, role: 'owner', joinedSeq: 1, readSeq: 0, deliveredSeq: 0 },
        { userId: bob, role: 'member', joinedSeq: 2, readSeq: 0, deliveredSeq: 0 },
      ],
      runs: [{ ...run, startedAt: null, prefix: 'good day', calls: [] }],
    })
    assert.deepEqual(await w.directory.openRuns([s.shard]), [s.conversation])
    assert.deepEqual(await w.directory.openRuns([(s.shard + 1) % 256]), [])
    s.send({ side: { kind: 'run.ended', runId: run.id, finish: 'stop', bytes: 8, at: 1_700_000_001_000 } })
    await settled(s)
    await w.directory.purgeSegments([run.id])
    assert.deepEqual((await w.directory.activate([s.conversation])).get(s.conversation)?.runs, [])
    assert.deepEqual(await w.directory.openRuns([s.shard]), [])
  })

  contract('D1 an open run comes with its calls, as they were decided and returned', async (b, w) => {
    const ann = await w.user('ann')
    const s = await makeRoom(b, 'ai', [ann])
    s.send()
    const run = {
      id: randomUUID(),
      requester: ann,
      questionId: randomUUID(),
      questionSeq: 2,
      clientMessageId: randomUUID(),
      ...({ answerId: randomUUID(), status: 'queued', trace: 'trace', createdAt: 1_700_000_000_456 } as const),
    }
    const at = 1_700_000_000_500
    const { id: runId, answerId } = run
    const callOf = (ordinal: number, approval: 'auto' | 'required') => ({
      callId: randomUUID(),
      round: 0,
      ordinal,
      name: 'add_task',
      arguments: '{"title":"a \\"b\\" – ü"}',
      hash: 'ab'.repeat(32),
      approval,
      expiresAt: approval === 'required' ? at + 300_000 : null,
      atBytes: 5,
    })
    const calls = [callOf(0, 'auto'), callOf(1, 'required'), callOf(2, 'required')] as const
    const [auto, decided, open] = calls
    s.send({ side: { kind: 'run.queued', run } })
    await settled(s)
    s.send({ side: { kind: 'run.started', runId, model: 'm', at } })
    await settled(s)
    for (const call of calls) s.send({ side: { kind: 'tool.called', runId, answerId, requester: ann, call, at } })
    s.send({ side: { kind: 'run.status', runId, status: 'waiting' } })
    await settled(s)
    const decision = { runId, callId: decided.callId, decision: 'approve', by: ann, at } as const
    s.send({ side: { kind: 'tool.decided', ...decision } })
    const result = '{"success": true}'
    s.send({ side: { kind: 'tool.returned', runId, callId: auto.callId, status: 'success', result, at } })
    await settled(s)
    const found = (await w.directory.activate([s.conversation])).get(s.conversation)!
    const pending = { decision: null, status: 'pending', result: null } as const
    const key = { conversation: s.conversation, callId: auto.callId }
    const keys = [key, { ...key, callId: 'nobody' }, { ...key, conversation: randomUUID() }]
    assert.deepEqual(await w.directory.requesters(keys), [{ ...key, requester: ann }])
    assert.deepEqual(found.runs, [
      {
        ...run,
        startedAt: at,
        status: 'waiting',
        prefix: '',
        calls: [
          { ...auto, ...pending, status: 'success', result },
          { ...decided, ...pending, decision: 'approve' },
          { ...open, ...pending },
        ],
      },
    ])
  })

  contract('D1 of some people it tells whom a user has blocked, one way only; a context is kept once', async (b, w) => {
    const [ann, bob, eve] = [await w.user('ann'), await w.user('bob'), await w.user('eve')]
    const s = await makeRoom(b, 'dm', [ann, bob])
    s.send({ side: { kind: 'block', blocker: ann, blocked: bob, set: true, at: 1_700_000_000_000 } })
    await settled(s)
    assert.deepEqual(await w.directory.blockedBy(ann, [bob, eve]), [bob])
    assert.deepEqual(await w.directory.blockedBy(bob, [ann, eve]), [])
    assert.deepEqual(await w.directory.blockedBy(ann, []), [])
    const context = { runId: randomUUID(), round: 0, conversation: s.conversation, seqs: [1, 2] }
    await w.directory.noteContext(context)
    // It had no answer (no quota, or its owner went), and what was asked again is what the answer rests on.
    await w.directory.noteContext({ ...context, seqs: [1, 3] })
    assert.deepEqual(await w.contextOf(context.runId), [[1, 3]])
  })

  contract('D2 blocks of a dm come with it, and are found before it exists', async (b, w) => {
    const [ann, bob] = [await w.user('ann'), await w.user('bob')]
    const other = await makeRoom(b, 'group', [ann])
    other.send({ side: { kind: 'block', blocker: bob, blocked: ann, set: true, at: 1 } })
    await settled(other)
    assert.deepEqual(await w.directory.blocksBetween(ann, bob), [`${bob}>${ann}`])
    const dm = await makeRoom(b, 'dm', [ann, bob])
    assert.deepEqual((await w.directory.activate([dm.conversation])).get(dm.conversation)?.blocks, [`${bob}>${ann}`])
  })

  contract('D3 a stored send is found by its client id and by its message, with its hash', async (b, w) => {
    const s = await makeRoom(b, 'group', [await w.user('ann')])
    const body = JSON.stringify({ role: 'user', content: 'hello' })
    const clientId = s.send({ body })
    await settled(s)
    const key = { conversation: s.conversation, senderId: s.sender, clientId }
    const [found, ...more] = await w.directory.lookup([key, { ...key, clientId: randomUUID() }])
    assert.equal(more.length, 0)
    assert.equal(found?.seq, 2)
    assert.equal(found.kind, 'message.new')
    assert.equal(found.bodyHash, createHash('sha256').update(body).digest('hex'))
    const { messageId } = found
    assert.deepEqual(await w.directory.messages([{ conversation: s.conversation, messageId }]), [found])
    assert.deepEqual(await w.directory.messages([{ conversation: randomUUID(), messageId }]), [])
    assert.deepEqual(await w.directory.lookup([]), [])
  })

  contract('D4 heads come with the epoch of the same moment', async (b, w) => {
    const s = await makeRoom(b, 'group', [await w.user('ann')])
    s.send()
    await settled(s)
    assert.deepEqual(
      [...(await w.directory.heads([s.conversation, randomUUID()]))],
      [[s.conversation, { head: 2, firstSeq: 1, epoch: b.journal.epochOf(s.shard) }]],
    )
  })

  contract('D5 events are whole frames, in order, up to both limits', async (b, w) => {
    const s = await makeRoom(b, 'group', [await w.user('ann')])
    for (let i = 0; i < 300; i++)
      s.send({
        body: JSON.stringify({ messageId: randomUUID(), senderId: s.sender, role: 'user', content: `ä "${i}"` }),
      })
    await settled(s)
    const all = await w.directory.events(s.conversation, 1, { events: 1000, bytes: 1e6 })
    assert.equal(all.more, false)
    assert.deepEqual(
      all.frames.map(f => f.seq),
      Array.from({ length: 300 }, (_, i) => i + 2),
    )
    for (const frame of all.frames) assert.ok('frame' in checkServerFrame(JSON.parse(frame.json)), frame.json)
    assert.equal(JSON.parse(all.frames[7]!.json).content, 'ä "7"')
    const cut = await w.directory.events(s.conversation, 10, { events: 5, bytes: 1e6 })
    assert.deepEqual([cut.frames.map(f => f.seq), cut.more], [[11, 12, 13, 14, 15], true])
    const exact = await w.directory.events(s.conversation, 296, { events: 5, bytes: 1e6 })
    assert.deepEqual([exact.frames.length, exact.more], [5, false])
    const small = await w.directory.events(s.conversation, 0, { events: 1000, bytes: 1000 })
    assert.equal(small.more, true)
    assert.ok(small.frames.reduce((n, f) => n + Buffer.byteLength(f.json), 0) <= 1000)
    assert.equal((await w.directory.events(s.conversation, 1, { events: 10, bytes: 1 })).frames.length, 1)
    assert.deepEqual(await w.directory.events(s.conversation, 301, { events: 10, bytes: 1e6 }), {
      frames: [],
      more: false,
    })
  })

  contract('D6 receipt positions only grow, whatever the order of flushes', async (b, w) => {
    const [ann, bob] = [await w.user('ann'), await w.user('bob')]
    const s = await makeRoom(b, 'group', [ann, bob])
    const row = (userId: string, readSeq: number, deliveredSeq: number) => ({
      conversation: s.conversation,
      userId,
      readSeq,
      deliveredSeq,
      at: 1_700_000_000_000,
      mark: true,
    })
    await w.directory.flushReceipts([row(ann, 5, 3), row(bob, 0, 4), row(ann, 2, 9), row(randomUUID(), 1, 1)])
    await w.directory.flushReceipts([row(ann, 1, 1), row(bob, 4, 4)])
    await w.directory.flushReceipts([])
    const positions = (await w.directory.activate([s.conversation]))
      .get(s.conversation)!
      .members.map(m => [m.readSeq, m.deliveredSeq])
    assert.deepEqual(positions, [
      [5, 9],
      [4, 4],
    ])
  })

  contract('D7 two slots per requester; taking again and ended runs cost none', async (b, w) => {
    const ann = await w.user('ann')
    const s = await makeRoom(b, 'ai', [ann])
    const runs: string[] = []
    for (let i = 0; i < 3; i++) {
      const id = randomUUID()
      runs.push(id)
      const run = {
        id,
        requester: ann,
        questionId: randomUUID(),
        questionSeq: i + 2,
        clientMessageId: randomUUID(),
        ...({ answerId: randomUUID(), status: 'queued', trace: '', createdAt: 1 } as const),
      }
      s.send({ side: { kind: 'run.queued', run } satisfies SideChange })
    }
    await settled(s)
    const [one, two, three] = runs as [string, string, string]
    assert.equal(await w.directory.takeSlot(ann, one), true)
    assert.equal(await w.directory.takeSlot(ann, two), true)
    assert.equal(await w.directory.takeSlot(ann, three), false)
    assert.equal(await w.directory.takeSlot(ann, one), true)
    s.send({ side: { kind: 'run.ended', runId: one, finish: 'stopped', bytes: 0, at: 1 } })
    await settled(s)
    assert.equal(await w.directory.takeSlot(ann, three), true)
    // One that waits in the queue again has given its slot away.
    s.send({ side: { kind: 'run.started', runId: two, model: 'm', at: 2 } })
    await settled(s)
    s.send({ side: { kind: 'run.status', runId: two, status: 'queued' } })
    await settled(s)
    assert.equal(await w.directory.takeSlot(ann, randomUUID()), true)
    assert.equal(await w.directory.takeSlot(ann, two), false)
  })

  contract('D8 names are found by id', async (_b, w) => {
    const ann = await w.user('ann')
    const names = await w.directory.names([ann, randomUUID()])
    assert.equal(names.size, 1)
    assert.match(names.get(ann)!.username!, /^ann/)
  })
}
