/** Calls of other servers' tools against real Postgres: begun once, by whoever may, whatever happens at the same time. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { silentLog } from '#engine/ops/log.ts'
import { type Connected, openPool } from '#engine/storage/pool.ts'
import { openToolPins } from '#engine/storage/tool-pins.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'
import { recordCall } from './fixtures/recorded-call.ts'
import { createForeignLedger, type ForeignCall, type ForeignLedger } from './foreign-ledger.ts'

let database: TestDatabase
let engine: Connected
let owner: Connected
let ledger: ForeignLedger
let ana: string
let ben: string

before(async () => {
  database = await testDatabase()
  const open = (role?: 'parley_engine') =>
    openPool({ url: database.url, name: 'test-foreign', poolMax: 8, log: silentLog, ...(role ? { role } : {}) })
  ;[engine, owner] = await Promise.all([open('parley_engine'), open()])
  ledger = createForeignLedger(engine.pool)
  const person = async () => (await owner.pool.query('insert into users default values returning id')).rows[0].id
  ;[ana, ben] = await Promise.all([person(), person()])
})
after(async () => {
  await Promise.all([engine.close(), owner.close()])
  await database.drop()
})

async function recorded(
  approval: 'auto' | 'required' = 'auto',
  decision?: 'approve' | 'reject',
  args: object = { text: 'x' },
): Promise<ForeignCall> {
  const key = await recordCall(owner.pool, ana, 'notes__write', args, approval, decision)
  return { ...key, requester: ana, name: 'notes__write', arguments: JSON.stringify(args), trace: 'trace' }
}
const wanted = { isWanted: true, isAuto: true }
const records = async (call: ForeignCall) =>
  (
    await owner.pool.query(`select detail ->> 'outcome' as outcome from audit where detail ->> 'run_id' = $1`, [
      call.runId,
    ])
  ).rows.map(row => row.outcome)

test('3.5 of many that would make a call at the same time one may, and one record stands', async () => {
  for (let i = 0; i < 20; i++) {
    const call = await recorded()
    const claims = await Promise.all(Array.from({ length: 6 }, () => ledger.claim(call, wanted)))
    assert.deepEqual(claims.map(c => c.kind).sort(), ['begun', 'begun', 'begun', 'begun', 'begun', 'ours'])
    assert.deepEqual(await records(call), ['begun'])
  }
})

test('3.5 the first result that is stored is the result; a call that has one is not made', async () => {
  const call = await recorded()
  assert.equal((await ledger.claim(call, wanted)).kind, 'ours')
  const results = ['{"text": "a", "success": true}', '{"success": false, "error": "OperationFailed"}']
  const first = { status: 'success' as const, result: results[0]! }
  assert.deepEqual(await ledger.keep(call, first), first)
  assert.deepEqual(await ledger.keep(call, { status: 'error', result: results[1]! }), first)
  assert.deepEqual(await ledger.claim(call, wanted), { kind: 'stored', ...first })
})

test('3.5 not without a person’s word where one is needed, also when that was not known as it was recorded', async () => {
  const asks = { isWanted: true, isAuto: false }
  assert.equal((await ledger.claim(await recorded('required'), asks)).kind, 'refused')
  assert.equal((await ledger.claim(await recorded('required'), wanted)).kind, 'refused')
  assert.equal((await ledger.claim(await recorded('required', 'reject'), wanted)).kind, 'refused')
  // Recorded while its server was away, when it was not known to ask.
  const blind = await recorded('auto')
  assert.equal((await ledger.claim(blind, asks)).kind, 'refused')
  assert.deepEqual(await records(blind), ['Unauthorized'])
  assert.equal((await ledger.claim(await recorded('required', 'approve'), asks)).kind, 'ours')
})

test('3.5 not with other arguments or another name, not for another person, not after the turn, not unrecorded', async () => {
  const call = await recorded()
  const others: Partial<ForeignCall>[] = [
    { arguments: '{"text":"y"}' },
    { name: 'notes__wipe' },
    { requester: ben },
    { callId: 'c2' },
  ]
  for (const other of others) assert.equal((await ledger.claim({ ...call, ...other }, wanted)).kind, 'refused')
  await owner.pool.query(`update ai_run set status = 'ended' where id = $1`, [call.runId])
  assert.equal((await ledger.claim(call, wanted)).kind, 'refused')
})

test('3.5 who only looks begins nothing, and learns of what was begun', async () => {
  const call = await recorded()
  const look = { isWanted: false, isAuto: true }
  assert.equal((await ledger.claim(call, look)).kind, 'refused')
  assert.deepEqual(await records(call), [])
  assert.equal((await ledger.claim(call, wanted)).kind, 'ours')
  const seen = await ledger.claim(call, look)
  assert.ok(seen.kind === 'begun' && seen.ageMs >= 0 && seen.ageMs < 30_000)
})

test('K-11 a call that cannot be made leaves the record why, and none once it was begun', async () => {
  const call = await recorded()
  const refused = { isWanted: false, isAuto: true, why: 'OperationFailed' }
  assert.equal((await ledger.claim(call, refused)).kind, 'refused')
  assert.deepEqual(await records(call), ['OperationFailed'])
  const made = await recorded()
  assert.equal((await ledger.claim(made, wanted)).kind, 'ours')
  assert.equal((await ledger.claim(made, refused)).kind, 'begun')
  assert.deepEqual(await records(made), ['begun'])
})

test('3.5 tools of a new server are pinned by one of those who see it first; later ones wait', async () => {
  const pins = openToolPins(engine.pool)
  const [a, b, c] = ['a', 'b', 'c'].map(x => x.repeat(64)) as [string, string, string]
  const tool = (name: string, hash: string) => ({ tool: name, hash, spec: `${name} ${hash[0]}` })
  await Promise.all([1, 2, 3].map(() => pins.see('notes', [tool('one', a), tool('two', a)])))
  await pins.see('notes', [tool('one', b), tool('two', a), tool('three', c)])
  assert.deepEqual(
    await pins.accepted('notes'),
    new Map([
      ['one', a],
      ['two', a],
    ]),
  )
  // What was shown under another hash is not accepted.
  assert.deepEqual(await pins.accept('notes', a), [])
  assert.deepEqual(await pins.accept('other', b), [])
  assert.deepEqual(await pins.accept('notes', b.slice(0, 32)), ['one'])
  assert.deepEqual((await pins.accepted('notes')).get('one'), b)
  // Back to what it was: that is no longer what is accepted.
  await pins.see('notes', [tool('one', a)])
  assert.deepEqual(
    (await pins.all()).map(p => [p.tool, p.hash?.[0] ?? null, p.seenHash[0]]),
    [
      ['one', 'b', 'a'],
      ['three', null, 'c'],
      ['two', 'a', 'a'],
    ],
  )
})
