/** The journal's contract on Postgres, and what only a real server can do: locks, killed backends, foreign keys. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { Client } from 'pg'
import type { SideChange } from '#engine/actor/ports.ts'
import { silentLog } from '#engine/ops/log.ts'
import { checkLog, openBench, settled, until } from '#load/kit/journal-bench.ts'
import { postgresWorld } from '#load/kit/journal-world.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { commitTimerMs } from '#protos/limits.ts'
import { commitStatement } from './commit-statement.ts'
import { journalContract } from './journal.contract.ts'
import { type Connected, openPool } from './pool.ts'
import { rows } from './query.ts'

let database: TestDatabase
let admin: Connected

before(async () => {
  database = await testDatabase()
  admin = await openPool({ url: database.url, name: 'test-admin', poolMax: 6, log: silentLog })
})
after(async () => {
  await admin.close()
  await database.drop()
})

const openWorld = () => postgresWorld(admin)

journalContract('postgres', openWorld)

/** Runs `work` while another transaction holds the shard's row. */
async function whileLocked(shard: number, work: () => Promise<void>): Promise<void> {
  const holder = await admin.pool.connect()
  try {
    await holder.query('begin')
    await holder.query('set local idle_in_transaction_session_timeout = 0')
    await holder.query('select 1 from shard where shard_id = $1 for update', [shard])
    await work()
  } finally {
    await holder.query('rollback')
    holder.release()
  }
}

test('J14 a statement that outlasts the timer is unknown, not failed: it is resolved when the lock goes', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    const generation = b.journal.generation
    await whileLocked(s.shard, async () => {
      s.send()
      await until(() => b.journal.generation > generation, 'the timer gives the statement up', commitTimerMs + 2000)
      assert.equal(s.acked.size, 1)
    })
    await settled(s)
    assert.equal(s.acked.size, 2)
    await checkLog(world, s)
  } finally {
    await b.close()
  }
})

test('J15 a backend killed in the middle of a commit: the send is stored once and acked', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    await whileLocked(s.shard, async () => {
      s.send()
      await until(() => b.store.inFlight === 1, 'the statement waits for the lock')
      await new Promise(resolve => setTimeout(resolve, 50))
      const killed = await admin.pool.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock'",
        [world.writer],
      )
      assert.equal(killed.rowCount, 1)
      await until(() => b.store.inFlight === 0, 'the loss is seen')
    })
    await settled(s)
    assert.equal(s.acked.size, 2)
    await checkLog(world, s)
  } finally {
    await b.close()
  }
})

async function lockTimeout(ms: string): Promise<void> {
  const name = (await admin.pool.query<{ name: string }>('select current_database() as name')).rows[0]!.name
  await admin.pool.query(`alter database ${name} set lock_timeout = ${ms}`)
}

test('J16 a deadlock or a lock refused stores nothing and is tried again', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    // Every commit of this database now gives up on a lock at once, for a while.
    await lockTimeout('20')
    b.store.discard()
    s.send()
    await whileLocked(s.shard, () => until(() => b.store.commits.length >= 4, 'the statement is tried again'))
    await settled(s)
    assert.equal(s.acked.size, 2)
    await checkLog(world, s)
  } finally {
    await lockTimeout('0')
    await b.close()
  }
})

async function user(): Promise<string> {
  const found = await rows<{ id: string }>(
    admin.pool,
    { name: 'test_user', text: `insert into users (display_name) values ('somebody') returning id` },
    [],
  )
  return found[0]!.id
}

