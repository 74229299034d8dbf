/** Tokens of the day on a real Postgres: many turns at once, crashes and late words, and never a token too many. */
import assert from 'node:assert/strict'
import { randomInt, randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { readConfig } from '#engine/ops/config.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { type BudgetLimits, budgetLimitsOf, createBudget } from './budget.ts'
import { type Connected, openPool } from './pool.ts'

let database: TestDatabase
let engine: Connected
let admin: Connected

before(async () => {
  database = await testDatabase()
  admin = await openPool({ url: database.url, name: 'test-admin', log: silentLog })
  engine = await openPool({ url: database.url, role: 'parley_engine', name: 'test-engine', log: silentLog, poolMax: 8 })
})
after(async () => {
  await engine.close()
  await admin.close()
  await database.drop()
})

const everybody = '00000000-0000-0000-0000-000000000000'
const budgetOf = (limits: BudgetLimits) =>
  createBudget({ pool: engine.pool, limits, log: silentLog, metrics: openMetrics() })
const fresh = () => admin.pool.query('truncate ai_budget, ai_spend')
const used = async (userId: string) =>
  Number((await admin.pool.query('select sum(used) as used from ai_budget where user_id = $1', [userId])).rows[0].used)

/** A small generator, so that a failing run can be had again. */
function dice(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

test('[S22] turns side by side, with random costs, crashes and late settlements, never spend more than the day has', async () => {
  await fresh()
  const seed = Number(process.env['SEED'] ?? randomInt(1e9))
  const roll = dice(seed)
  const limits = { userMax: 20_000, allMax: 50_000 }
  const budget = budgetOf(limits)
  const people: string[] = [1, 2, 3, 4].map(() => randomUUID())
  /** What providers really charged, by person. */
  const charged = new Map<string, number>(people.map(p => [p, 0]))
  let granted = 0
  let refused = 0
  const loose: Promise<unknown>[] = []

  async function turn(userId: string): Promise<void> {
    const runId = randomUUID()
    for (let round = 0; round < 1 + Math.floor(roll() * 4); round++) {
      const tokens = 1 + Math.floor(roll() * 1500)
      const ask = { runId, userId, round, tokens }
      const answer = await budget.reserve(ask)
      // An answer that was lost on the way is asked for again, and counts once.
      if (answer.isGranted && roll() < 0.2) assert.ok((await budget.reserve(ask)).isGranted, `SEED=${seed}`)
      if (!answer.isGranted) {
        refused++
        assert.ok(answer.left < tokens && answer.resetsInMs > 0 && answer.resetsInMs <= 86_400_000, `SEED=${seed}`)
        return
      }
      granted++
      const cost = Math.floor(roll() * (tokens + 1))
      charged.set(userId, charged.get(userId)! + cost)
      const input = Math.floor(cost / 3)
      const spent = { runId, round, input, output: cost - input, estimated: roll() < 0.3 }
      const fate = roll()
      // The node is gone: nobody says what it was, and perhaps another goes on with the next round.
      if (fate < 0.15) {
        if (roll() < 0.5) return
      } else if (fate < 0.3) loose.push(sleep(roll() * 20).then(() => budget.settle(spent)))
      else {
        await budget.settle(spent)
        if (roll() < 0.2) await budget.settle(spent)
      }
    }
  }

  let isOver = false
  const watching = (async () => {
    while (!isOver) {
      for (const userId of people) assert.ok((await used(userId)) <= limits.userMax, `SEED=${seed}`)
      assert.ok((await used(everybody)) <= limits.allMax, `SEED=${seed}`)
      await sleep(5)
    }
  })()
  const turns = Array.from({ length: 240 }, (_, i) => turn(people[i % people.length]!))
  await Promise.all(turns)
  await Promise.all(loose)
  isOver = true
  await watching
  assert.ok(granted > 40 && refused > 10, `SEED=${seed}: ${granted} granted, ${refused} refused`)
  const { rows } = await admin.pool.query<{ user_id: string; sum: string }>(
    'select user_id, sum(reserved + input + output) from ai_spend group by user_id',
  )
  let all = 0
  for (const { user_id, sum } of rows) {
    all += Number(sum)
    assert.equal(await used(user_id), Number(sum), `SEED=${seed}: the counter is not what the rows say`)
    assert.ok(charged.get(user_id)! <= Number(sum), `SEED=${seed}: charged more than was counted`)
  }
  assert.equal(await used(everybody), all, `SEED=${seed}`)
})

test('[S22] what a turn left open counts in full until it is long over, and then is settled as it was reserved', async () => {
  await fresh()
  const budget = budgetOf({ userMax: 1000, allMax: 0 })
  const [userId, runId, room] = [randomUUID(), randomUUID(), randomUUID()]
  assert.ok((await budget.reserve({ runId, userId, round: 0, tokens: 600 })).isGranted)
  const next = { runId: randomUUID(), userId, round: 0, tokens: 600 }
  const answer = await budget.reserve(next)
  assert.deepEqual([answer.isGranted, !answer.isGranted && answer.left], [false, 400])
  const owner = (await admin.pool.query(`insert into users (username) values ('left_over') returning id`)).rows[0].id
  await admin.pool.query(
    `insert into conversation (id, shard_id, kind, created_by, created_at) values ($1, 1, 'ai', $2, now())`,
    [room, owner],
  )
  await admin.pool.query(
    `insert into ai_run (id, conversation_id, shard_id, requester, question_id, question_seq, client_message_id, answer_id,
                         status, created_at, ended_at)
     values ($1, $2, 1, $3, $4, 1, $4, $4, 'ended', now(), now() - interval '2 minutes')`,
    [runId, room, userId, randomUUID()],
  )
  assert.ok((await budget.reserve({ ...next, tokens: 400 })).isGranted)
  const { rows } = await admin.pool.query('select reserved, input, is_estimated from ai_spend where run_id = $1', [
    runId,
  ])
  assert.deepEqual(rows, [{ reserved: '0', input: '600', is_estimated: true }])
  // A word that comes too late changes nothing.
  await budget.settle({ runId, round: 0, input: 1, output: 1, estimated: false })
  assert.equal(await used(userId), 1000)
})

test('[S22] a turn that passes midnight is counted on the day of each request', async () => {
  await fresh()
  const [userId, runId] = [randomUUID(), randomUUID()]
  const reserve = async (round: number, day: string) =>
    (
      await engine.pool.query('select is_granted from ai_reserve($1, $2, $3, 100, 150, 0, $4)', [
        runId,
        userId,
        round,
        day,
      ])
    ).rows[0].is_granted
  assert.equal(await reserve(0, '2026-01-01'), true)
  assert.equal((await engine.pool.query('select ai_settle($1, 0, 60, 20, false) as done', [runId])).rows[0].done, true)
  assert.equal(await reserve(1, '2026-01-01'), false)
  assert.equal(await reserve(1, '2026-01-02'), true)
  assert.equal((await engine.pool.query('select ai_settle($1, 1, 1, 1, false) as done', [runId])).rows[0].done, true)
  const { rows } = await admin.pool.query('select day::text, used from ai_budget where user_id = $1 order by day', [
    userId,
  ])
  assert.deepEqual(rows, [
    { day: '2026-01-01', used: '80' },
    { day: '2026-01-02', used: '2' },
  ])
})

test('[S22] limits follow the scale of rates, and 0 is none', async () => {
  await fresh()
  const config = readConfig({ AI_TOKENS_PER_DAY: '10', AI_TOKENS_PER_DAY_ALL: '0', RATE_LIMIT_SCALE: '3' })
  assert.deepEqual(budgetLimitsOf(config), { userMax: 30, allMax: 0 })
  const budget = budgetOf({ userMax: 0, allMax: 0 })
  assert.ok((await budget.reserve({ runId: randomUUID(), userId: randomUUID(), round: 0, tokens: 1e9 })).isGranted)
})
