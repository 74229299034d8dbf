import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Attempt, Row } from './checkers.ts'
import { checkOwnership, type EpochRecord } from './checkers-ownership.ts'
import { checkPresence, type PresenceSeen, type PresenceTruth } from './checkers-presence.ts'
import { checkReceipts, type ReceiptHistory } from './checkers-receipts.ts'
import { checkReconnects, checkRecovery, type FaultSpan } from './checkers-recovery.ts'
import { checkLogs, checkResources } from './checkers-resources.ts'

// --- C5 ----------------------------------------------------------------------------------------------------------------
const send = (n: number, invokedAt: number, completedAt: number | undefined, conversation = 'c'): Attempt => ({
  sender: 'ana',
  connection: 1,
  conversation,
  clientId: `id${n}`,
  content: `text ${n}`,
  invokedAt,
  ...(completedAt !== undefined && { completedAt }),
  outcome: completedAt === undefined ? { kind: 'unknown' } : { kind: 'ok', seq: n, messageId: `m${n}` },
})
const fault: FaultSpan = { code: 'F2', begin: 1000, end: 2000, fired: 1, limitMs: 3000 }

test('[C5] a pause is measured from the first send that waits to the next ack', () => {
  const attempts = [send(1, 900, 950), send(2, 1100, undefined), send(2, 1600, 3500), send(3, 1700, 3500)]
  const { problems, recoveries } = checkRecovery(attempts, [fault])
  assert.deepEqual(problems, [])
  assert.equal(recoveries[0]!.worstMs, 2400)
})

test('[C5] think time is no pause', () => {
  const { recoveries } = checkRecovery([send(1, 900, 950), send(2, 9000, 9010)], [{ ...fault, end: 9005 }])
  assert.equal(recoveries[0]!.worstMs, 10)
})

test('[C5] notices a pause over the limit, in any conversation', () => {
  const attempts = [send(1, 1100, 1110), send(2, 1100, 4200, 'd')]
  assert.equal(checkRecovery(attempts, [fault]).problems.length, 1)
  assert.deepEqual(checkRecovery(attempts, [fault], 3).problems, [])
})

test('[C5] who left of their own accord waits until they leave and from when they are back', () => {
  const left = (abandonedAt: number): Attempt => ({ ...send(2, 1100, undefined), abandonedAt })
  const worst = (attempts: Attempt[]) => checkRecovery(attempts, [{ ...fault, end: 9000 }]).recoveries[0]!.worstMs
  assert.equal(worst([send(1, 900, 950), left(1140), send(2, 8000, 8010)]), 40)
  assert.equal(worst([send(1, 900, 950), left(1140), send(2, 8000, 8200)]), 200)
  assert.equal(worst([send(1, 900, 950), left(1140), send(2, 8000, undefined)]), Number.POSITIVE_INFINITY)
  assert.equal(worst([send(1, 900, 950), left(5100), send(3, 1200, 1300)]), 3800)
})

test('[C5] notices a send that was never acked', () => {
  assert.equal(checkRecovery([send(1, 1100, undefined)], [fault]).problems.length, 1)
})

test('[C5] notices a fault that never fired', () => {
  assert.match(checkRecovery([send(1, 1100, 1110)], [{ ...fault, fired: 0 }]).problems[0]!, /never fired/)
})

test('[C5] a fault that is counted from its heal forgives what could not work before', () => {
  const attempts = [send(1, 1100, 4900)]
  assert.deepEqual(checkRecovery(attempts, [{ ...fault, isFromHeal: true }]).problems, [])
  assert.equal(checkRecovery(attempts, [fault]).problems.length, 1)
})

test('[C5] notices a device that stayed away', () => {
  const gaps = [{ device: 'ben', from: 1500, to: 13_000 }]
  assert.equal(checkReconnects(gaps, fault, 10_000).length, 1)
  assert.deepEqual(checkReconnects(gaps, fault, 12_000), [])
})

// --- C6 ----------------------------------------------------------------------------------------------------------------
const receipts = (): ReceiptHistory => ({
  announced: [
    { user: 'ana', conversation: 'c', seq: 4 },
    { user: 'ana', conversation: 'c', seq: 2 },
    { user: 'ben', conversation: 'c', seq: 99 },
  ],
  observed: [
    { observer: 'ben 1', user: 'ana', conversation: 'c', readSeq: 2, at: 1 },
    { observer: 'ben 1', user: 'ana', conversation: 'c', readSeq: 4, at: 2 },
  ],
  final: [
    { user: 'ana', conversation: 'c', readSeq: 4 },
    { user: 'ben', conversation: 'c', readSeq: 9 },
  ],
  heads: { c: 9 },
  views: [
    { conversation: 'c', seq: 4, count: 2 },
    { conversation: 'c', seq: 5, count: 1 },
  ],
})

test('[C6] announcements up, down and above the head have no problem', () => {
  assert.deepEqual(checkReceipts(receipts()), [])
})

