/** The directory's contract on Postgres, and the gateway's read side over the same log, each under its own role. */
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { type Bench, openBench, settled } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { assistantId } from '#protos/ids.ts'
import { directoryContract, makeRoom } from './directory.contract.ts'
import { createDirectory } from './directory.ts'
import { type Database, openOrm } from './orm.ts'
import { createReadSide } from './read.ts'

let database: TestDatabase
let admin: Database
let gateway: Database

before(async () => {
  database = await testDatabase()
  admin = await openOrm({ url: database.url, name: 'test-admin', log: silentLog })
  gateway = await openOrm({ url: database.url, role: 'parley_gateway', name: 'test-gateway', log: silentLog })
})
after(async () => {
  await gateway.close()
  await admin.close()
  await database.drop()
})

async function user(username: string): Promise<string> {
  const name = `${username}_${randomBytes(4).toString('hex')}`
  const made = await gateway.pool.query<{ id: string }>('insert into users (username) values ($1) returning id', [name])
  return made.rows[0]!.id
}

async function open() {
  const world = await postgresWorld(admin)
  return { ...world, directory: createDirectory(world.engine), user }
}

directoryContract('postgres', open)

const readTest = (title: string, body: (bench: Bench, read: ReturnType<typeof createReadSide>) => Promise<void>) =>
  void test(title, { timeout: 30_000 }, async () => {
    const bench = await openBench(await open())
    try {
      await body(bench, createReadSide(gateway))
    } finally {
      await bench.close()
    }
  })

readTest('R1 ready lists living conversations by last activity, with unread of others only', async (b, read) => {
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
  assert.deepEqual(await read.readyFor(ann), [
    // Above position 1: one of another's, one deleted, one of one's own.
    { id: newer.conversation, kind: 'dm', title: null, firstSeq: 1, head: 4, readSeq: 1, unread: 1 },
    { id: older.conversation, kind: 'group', title: 'Room', firstSeq: 1, head: 121, readSeq: 0, unread: 100 },
  ])
  assert.deepEqual(await read.readyFor(randomUUID()), [])
  const memberships = await read.membershipsOf([ann, bob])
  assert.equal(memberships.get(ann)?.length, 2)
  assert.deepEqual(
    memberships
      .get(bob)
      ?.map(c => c.head)
      .sort(),
    [121, 4],
  )
  assert.deepEqual([...(await read.conversations([gone.conversation])).keys()], [])
})

readTest('R2 a message deleted since is masked in every later read', async (b, read) => {
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
  const { frames } = await read.frames(s.conversation, 1, { events: 10, bytes: 1e6 })
  const frame = JSON.parse(frames[0]!.json)
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

readTest('R3 people share a conversation or they do not', async (b, read) => {
  const [ann, bob, cid] = [await user('ann'), await user('bob'), await user('cid')]
  const dm = await makeRoom(b, 'dm', [ann, bob])
  assert.deepEqual([...(await read.sharesConversation(ann, [bob, cid, assistantId, ann]))].sort(), [ann, bob].sort())
  await makeRoom(b, 'ai', [cid])
  assert.deepEqual([...(await read.sharesConversation(cid, [bob, assistantId]))], [assistantId])
  assert.equal(await read.isMember(dm.conversation, bob), true)
  assert.equal(await read.isMember(dm.conversation, cid), false)
  assert.deepEqual((await read.membersOf([dm.conversation])).get(dm.conversation), [ann, bob])
})

readTest('R4 receipt marks become times of messages: the first mark at or above counts', async (b, read) => {
  const [ann, bob] = [await user('ann'), await user('bob')]
  const s = await makeRoom(b, 'group', [ann, bob])
  s.send()
  s.send()
  await settled(s)
  const directory = createDirectory(admin)
  const row = { conversation: s.conversation, userId: bob, mark: true }
  await directory.flushReceipts([{ ...row, readSeq: 0, deliveredSeq: 3, at: 1_700_000_001_000 }])
  await directory.flushReceipts([{ ...row, readSeq: 2, deliveredSeq: 3, at: 1_700_000_002_000 }])
  await directory.flushReceipts([{ ...row, readSeq: 3, deliveredSeq: 3, at: 1_700_000_003_000 }])
  const found = await gateway.pool.query(
    `select e.seq::int, extract(epoch from r.delivered_at)::int as delivered, extract(epoch from r.read_at)::int as read
       from message_receipts r join event e using (conversation_id, message_id)
      where r.conversation_id = $1 and r.user_id = $2 and e.seq > 1 order by 1`,
    [s.conversation, bob],
  )
  assert.deepEqual(found.rows, [
    { seq: 2, delivered: 1_700_000_001, read: 1_700_000_002 },
    { seq: 3, delivered: 1_700_000_001, read: 1_700_000_003 },
  ])
  assert.equal((await read.heads([s.conversation])).get(s.conversation)?.head, 3)
})