test('J17 side rows are written with the event that announces them, folded within a batch', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const [ann, bob, cid] = [await user(), await user(), await user()]
    const s = b.source()
    await b.own(s)
    const at = Date.now()
    const runId = randomUUID()
    const sides: SideChange[] = [
      {
        kind: 'conversation.created',
        conversationKind: 'group',
        title: 'first',
        createdBy: ann,
        at,
        members: [{ userId: ann, role: 'owner', seq: 1 }],
      },
      { kind: 'member.added', userId: bob, role: 'member', seq: 2, at },
      { kind: 'member.added', userId: cid, role: 'member', seq: 3, at },
      { kind: 'member.role', userId: bob, role: 'admin' },
      { kind: 'member.removed', userId: cid },
      { kind: 'conversation.updated', title: 'second' },
      { kind: 'block', blocker: ann, blocked: bob, set: true, at },
      {
        kind: 'run.queued',
        run: {
          id: runId,
          requester: ann,
          questionId: randomUUID(),
          questionSeq: 8,
          clientMessageId: randomUUID(),
          answerId: randomUUID(),
          status: 'queued',
          trace: 't',
          createdAt: at,
        },
      },
      { kind: 'run.started', runId, model: 'm', at },
    ]
    for (const side of sides) s.send({ side })
    await settled(s)
    assert.equal(b.store.commits.length, 1)
    const later: SideChange[] = [
      { kind: 'conversation.updated', title: null, toolPolicy: 'admins' },
      { kind: 'member.role', userId: bob, role: 'member' },
      { kind: 'block', blocker: ann, blocked: bob, set: false, at },
      { kind: 'run.ended', runId, finish: 'stop', bytes: 5, at },
      { kind: 'conversation.deleted', by: ann, at },
    ]
    const read = async () => {
      const [conversation] = (
        await admin.pool.query(
          'select title, tool_policy, deleted_at is not null as gone from conversation where id = $1',
          [s.conversation],
        )
      ).rows
      const members = (
        await admin.pool.query(
          'select user_id, role from conversation_member where conversation_id = $1 order by joined_seq',
          [s.conversation],
        )
      ).rows
      const [run] = (
        await admin.pool.query('select status, model, finish, bytes::int from ai_run where id = $1', [runId])
      ).rows
      const blocks = (await admin.pool.query('select 1 from blocks where blocker_id = $1', [ann])).rowCount
      return { conversation, members, run, blocks }
    }
    assert.deepEqual(await read(), {
      conversation: { title: 'second', tool_policy: 'requester', gone: false },
      members: [
        { user_id: ann, role: 'owner' },
        { user_id: bob, role: 'admin' },
      ],
      run: { status: 'running', model: 'm', finish: null, bytes: 0 },
      blocks: 1,
    })
    await admin.pool.query('insert into ai_slot (user_id, n, run_id) values ($1, 1, $2)', [ann, runId])
    s.send({ segment: { runId, offset: 0, text: 'hello' } })
    for (const side of later) s.send({ side })
    await settled(s)
    assert.deepEqual(await read(), {
      conversation: { title: null, tool_policy: 'admins', gone: true },
      members: [
        { user_id: ann, role: 'owner' },
        { user_id: bob, role: 'member' },
      ],
      run: { status: 'ended', model: 'm', finish: 'stop', bytes: 5 },
      blocks: 0,
    })
    assert.equal((await admin.pool.query('select 1 from ai_slot where run_id = $1', [runId])).rowCount, 0)
    assert.equal((await admin.pool.query('select 1 from ai_segment where run_id = $1', [runId])).rowCount, 1)
  } finally {
    await b.close()
  }
})

test('J18 a member who does not exist is a culprit of its own, not of its neighbours', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const [s, neighbour] = [b.source(), b.source()]
    await b.own(s, neighbour)
    const ann = await user()
    const at = Date.now()
    s.send({
      side: {
        kind: 'conversation.created',
        conversationKind: 'group',
        title: null,
        createdBy: ann,
        at,
        members: [{ userId: ann, role: 'owner', seq: 1 }],
      },
    })
    const bad = s.send({ side: { kind: 'member.added', userId: randomUUID(), role: 'member', seq: 2, at } })
    const good = s.send()
    neighbour.send()
    await settled(s, neighbour)
    assert.equal(s.answered.get(bad), 'culprit 23503')
    assert.equal(s.answered.get(good), 'stored')
    assert.equal(neighbour.acked.size, 1)
    await checkLog(world, s)
  } finally {
    await b.close()
  }
})

test('J19 segments lost in doubt are found by their run and offset', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    const runId = randomUUID()
    for (const when of ['after', 'before'] as const) {
      b.store.faults.push(when)
      s.send({ segment: { runId, offset: when === 'after' ? 0 : 5, text: 'hello' } })
      await settled(s)
    }
    const stored = await admin.pool.query('select "offset"::int from ai_segment where run_id = $1 order by 1', [runId])
    assert.deepEqual(
      stored.rows.map(r => r.offset),
      [0, 5],
    )
  } finally {
    await b.close()
  }
})

