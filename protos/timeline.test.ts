import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DurableFrame } from './catalogue.ts'
import { callsToldBy, emptyTimeline, foldFact, type Timeline } from './timeline.ts'

const conversationId = '01900000-0000-7000-8000-000000000001'
const answer = '01900000-0000-7000-8000-00000000000a'
const other = '01900000-0000-7000-8000-00000000000b'
const mia = '01900000-0000-7000-8000-0000000000aa'
const ts = (seq: number) => `2026-01-01T12:00:${String(seq).padStart(2, '0')}.000Z`

type Told = { [T in DurableFrame as T['type']]: Omit<T, 'conversationId' | 'seq' | 'ts'> }[DurableFrame['type']]
const fact = (seq: number, told: Told) => ({ ...told, conversationId, seq, ts: ts(seq) }) as DurableFrame
const called = (messageId: string, callId: string, approval: 'auto' | 'required', args: Record<string, string> = {}) =>
  ({ type: 'tool.called', messageId, callId, name: 'delete_task', arguments: args, approval }) as const
const returned = (
  messageId: string,
  callId: string,
  status: 'success' | 'error',
  result: Record<string, string> = {},
) => ({ type: 'tool.returned', messageId, callId, name: 'delete_task', status, result }) as const

function fold(facts: readonly DurableFrame[], from: Timeline = emptyTimeline): Timeline {
  return facts.reduce((t, f) => {
    const folded = foldFact(t, f)
    assert.ok('timeline' in folded, `a hole at ${f.seq}`)
    return folded.timeline
  }, from)
}

test('R6 a call that is allowed goes from called over decided to returned, in its place', () => {
  const facts = [
    fact(1, called(answer, 'a', 'auto')),
    fact(2, called(answer, 'b', 'required', { task_id: 't1' })),
    fact(3, returned(answer, 'a', 'success')),
  ]
  const waiting = fold(facts)
  assert.deepEqual(
    waiting.calls.map(c => [c.callId, c.approval, c.decision, c.status]),
    [
      ['a', 'auto', undefined, 'success'],
      ['b', 'required', undefined, undefined],
    ],
  )
  const done = fold(
    [
      fact(4, { type: 'tool.decided', messageId: answer, callId: 'b', decision: 'approve', by: mia }),
      fact(5, returned(answer, 'b', 'success', { title: 'skis' })),
    ],
    waiting,
  )
  assert.deepEqual(done.calls[1], {
    seq: 2,
    messageId: answer,
    callId: 'b',
    name: 'delete_task',
    arguments: { task_id: 't1' },
    approval: 'required',
    ts: ts(2),
    decision: 'approve',
    by: mia,
    decidedTs: ts(4),
    status: 'success',
    result: { title: 'skis' },
  })
})

test('R6 a decision without a name is one that nobody made in time', () => {
  const t = fold([
    fact(1, called(answer, 'a', 'required')),
    fact(2, { type: 'tool.decided', messageId: answer, callId: 'a', decision: 'reject' }),
    fact(3, returned(answer, 'a', 'error')),
  ])
  assert.deepEqual([t.calls[0]!.decision, t.calls[0]!.by, t.calls[0]!.status], ['reject', undefined, 'error'])
})

test('R6 the same call id in another answer is another call', () => {
  const t = fold([
    fact(1, called(answer, 'call_1', 'auto')),
    fact(2, called(other, 'call_1', 'auto')),
    fact(3, returned(answer, 'call_1', 'error')),
  ])
  assert.deepEqual(
    t.calls.map(c => [c.messageId, c.status]),
    [
      [answer, 'error'],
      [other, undefined],
    ],
  )
})

test('R6 a fold that begins within a call still shows it', () => {
  const t = fold([fact(7, returned(answer, 'a', 'success', { title: 'skis' }))])
  assert.deepEqual([t.calls[0]!.name, t.calls[0]!.status, t.calls[0]!.arguments], ['delete_task', 'success', undefined])
})

test('R6 a finished answer tells of calls that lie before the fold, and never twice of those in it', () => {
  const toolCalls = [
    { callId: 'a', name: 'list_tasks', status: 'success' as const, result: { total: '0' } },
    { callId: 'b', name: 'add_task', status: 'pending' as const },
  ]
  const t = fold([
    fact(4, called(answer, 'b', 'auto')),
    fact(5, {
      ...{ type: 'message.new', messageId: answer, senderId: mia, role: 'assistant', content: 'done' },
      toolCalls,
    }),
  ])
  assert.deepEqual(
    t.calls.map(c => [c.callId, c.name, c.status]),
    [
      ['a', 'list_tasks', 'success'],
      ['b', 'delete_task', undefined],
    ],
  )
  assert.deepEqual(callsToldBy(toolCalls, { seq: 5, messageId: answer, ts: ts(5) }, t.calls), [])
})

test('R6 a fact that is known already changes nothing', () => {
  const t = fold([fact(1, called(answer, 'a', 'auto')), fact(2, returned(answer, 'a', 'success'))])
  const again = foldFact(t, fact(2, returned(answer, 'a', 'error')))
  assert.ok('timeline' in again)
  assert.equal(again.timeline, t)
})
