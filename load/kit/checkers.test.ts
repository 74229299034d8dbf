import assert from 'node:assert/strict'
import { test } from 'node:test'
import { check, type Delivery, type History, type Row } from './checkers.ts'

const row = (seq: number, more: Partial<Row> = {}): Row => ({
  conversation: 'c',
  seq,
  kind: 'message.new',
  senderId: 'ana',
  clientId: `id${seq}`,
  messageId: `m${seq}`,
  content: `text ${seq}`,
  epoch: 1,
  ...more,
})

const shown = (seq: number, more: Partial<Delivery> = {}): Delivery => ({
  connection: 2,
  conversation: 'c',
  seq,
  kind: 'message.new',
  messageId: `m${seq}`,
  content: `text ${seq}`,
  readyHead: 1,
  ...more,
})

/** Two joined, five sent one after another; Ben came back after 4 and resumed from 2. */
function good(): History {
  const rows = [
    row(1, { kind: 'room.member_joined', content: undefined, clientId: 'create' }),
    ...[2, 3, 4, 5, 6].map(n => row(n)),
  ]
  return {
    rows,
    restRows: rows.map(({ conversation, seq, kind, senderId, messageId, content }) => ({
      conversation,
      seq,
      kind,
      senderId,
      messageId,
      content,
    })),
    attempts: [2, 3, 4, 5, 6].map(n => ({
      sender: 'ana',
      connection: 1,
      conversation: 'c',
      clientId: `id${n}`,
      content: `text ${n}`,
      invokedAt: n * 10,
      completedAt: n * 10 + 5,
      outcome: { kind: 'ok', seq: n, messageId: `m${n}` },
    })),
    deliveries: [
      shown(2),
      shown(3),
      shown(4),
      ...[3, 4, 5].map(n => shown(n, { connection: 3, readyHead: 5, join: { number: 1, afterSeq: 2 } })),
      shown(6, { connection: 3, readyHead: 5 }),
    ],
    joins: [{ connection: 3, conversation: 'c', number: 1, afterSeq: 2, headSeq: 5 }],
  }
}

/** A history with one thing done to it; `expected`: the checker that has to notice. */
const planted: Record<string, { expected: string; plant: (h: History) => void }> = {
  'an acked message is lost': {
    expected: 'C1',
    plant: h => {
      h.rows.pop()
      h.restRows.pop()
    },
  },
  'a hole in the log': {
    expected: 'C1',
    plant: h => {
      h.rows.splice(3, 1)
      h.restRows.splice(3, 1)
    },
  },
  'a message stored twice': { expected: 'C1', plant: h => h.rows.push(row(7, { clientId: 'id6' })) },
  'an ack at another position': { expected: 'C1', plant: h => Object.assign(h.attempts[0]!.outcome, { seq: 3 }) },
  'an ack of another message': {
    expected: 'C1',
    plant: h => Object.assign(h.attempts[0]!.outcome, { messageId: 'x' }),
  },
  'a changed text': { expected: 'C1', plant: h => Object.assign(h.rows[2]!, { content: 'other' }) },
  'a refused send that was stored': {
    expected: 'C1',
    plant: h => {
      h.attempts[4]!.outcome = { kind: 'refused', code: 'UNAVAILABLE' }
    },
  },
  'a refused send that the next attempt finds stored': {
    expected: 'C1',
    plant: h => {
      const last = h.attempts[4]!
      Object.assign(last.outcome, { duplicate: true })
      h.attempts.splice(4, 0, { ...last, invokedAt: 55, outcome: { kind: 'refused', code: 'UNAVAILABLE' } })
    },
  },
  'a message that nobody sent': { expected: 'C1', plant: h => h.attempts.pop() },
  'two acks that disagree': {
    expected: 'C1',
    plant: h => h.attempts.push({ ...h.attempts[0]!, outcome: { kind: 'ok', seq: 4, messageId: 'm4' } }),
  },
  'REST that tells less than SQL': { expected: 'C1', plant: h => h.restRows.pop() },
  'REST with another text': { expected: 'C1', plant: h => Object.assign(h.restRows[4]!, { content: 'other' }) },
  'something shown that was never committed': { expected: 'C2', plant: h => h.deliveries.push(shown(7)) },
  'something shown that the log has otherwise': {
    expected: 'C2',
    plant: h => Object.assign(h.deliveries[0]!, { messageId: 'm9' }),
  },
  'a later send before an acked one': {
    expected: 'C2',
    plant: h => {
      // Sent on another connection after 6 was acked, yet at 5.
      Object.assign(h.attempts[3]!, { connection: 9, invokedAt: 100, completedAt: 105 })
    },
  },
  'two sends of one connection change places': {
    expected: 'C2',
    plant: h => {
      // Both under way at once, so only the order on the connection tells.
      Object.assign(h.attempts[3]!, { invokedAt: 61, completedAt: 70 })
      Object.assign(h.attempts[4]!, { invokedAt: 60, completedAt: 70 })
    },
  },
  'a read that misses what was acked before it': {
    expected: 'C2',
    plant: h => {
      h.reads = [{ conversation: 'c', invokedAt: 200, after: 2, limit: 100, seqs: [3, 5, 6] }]
    },
  },
  'a hole in what was pushed': { expected: 'C3', plant: h => h.deliveries.splice(1, 1) },
  'an event pushed twice': { expected: 'C3', plant: h => h.deliveries.splice(1, 0, shown(2)) },
  'a replay with a hole': { expected: 'C3', plant: h => h.deliveries.splice(4, 1) },
  'a replay that ends before its head': {
    expected: 'C3',
    plant: h => h.deliveries.splice(5, 1),
  },
  'an epoch that goes back': { expected: 'C7', plant: h => Object.assign(h.rows[2]!, { epoch: 3 }) },
}

test('[C0] a good history has no problem', () => {
  assert.deepEqual(check(good()), [])
})

test('[C0] an unknown attempt may be stored or not, and one that was refused may be stored by another attempt', () => {
  const history = good()
  const unknown = { ...history.attempts[0]!, clientId: 'never', outcome: { kind: 'unknown' } as const }
  const again = { ...history.attempts[1]!, outcome: { kind: 'refused', code: 'OVERLOADED' } as const, invokedAt: 26 }
  history.attempts.push(unknown, again)
  history.attempts.push({ ...history.attempts[2]!, outcome: { kind: 'unknown' }, invokedAt: 39 })
  assert.deepEqual(check(history), [])
})

test('[C0] a log that lost its head to retention begins later', () => {
  const history = good()
  history.rows = history.rows.slice(2)
  history.restRows = history.restRows.slice(2)
  history.deliveries = history.deliveries.filter(d => d.seq > 2)
  for (const d of history.deliveries) d.readyHead = Math.max(2, d.readyHead)
  history.firstSeqs = { c: 3 }
  history.reads = [{ conversation: 'c', invokedAt: 200, after: 2, limit: 2, seqs: [3, 4] }]
  assert.deepEqual(check(history), [])
})

for (const [name, { expected, plant }] of Object.entries(planted)) {
  test(`[${expected}] notices ${name}`, () => {
    const history = good()
    plant(history)
    const problems = check(history)
    assert.ok(
      problems.some(p => p.startsWith(expected)),
      `found ${JSON.stringify(problems)}`,
    )
  })
}
