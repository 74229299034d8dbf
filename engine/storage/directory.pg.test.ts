/** The directory's contract on Postgres and the view of receipts over the same log. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { openBench, settled } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { openRoles, type TestRoles } from '#load/kit/roles.ts'
import { directoryContract, makeRoom } from './directory.contract.ts'
import { createDirectory } from './directory.ts'
import type { Database } from './orm.ts'

let admin: Database
let gateway: Database
let user: TestRoles['user']
let close: TestRoles['close']

before(async () => {
  ;({ admin, gateway, user, close } = await openRoles())
})
after(() => close())

async function open() {
  const world = await postgresWorld(admin)
  return { ...world, directory: createDirectory(world.engine), user, contextOf }
}

async function contextOf(runId: string): Promise<number[][]> {
  const text = 'select seqs::float8[] as seqs from ai_context where run_id = $1 and round = 0'
  const { rows } = await gateway.pool.query<{ seqs: number[] }>(text, [runId])
  return rows.map(row => row.seqs)
}

directoryContract('postgres', open)

test('R4 receipt marks become times of messages: the first mark at or above counts', { timeout: 30_000 }, async () => {
  const b = await openBench(await open())
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
  await b.close()
})

test('D10 pieces of turns that ended a while ago under these shards go; no others', { timeout: 30_000 }, async () => {
  const world = await open()
  const b = await openBench(world)
  const ann = await user('ann')
  const [s, elsewhere] = [await makeRoom(b, 'ai', [ann]), await makeRoom(b, 'ai', [ann])]
  const now = Date.now()
  const runs: string[] = []
  for (const [room, endedAt] of [
    [s, now - 3_600_000],
    [s, now],
    [s, undefined],
    [elsewhere, now - 3_600_000],
  ] as const) {
    const id = randomUUID()
    runs.push(id)
    const ids = { questionId: randomUUID(), clientMessageId: randomUUID(), answerId: randomUUID() }
    const run = { id, requester: ann, questionSeq: 1, ...ids, status: 'queued' as const, trace: 't', createdAt: now }
    room.send({ side: { kind: 'run.queued', run } })
    room.send({ segment: { runId: id, offset: 0, text: 'good day' } })
    if (endedAt) room.send({ side: { kind: 'run.ended', runId: id, finish: 'stop', bytes: 8, at: endedAt } })
    await settled(room)
  }
  assert.deepEqual(await createDirectory(world.engine).purgeLeftSegments([s.shard]), { isAll: true })
  const left = await admin.pool.query<{ run_id: string }>('select run_id from ai_segment where run_id = any($1)', [
    runs,
  ])
  assert.deepEqual(
    left.rows.map(r => r.run_id).sort(),
    (s.shard === elsewhere.shard ? runs.slice(1, 3) : runs.slice(1)).sort(),
  )
  await b.close()
})
