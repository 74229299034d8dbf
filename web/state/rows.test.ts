import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assistantId } from '#protos/ids.ts'
import { emptyTimeline, type Timeline, type TimelineMessage } from '#protos/timeline.ts'
import { type Row, rowsOf, tickOf } from './rows.ts'

const me = 'me'
const said = (seq: number, senderId: string, ts: string, more: Partial<TimelineMessage> = {}): TimelineMessage => ({
  seq,
  messageId: `m${seq}`,
  senderId,
  role: 'user',
  content: `text ${seq}`,
  ts,
  deleted: false,
  reactions: new Map(),
  ...more,
})
const timeline = (messages: TimelineMessage[], more: Partial<Timeline> = {}): Timeline => ({
  ...emptyTimeline,
  messages,
  ...more,
})
const rows = (t: Timeline, more: Partial<Parameters<typeof rowsOf>[0]> = {}): Row[] =>
  rowsOf({ timeline: t, pending: [], me, hasNotices: true, ...more })
const keys = (all: Row[]) => all.map(r => r.key)

test('R1 an echo keeps its key when its message arrives', () => {
  const pending = [{ clientMessageId: 'c1', content: 'text 1', ts: '2026-01-01T12:00:00.000Z' }]
  const before = rows(timeline([]), { pending })
  const after = rows(timeline([said(1, me, '2026-01-01T12:00:00.500Z', { clientMessageId: 'c1' })]))
  assert.equal(before.at(-1)?.key, 'c:c1')
  assert.equal(after.at(-1)?.key, 'c:c1')
})

test('R2 one sender within five minutes is one group, and a day line stands before each day', () => {
  const all = rows(
    timeline([
      said(1, 'a', '2026-01-01T12:00:00.000Z'),
      said(2, 'a', '2026-01-01T12:04:59.000Z'),
      said(3, 'a', '2026-01-01T12:10:00.000Z'),
      said(4, 'b', '2026-01-01T12:10:01.000Z'),
      said(5, 'b', '2026-01-03T12:10:02.000Z'),
    ]),
  )
  const firsts = all.flatMap(r => (r.kind === 'message' ? [[r.seq, r.isFirst, r.isLast]] : []))
  assert.deepEqual(firsts, [
    [1, true, false],
    [2, false, true],
    [3, true, true],
    [4, true, true],
    [5, true, true],
  ])
  assert.deepEqual(
    all.filter(r => r.kind === 'day').map(r => r.key),
    ['d:1', 'd:5'],
  )
})

test('R3 the unread line stands before the first message of others above the position, once', () => {
  const t = timeline([
    said(1, 'a', '2026-01-01T12:00:00.000Z'),
    said(2, me, '2026-01-01T12:00:01.000Z'),
    said(3, 'a', '2026-01-01T12:00:02.000Z'),
    said(4, 'a', '2026-01-01T12:00:03.000Z'),
  ])
  assert.deepEqual(keys(rows(t, { unreadAfter: 1 })), ['d:1', 'm:m1', 'm:m2', 'unread', 'm:m3', 'm:m4'])
  assert.ok(!keys(rows(t)).includes('unread'))
})

test('R4 an answer keeps its key from the first letter to its end, and comes after what is stored', () => {
  const question = said(1, me, '2026-01-01T12:00:00.000Z')
  const live = rows(
    timeline([question, said(2, 'a', '2026-01-01T12:00:01.000Z')], {
      answers: [{ messageId: 'x', inReplyTo: 1, text: 'Wor', bytes: 3 }],
    }),
  )
  const row = live.at(-1)
  assert.equal(row?.kind === 'answer' && row.isLive && row.requestedBy, me)
  const done = said(3, assistantId, '2026-01-01T12:00:09.000Z', {
    messageId: 'x',
    role: 'assistant',
    inReplyTo: 1,
    finish: 'stop',
  })
  assert.equal(rows(timeline([question, done])).at(-1)?.key, row?.key)
})

test('R5 runs of notices are one row in the place of the first, and a dm shows none', () => {
  const t = timeline([said(3, 'a', '2026-01-01T12:00:00.000Z')], {
    notices: [
      { seq: 1, ts: '2026-01-01T11:00:00.000Z', type: 'room.member_joined' },
      { seq: 2, ts: '2026-01-01T11:00:00.000Z', type: 'room.member_joined' },
      { seq: 4, ts: '2026-01-01T12:00:00.000Z', type: 'room.member_left' },
    ],
  })
  assert.deepEqual(keys(rows(t)), ['d:1', 'n:1', 'm:m3', 'n:4'])
  assert.deepEqual(keys(rows(t, { hasNotices: false })), ['d:3', 'm:m3'])
})

test('R6 ticks say no more than the receipts: some delivered, all read, and in a crowd only stored', () => {
  const at = (readSeq: number, deliveredSeq: number) => ({ readSeq, deliveredSeq })
  assert.equal(tickOf(0, [at(9, 9)]), 'pending')
  assert.equal(tickOf(5, []), 'stored')
  assert.equal(tickOf(5, [undefined]), 'stored')
  assert.equal(tickOf(5, [at(4, 4)]), 'stored')
  assert.equal(tickOf(5, [at(0, 5), undefined]), 'delivered')
  assert.equal(tickOf(5, [at(5, 5), at(4, 9)]), 'delivered')
  assert.equal(tickOf(5, [at(5, 5), at(6, 6)]), 'read')
  assert.equal(tickOf(5, Array(100).fill(at(9, 9))), 'stored')
})
