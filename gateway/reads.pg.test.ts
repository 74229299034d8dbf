/** What the hub reads, on real Postgres under the gateway's own role, over a log that a real journal wrote. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { makeRoom } from '#engine/storage/directory.contract.ts'
import { createDirectory } from '#engine/storage/directory.ts'
import type { Database } from '#engine/storage/orm.ts'
import { type Bench, openBench, settled } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { openRoles, type TestRoles } from '#load/kit/roles.ts'
import type { Db } from './auth/db.ts'
import { Positions } from './positions.ts'
import { createReads, type Reads } from './reads.ts'

let admin: Database
let gateway: Database
let user: TestRoles['user']
let close: TestRoles['close']

before(async () => {
  ;({ admin, gateway, user, close } = await openRoles())
})
after(() => close())

const readTest = (title: string, body: (bench: Bench, read: Reads, positions: Positions) => Promise<void>) =>
  void test(title, { timeout: 30_000 }, async () => {
    const bench = await openBench({ ...(await postgresWorld(admin)), directory: createDirectory(admin), user } as never)
    const positions = new Positions(() => 0)
    try {
      await body(bench, createReads(gateway.pool as unknown as Db, positions), positions)
    } finally {
      await bench.close()
    }
  })

readTest(
  '[RD1] ready lists living conversations by last activity, with unread of others only',
  async (b, read, positions) => {
    const [ann, bob] = [await user('ann'), await user('bob')]
    const older = await makeRoom(b, 'group', [ann, bob])
    const newer = await makeRoom(b, 'dm', [ann, bob])
    const gone = await makeRoom(b, 'group', [ann])
    gone.send({ side: { kind: 'conversation.deleted', by: ann, at: Date.now() } })
    for (let i = 0; i < 120; i++) older.send()
    await settled(older, gone)
    await new Promise(resolve => setTimeout(resolve, 5))
    for (let i = 0; i < 3; i++) newer.send()
    await settled(newer)
    await admin.pool.query('update event set sender_id = $2 where conversation_id = $1 and seq = 4', [
      newer.conversation,
      ann,
    ])
    await admin.pool.query(
      'insert into message_state (conversation_id, seq, message_id, deleted_at) values ($1, 3, uuidv7(), now())',
      [newer.conversation],
    )
    await createDirectory(admin).flushReceipts([
      { conversation: newer.conversation, userId: ann, readSeq: 1, deliveredSeq: 1, at: Date.now(), mark: true },
    ])
    // Above position 1: one of another's, one deleted, one of one's own.
    const first = { id: newer.conversation, type: 'dm', headSeq: 4, readSeq: 1, unread: 1 }
    const second = { id: older.conversation, type: 'group', title: 'Room', headSeq: 121, readSeq: 0, unread: 100 }
    assert.deepEqual(await read.ready(ann), [first, second])
    positions.note(ann, older.conversation, 119)
    assert.deepEqual(await read.ready(ann), [first, { ...second, readSeq: 119, unread: 2 }])
    assert.deepEqual(await read.ready(randomUUID()), [])
    const memberships = await read.memberships([ann, bob])
    const rooms = (of: string) => memberships.filter(m => m.userId === of).map(m => m.conversation)
    assert.deepEqual(rooms(ann).sort(), [newer.conversation, older.conversation].sort())
    assert.deepEqual(rooms(bob).sort(), [newer.conversation, older.conversation].sort())
    const stranger = randomUUID()
    assert.deepEqual(
      await read.conversationsOf([ann, bob, stranger]),
      new Map([ann, bob].map(of => [of, new Set(rooms(of))])),
    )
  },
)

readTest('[RD3] stretches of several logs come in one reading, each within its own limits', async (b, read) => {
  const [one, other] = [
    await makeRoom(b, 'group', [await user('ann')]),
    await makeRoom(b, 'group', [await user('ann')]),
  ]
  for (const room of [one, other]) {
    for (const content of ['a', 'b', 'c'.repeat(500), 'd']) {
      room.send({ body: JSON.stringify({ role: 'user', content, clientMessageId: randomUUID() }) })
      await settled(room)
    }
  }
  const read4 = (limits: { events: number; bytes: number }[]) =>
    read.frames([
      { conversation: one.conversation, after: 1, ...limits[0]! },
      { conversation: randomUUID(), after: 0, ...limits[1]! },
      { conversation: other.conversation, after: 3, ...limits[2]! },
      { conversation: one.conversation, after: 2, ...limits[3]! },
    ])
  const many = { events: 10, bytes: 1e6 }
  const seqs = (found: Awaited<ReturnType<typeof read4>>) => found.map(frames => frames.map(f => f.seq))
  assert.deepEqual(seqs(await read4([many, many, many, many])), [[2, 3, 4, 5], [], [4, 5], [3, 4, 5]])
  // By events, by bytes (a row counts 200 more than its body), and one that is larger than its limit by itself.
  const found = await read4([{ events: 2, bytes: 1e6 }, many, { events: 9, bytes: 100 }, { events: 9, bytes: 800 }])
  assert.deepEqual(seqs(found), [[2, 3], [], [4], [3]])
  assert.equal(JSON.parse(found[2]![0]!.json).content, 'c'.repeat(500))
})

readTest('[RD2] a message deleted since is masked in every later read', async (b, read) => {
  const s = await makeRoom(b, 'group', [await user('ann')])
  s.send({
    body: JSON.stringify({
      role: 'user',
      content: 'secret',
      attachments: [{ id: 'x' }],
      clientMessageId: randomUUID(),
    }),
  })
  await settled(s)
  await admin.pool.query(
    'insert into message_state (conversation_id, seq, message_id, deleted_at) values ($1, 2, uuidv7(), now())',
    [s.conversation],
  )
  const [frames] = await read.frames([{ conversation: s.conversation, after: 1, events: 10, bytes: 1e6 }])
  const frame = JSON.parse(frames![0]!.json)
  assert.equal(frame.content, '')
  assert.equal(frame.deleted, true)
  assert.equal('attachments' in frame, false)
  assert.equal(typeof frame.clientMessageId, 'string')
  const row = (
    await gateway.pool.query('select content, role from messages where conversation_id = $1 and seq = 2', [
      s.conversation,
    ])
  ).rows[0]
  assert.deepEqual(row, { content: '', role: 'user' })
})

readTest('[RD3] people share a conversation or they do not; who has blocked one is a stranger', async (b, read) => {
  const [ann, bob, cid] = [await user('ann'), await user('bob'), await user('cid')]
  await makeRoom(b, 'dm', [ann, bob])
  assert.deepEqual([...(await read.sharing(ann, [bob, cid, ann]))].sort(), [ann, bob].sort())
  assert.deepEqual([...(await read.sharing(cid, [ann, bob]))], [])
  await admin.pool.query('insert into blocks (blocker_id, blocked_id) values ($1, $2)', [ann, bob])
  assert.deepEqual([...(await read.sharing(bob, [ann, bob]))], [bob])
  assert.deepEqual([...(await read.sharing(ann, [bob]))], [bob], 'the blocker still sees')
})
