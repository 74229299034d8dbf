import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DurableFrame } from '#protos/catalogue.ts'
import type { TimelineCall } from '#protos/timeline.ts'
import type { MessageDto } from '../wire/api.ts'
import { callsBefore, withEvent } from './history.ts'

const ts = '2026-01-01T12:00:00.000Z'
const call = (seq: number, messageId: string, callId: string, more: Partial<TimelineCall> = {}): TimelineCall => ({
  ...{ seq, messageId, callId, name: 'delete_task', approval: 'required', ts },
  ...more,
})
const answer = (seq: number, id: string, calls: MessageDto['tool_calls']) =>
  ({ seq, id, created_at: ts, tool_calls: calls }) as unknown as MessageDto

test('H1 a call that began before the page’s edge and went on after it is one call', () => {
  const began = call(5, 'm', 'a', { arguments: { task_id: 't' } })
  const wentOn = call(9, 'm', 'a', { name: '', decision: 'approve', by: 'mia', status: 'success', result: 1 })
  const calls = callsBefore([], [call(3, 'l', 'a'), began], [wentOn, call(12, 'n', 'a')])
  assert.deepEqual(
    calls.map(c => [c.messageId, c.seq]),
    [
      ['l', 3],
      ['m', 5],
      ['n', 12],
    ],
  )
  assert.deepEqual(calls[1], { ...began, decision: 'approve', by: 'mia', status: 'success', result: 1 })
})

test('H2 calls whose events were not read come from their answers, once', () => {
  const told = [
    { callId: 'a', name: 'list_tasks', status: 'success' as const },
    { callId: 'b', name: 'add_task', status: 'error' as const },
  ]
  const calls = callsBefore([answer(8, 'm', told)], [call(6, 'm', 'b', { status: 'error' })], [])
  assert.deepEqual(
    calls.map(c => [c.callId, c.name, c.status]),
    [
      ['a', 'list_tasks', 'success'],
      ['b', 'delete_task', 'error'],
    ],
  )
})

test('H3 of the events that are kept the last stay, and what was taken back is in none of them', () => {
  const said = (seq: number, type = 'message.new', content = `text ${seq}`) =>
    ({ type, seq, conversationId: 'c', messageId: 'm', senderId: 's', content, ts }) as unknown as DurableFrame
  const added = [said(1), said(2), said(3)].reduce((all, one) => withEvent(all, one, 2), [] as readonly DurableFrame[])
  assert.deepEqual(
    added.map(one => one.seq),
    [2, 3],
  )
  const edited = withEvent([said(1)], said(2, 'message.edited', 'better'), 9)
  const taken = withEvent(edited, { ...said(3, 'message.deleted'), content: undefined } as unknown as DurableFrame, 9)
  assert.deepEqual(
    taken.map(one => 'content' in one && one.content),
    ['', '', undefined],
  )
  assert.equal(taken[0]?.type === 'message.new' && taken[0].deleted, true)
})
