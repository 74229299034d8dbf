import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TimelineCall } from '#protos/timeline.ts'
import {
  decidedOf,
  foldFrom,
  isCut,
  mayDecide,
  nameOf,
  segmentsOf,
  shownResult,
  stateOf,
  titleOf,
  titlesOf,
} from './calls.ts'

const call = (more: Partial<TimelineCall> = {}): TimelineCall => ({
  ...{ seq: 1, messageId: 'm', callId: 'c', name: 'add_task', approval: 'auto', ts: '2026-01-01T12:00:00.000Z' },
  ...more,
})
const asked = (more: Partial<TimelineCall> = {}) => call({ name: 'delete_task', approval: 'required', ...more })

test('C1 a call is running, waiting, done, failed or refused by what the log says', () => {
  assert.equal(stateOf(call(), true), 'running')
  assert.equal(stateOf(asked(), true), 'waiting')
  assert.equal(stateOf(asked({ decision: 'approve', by: 'a' }), true), 'running')
  assert.equal(stateOf(call({ status: 'success' }), true), 'done')
  assert.equal(stateOf(call({ status: 'error' }), true), 'failed')
  assert.equal(stateOf(asked({ decision: 'reject', by: 'a' }), true), 'refused')
  assert.equal(stateOf(asked({ decision: 'reject', by: 'a', status: 'error' }), true), 'refused')
})

test('C2 a call whose answer ended without its result is never shown as done or open', () => {
  assert.equal(stateOf(call(), false), 'failed')
  assert.equal(stateOf(asked(), false), 'refused')
  assert.equal(stateOf(asked({ decision: 'approve', by: 'a' }), false), 'failed')
  assert.equal(decidedOf(asked(), false), 'over')
  assert.equal(stateOf(asked({ status: 'error' }), true), 'refused')
  assert.equal(decidedOf(asked({ status: 'error' }), true), 'over')
})

test('C3 an approval tells who decided, that nobody did, or that it was over', () => {
  assert.equal(decidedOf(asked(), true), undefined)
  assert.equal(decidedOf(asked({ decision: 'approve', by: 'a' }), true), 'allowed')
  assert.equal(decidedOf(asked({ decision: 'reject', by: 'a' }), true), 'refused')
  assert.equal(decidedOf(asked({ decision: 'reject' }), true), 'expired')
})

test('C4 who asked may decide; else whom the room names', () => {
  const who = { me: 'ben', requestedBy: 'ana', myRole: 'member' } as const
  assert.equal(mayDecide({ ...who, policy: 'requester' }), false)
  assert.equal(mayDecide({ ...who, policy: 'admins' }), false)
  assert.equal(mayDecide({ ...who, policy: 'admins', myRole: 'admin' }), true)
  assert.equal(mayDecide({ ...who, policy: 'admins', myRole: 'owner' }), true)
  assert.equal(mayDecide({ ...who, policy: 'members' }), true)
  assert.equal(mayDecide({ ...who, me: 'ana', policy: 'requester' }), true)
  assert.equal(mayDecide({ ...who, requestedBy: undefined, policy: 'requester' }), false)
})

test('C5 four done calls in a row fold, three do not, and one that was decided never does', () => {
  const done = (n: number) => Array.from({ length: n }, (_, i) => call({ callId: `${i}`, status: 'success' }))
  const kinds = (calls: TimelineCall[], opened = new Set<string>()) =>
    segmentsOf(calls, true, opened).map(s => (s.kind === 'fold' ? s.calls.length : 'call'))
  assert.equal(foldFrom, 4)
  assert.deepEqual(kinds(done(3)), ['call', 'call', 'call'])
  assert.deepEqual(kinds(done(4)), [4])
  assert.deepEqual(kinds([...done(4), call(), ...done(5)]), [4, 'call', 5])
  assert.deepEqual(kinds(done(4), new Set(['2'])), ['call', 'call', 'call', 'call'])
  assert.deepEqual(kinds([...done(3), asked({ decision: 'approve', by: 'a', status: 'success' }), call()]), [
    'call',
    'call',
    'call',
    'call',
    'call',
  ])
})

test('C6 a task that is only named by its id gets its title from what a result told', () => {
  const listed = call({
    name: 'list_tasks',
    status: 'success',
    result: { tasks: [{ id: 't1', title: 'skis' }, { id: 't2', title: 'a\u202eb' }, 5, null] },
  })
  const titles = titlesOf([listed, call({ result: { task_id: 't3', title: 'milk' } }), call({ result: 'nonsense' })])
  assert.deepEqual([...titles.keys()], ['t1', 't2', 't3'])
  assert.equal(titleOf(asked({ arguments: { task_id: 't1' } }), titles), '\u2068skis\u2069')
  assert.equal(titleOf(asked({ arguments: { task_id: 't2' } }), titles), '\u2068a\\u{202e}b\u2069')
  assert.equal(titleOf(asked({ arguments: { task_id: 'unknown' } }), titles), undefined)
  assert.equal(titleOf(call({ arguments: { title: 'eggs' } }), titles), '\u2068eggs\u2069')
  assert.equal(titleOf(call({ arguments: 'nonsense' }), titles), undefined)
})

test('C7 a tool of another server is named with its server, and marks that deceive are spelled out', () => {
  assert.equal(nameOf('notes__search__all'), '“search__all” from notes')
  assert.equal(nameOf('notes__se\u202earch'), '“se\\u{202e}arch” from notes')
  assert.equal(nameOf('something'), 'something')
})

test('C8 a result is shown without what its card says already', () => {
  const foreign = { success: true, from: 'notes', untrusted: true, truncated: true, text: 'found: one' }
  assert.equal(shownResult(call({ name: 'notes__search', result: foreign })), 'found: one')
  assert.equal(isCut(call({ result: foreign })), true)
  const added = { success: true, task_id: 't1', title: 'milk', description: null, created_at: call().ts }
  const shown = shownResult(call({ result: added })) as Record<string, string>
  assert.deepEqual(Object.keys(shown), ['title', 'created at'])
  assert.match(shown['created at']!, /2026/)
  const tasks = [
    { id: 't1', title: 'milk', completed: false },
    { id: 't2', title: 'eggs', completed: true },
  ]
  assert.deepEqual(shownResult(call({ name: 'list_tasks', result: { success: true, tasks, total: 2 } })), {
    1: 'milk',
    2: 'eggs (done)',
  })
  const failed = { success: false, error: 'TaskNotFound', message: 'There is none.', similar: ['milk'] }
  assert.deepEqual(shownResult(call({ result: failed })), { similar: ['milk'] })
  assert.equal(shownResult(call({ result: { success: false, error: 'E', message: 'No.' } })), undefined)
  assert.deepEqual(shownResult(call({ result: [1] })), [1])
})