test('J22 a statement with all parts, most of them empty, stores what it was given', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    // So many sets of parts were seen that a new one has no text of its own.
    const at = Date.now()
    const changes: SideChange[] = [
      { kind: 'conversation.updated', title: 'x' },
      { kind: 'member.role', userId: randomUUID(), role: 'admin' },
      { kind: 'member.removed', userId: randomUUID() },
      { kind: 'block', blocker: randomUUID(), blocked: randomUUID(), set: false, at },
      { kind: 'run.started', runId: randomUUID(), model: 'm', at },
      { kind: 'run.ended', runId: randomUUID(), finish: 'stop', bytes: 1, at },
      { kind: 'run.status', runId: randomUUID(), status: 'waiting' },
    ]
    const of = { shard: s.shard, epoch: 1, conversation: s.conversation, events: [], segments: [] }
    const named = (set: number) => commitStatement([{ ...of, sides: changes.filter((_, i) => set & (1 << i)) }]).name
    for (let set = 0; set < 2 ** changes.length; set++) named(set)
    const ann = await user()
    const block: SideChange = { kind: 'block', blocker: ann, blocked: await user(), set: true, at }
    const all = named(2 ** changes.length - 1)
    assert.equal(commitStatement([{ ...of, sides: [block, ...changes] }]).name, all)
    s.send({ side: block })
    s.send()
    for (const side of changes) s.send({ side })
    s.send({ segment: { runId: randomUUID(), offset: 0, text: 'hello' } })
    await settled(s)
    assert.deepEqual(new Set(s.answered.values()), new Set(['stored']))
    assert.equal((await admin.pool.query('select 1 from blocks where blocker_id = $1', [ann])).rowCount, 1)
    await checkLog(world, s)
  } finally {
    await b.close()
  }
})

test('J24 a position that another owner filled while the outcome was unknown is not taken for ours', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    b.store.faults.push('before')
    b.store.connectFaults = Array.from({ length: 3 }, () => ({ code: 'ECONNREFUSED' }))
    const id = s.send()
    await until(() => b.store.commits.length === 2 && b.store.inFlight === 0, 'the statement is lost')
    // The shard went to another, who wrote, and came back.
    await admin.pool.query(
      `with moved as (update shard set epoch = nextval('owner_epoch') where shard_id = $2 returning epoch)
       insert into event (conversation_id, seq, message_id, kind, sender_id, client_id, body_hash, body, epoch, created_at)
       select $1, 2, uuidv7(), 'message.new', uuidv7(), uuidv7(), '', '{"role": "user"}', epoch, now() from moved`,
      [s.conversation, s.shard],
    )
    await admin.pool.query(`update shard set epoch = nextval('owner_epoch') where shard_id = $1`, [s.shard])
    await settled(s)
    assert.equal(s.answered.get(id), 'stored')
    const log = await world.log(s.conversation)
    assert.deepEqual([log.length, log[2]!.clientId], [3, id])
  } finally {
    await b.close()
  }
})

test('J25 a server that became read-only refuses, and its address is asked for again', async () => {
  const world = await openWorld()
  const b = await openBench(world)
  const name = (await admin.pool.query<{ name: string }>('select current_database() as name')).rows[0]!.name
  const readOnly = (is: 'on' | 'off') =>
    admin.pool.query(`alter database ${name} set default_transaction_read_only = ${is}`)
  try {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    await readOnly('on')
    b.store.discard()
    const { generation } = b.journal
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'refused')
    assert.ok(b.journal.generation > generation)
    // The pool's own connections are from before.
    const fresh = new Client({ connectionString: database.url })
    await fresh.connect()
    await fresh.query('set default_transaction_read_only = off')
    await fresh.query(`alter database ${name} set default_transaction_read_only = off`)
    await fresh.end()
    b.store.discard()
    const later = s.send()
    await settled(s)
    assert.equal(s.answered.get(later), 'stored')
  } finally {
    await readOnly('off').catch(() => {})
    await b.close()
  }
})