test('[C6] notices a position that moves back', () => {
  const h = receipts()
  const back = { observer: 'ben 1', user: 'ana', conversation: 'c', readSeq: 3, at: 3 }
  assert.equal(checkReceipts({ ...h, observed: [...h.observed, back] }).length, 1)
})

test('[C6] notices an announcement that was lost, and a position nobody announced', () => {
  const h = receipts()
  for (const readSeq of [3, 5]) {
    const final = h.final.map(f => (f.user === 'ana' ? { ...f, readSeq } : f))
    assert.ok(checkReceipts({ ...h, final, views: [] }).length === 1, `at ${readSeq}`)
  }
})

test('[C6] notices a reader who is counted twice', () => {
  assert.equal(checkReceipts({ ...receipts(), views: [{ conversation: 'c', seq: 5, count: 2 }] }).length, 1)
})

// --- C7 ----------------------------------------------------------------------------------------------------------------
const row = (seq: number, epoch: number): Row => ({
  conversation: 'c',
  seq,
  kind: 'message.new',
  senderId: 'ana',
  clientId: `id${seq}`,
  messageId: `m${seq}`,
  content: '',
  epoch,
})
const owned: EpochRecord[] = [
  { shard: 7, epoch: 1, owner: 'n1', worker: 0 },
  { shard: 7, epoch: 3, owner: 'n2', worker: 1 },
  { shard: 8, epoch: 2, owner: 'n1', worker: 0 },
]
const ownership = (rows: Row[], history = owned) => checkOwnership(rows, () => 7, history)

test('[C7] a log that changes hands once has no problem', () => {
  assert.deepEqual(ownership([row(1, 1), row(2, 3), row(3, 3)]), [])
})

test('[C7] notices an epoch that goes back', () => assert.equal(ownership([row(1, 3), row(2, 1)]).length, 1))
test("[C7] notices another shard's epoch", () => assert.equal(ownership([row(1, 1), row(2, 2)]).length, 1))
test('[C7] notices an epoch with two owners', () => {
  assert.equal(ownership([row(1, 1)], [...owned, { shard: 7, epoch: 1, owner: 'n2', worker: 0 }]).length, 1)
})
test('[C7] notices an epoch given to two shards', () => {
  assert.equal(ownership([row(1, 1)], [...owned, { shard: 9, epoch: 1, owner: 'n1', worker: 0 }]).length, 1)
})
test('[C7] notices a row under an epoch without owner', () => {
  assert.equal(ownership([row(1, 5)], [...owned, { shard: 7, epoch: 5, owner: null, worker: null }]).length, 1)
})

// --- C8 ----------------------------------------------------------------------------------------------------------------
const lives: PresenceTruth[] = [
  { user: 'ana', from: 0, to: 10_000, ended: 'clean' },
  { user: 'ben', from: 0, to: 10_000, ended: 'lost' },
  { user: 'cem', from: 0, to: 10_000, ended: 'lost' },
  { user: 'cem', from: 9000, to: 90_000, ended: 'open' },
]
const told = (user: string, status: PresenceSeen['status'], at: number) =>
  checkPresence(lives, [{ observer: 'o', user, status, at }]).length

test('[C8] what may be said within the bounds has no problem', () => {
  assert.equal(told('ana', 'online', 12_900), 0)
  assert.equal(told('ana', 'offline', 10_100), 0)
  assert.equal(told('ana', 'offline', 1000), 0, 'not yet known')
  assert.equal(told('ben', 'online', 54_000), 0)
  assert.equal(told('cem', 'unknown', 20_000), 0)
})
test('[C8] notices online long after a clean end', () => assert.equal(told('ana', 'online', 14_000), 1))
test('[C8] notices a key without expiry', () => assert.equal(told('ben', 'online', 56_000), 1))
test('[C8] notices offline of one with another device', () => assert.equal(told('cem', 'offline', 12_000), 1))
test('[C8] notices online of one who never came', () => assert.equal(told('dan', 'online', 1000), 1))

// --- C12 ---------------------------------------------------------------------------------------------------------------
test('[C12] notices what was left behind, and memory beyond its factor', () => {
  const before = { 'gateway 1 sockets': 20, 'postgres connections': 31, 'engine 1 rss': 100 }
  assert.deepEqual(checkResources('F2', before, { ...before, 'engine 1 rss': 149 }), [])
  assert.equal(checkResources('F2', before, { ...before, 'gateway 1 sockets': 21 }).length, 1)
  assert.equal(checkResources('F2', before, { ...before, 'postgres connections': 30 }).length, 1)
  assert.equal(checkResources('F2', before, { ...before, 'engine 1 rss': 151 }).length, 1)
  assert.equal(checkResources('F2', before, { 'gateway 1 sockets': 20, 'postgres connections': 31 }).length, 1)
})

test('[C12] notices an unhandled rejection in a log', () => {
  assert.equal(checkLogs(['{"level":50,"msg":"nobody handled a failure"}', '{"level":30,"msg":"fine"}']).length, 1)
})
