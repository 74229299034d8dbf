/** The directory's contract on Postgres and the view of receipts over the same log. */
import assert from 'node:assert/strict'
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
  return { ...world, directory: createDirectory(world.engine), user }
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
