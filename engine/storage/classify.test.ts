/** The table of error classes, row by row, and the folding of side changes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Contribution, SideChange } from '#engine/actor/ports.ts'
import { commitTextsMax } from '#protos/limits.ts'
import { classify, type StatementError } from './classify.ts'
import { commitStatement } from './commit-statement.ts'
import { foldSides } from './sides.ts'

const table: [kind: string, codes: string[]][] = [
  ['unknown', ['08006', '08003', '57P01', '57P02', '57P03', '58000', '58030', 'XX000', 'XX001', '40003']],
  ['retry', ['40P01', '40001', '55P03', '57014']],
  ['data', ['22021', '22P05', '22001', '23514', '23502', '23503']],
  ['full', ['53100', '53200', '53300', '25006', '42501', '42P01']],
]

test('C1 each class of server error means what the table says', () => {
  for (const [kind, codes] of table) {
    for (const code of codes) assert.equal(classify({ code, severity: 'ERROR' }).kind, kind, code)
  }
})

test('C2 what is no server error is unknown: a lost socket, a timer, a failed write', () => {
  const lost: object[] = [{}, { code: 'ECONNRESET' }, { code: 'EPIPE' }, new Error('Connection terminated')]
  for (const error of lost) {
    assert.equal(classify(error as StatementError).kind, 'unknown')
  }
})

test('C3 a warning of the standby makes every answer unknown', () => {
  for (const [, codes] of table) {
    for (const code of codes) assert.equal(classify({ code, severity: 'ERROR' }, true).kind, 'unknown')
  }
})

test('C4 a unique violation is a duplicate, a wrong head or a culprit, by its key', () => {
  const kindOf = (constraint: string) => classify({ code: '23505', severity: 'ERROR', constraint }).kind
  assert.equal(kindOf('event_client'), 'duplicate')
  assert.equal(kindOf('event_position'), 'head')
  assert.equal(kindOf('conversation_pkey'), 'head')
  assert.equal(kindOf('ai_segment_pkey'), 'head')
  assert.equal(kindOf('message_state_pkey'), 'data')
})

const contribution = (sides: SideChange[], shard = 1): Contribution => ({
  shard,
  epoch: 7,
  conversation: '00000000-0000-4000-8000-000000000001',
  events: [],
  segments: [],
  sides,
})

test('C5 of several changes to one thing in a batch one row is left, in the sense of the last', () => {
  const at = 1
  const rows = foldSides([
    contribution([
      { kind: 'member.added', userId: 'a', role: 'member', seq: 1, at },
      { kind: 'member.role', userId: 'a', role: 'admin' },
      { kind: 'member.added', userId: 'b', role: 'member', seq: 2, at },
      { kind: 'member.removed', userId: 'b' },
      { kind: 'member.removed', userId: 'c' },
      { kind: 'member.added', userId: 'c', role: 'member', seq: 5, at },
      { kind: 'member.role', userId: 'd', role: 'member' },
      { kind: 'block', blocker: 'a', blocked: 'b', set: true, at },
      { kind: 'block', blocker: 'a', blocked: 'b', set: false, at },
      { kind: 'conversation.updated', title: 'x' },
      { kind: 'conversation.updated', toolPolicy: 'members' },
      { kind: 'run.started', runId: 'r', model: 'm', at },
      { kind: 'run.ended', runId: 'r', finish: 'stop', bytes: 3, at },
    ]),
  ])!
  assert.deepEqual(
    rows.membersPut.map(r => [r['user_id'], r['role'], r['joined_seq']]),
    [
      ['a', 'admin', 1],
      ['c', 'member', 5],
    ],
  )
  assert.deepEqual(
    rows.membersGone.map(r => r['user_id']),
    ['b'],
  )
  assert.deepEqual(
    rows.membersChanged.map(r => r['user_id']),
    ['d'],
  )
  assert.equal(rows.blocksPut.length, 0)
  assert.equal(rows.blocksGone.length, 1)
  assert.equal(rows.conversationsChanged.length, 1)
  assert.deepEqual(
    [rows.conversationsChanged[0]!['title'], rows.conversationsChanged[0]!['tool_policy']],
    ['x', 'members'],
  )
  assert.equal(rows.runsStarted.length, 0)
  assert.deepEqual(
    rows.runsEnded.map(r => [r['id'], r['model'], r['finish']]),
    [['r', 'm', 'stop']],
  )
  assert.equal(foldSides([contribution([])]), undefined)
})

test('C6 a statement carries only the parts it needs, and always the fence', () => {
  const bare = commitStatement([contribution([])])
  assert.equal(bare.values.length, 2)
  assert.match(bare.text, /for share of s/)
  assert.doesNotMatch(bare.text, /insert/)
  const event = { ...contribution([]), shard: 3, events: [] as Contribution['events'] }
  event.events.push({
    seq: 1,
    kind: 'message.new',
    messageId: 'm',
    senderId: 's',
    clientId: 'c',
    bodyHash: '00'.repeat(32),
    body: '{}',
    at: 1.6,
  })
  const two = commitStatement([contribution([]), event])
  assert.deepEqual(two.values.slice(0, 2), ['{1,3}', '{7,7}'])
  assert.equal(two.values.length, 12)
  assert.notEqual(two.name, bare.name)
  assert.equal(commitStatement([event]).text, two.text)
})

test('C7 a connection prepares a bounded number of statements; a set of parts that comes late goes with all of them', () => {
  const at = 1
  const one: SideChange[] = [
    { kind: 'conversation.updated', title: 'x' },
    { kind: 'member.role', userId: 'a', role: 'admin' },
    { kind: 'member.removed', userId: 'b' },
    { kind: 'member.added', userId: 'c', role: 'member', seq: 1, at },
    { kind: 'block', blocker: 'a', blocked: 'b', set: true, at },
    { kind: 'block', blocker: 'b', blocked: 'a', set: false, at },
    { kind: 'run.started', runId: 'r', model: 'm', at },
    { kind: 'run.ended', runId: 's', finish: 'stop', bytes: 1, at },
  ]
  const names = new Set<string>()
  for (let set = 0; set < 2 ** one.length; set++) {
    const { name, text, values } = commitStatement([contribution(one.filter((_, i) => set & (1 << i)))])
    names.add(name)
    assert.equal(Math.max(...[...text.matchAll(/\$(\d+)/g)].map(m => Number(m[1]))), values.length)
  }
  assert.ok(names.size <= commitTextsMax + 1, `${names.size}`)
})
