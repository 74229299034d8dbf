import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TaskDto } from '../wire/api.ts'
import { foldResult, put } from './task-list.ts'

const ts = '2026-01-01T12:00:09.000Z'
const task = (id: string, second: number, more: Partial<TaskDto> = {}): TaskDto => {
  const at = `2026-01-01T12:00:0${second}.000Z`
  return {
    id,
    title: id,
    description: null,
    completed: false,
    created_at: at,
    updated_at: at,
    completed_at: null,
    ...more,
  }
}
const items = [task('a', 1), task('c', 3)]
const ids = (list: readonly TaskDto[] | undefined) => list?.map(one => one.id)

test('L1 an added task takes its place by age, whenever its result arrives, and once', () => {
  const result = { success: true, task_id: 'b', title: 'bread', description: null, created_at: task('b', 2).created_at }
  const added = foldResult(items, 'add_task', result, ts)
  assert.deepEqual(ids(added), ['a', 'b', 'c'])
  assert.equal(added?.[1]?.title, 'bread')
  assert.deepEqual(ids(foldResult(added!, 'add_task', result, ts)), ['a', 'b', 'c'])
})

test('L2 done, changed and deleted tasks follow their results', () => {
  const done = foldResult(items, 'complete_task', { task_id: 'a', title: 'a', completed: true, completed_at: ts }, ts)
  assert.deepEqual([done?.[0]?.completed, done?.[0]?.completed_at, done?.[1]?.completed], [true, ts, false])
  const changed = foldResult(items, 'update_task', { task_id: 'c', title: 'C', description: 'new', updated_at: ts }, ts)
  assert.deepEqual([changed?.[1]?.title, changed?.[1]?.description], ['C', 'new'])
  assert.deepEqual(ids(foldResult(items, 'delete_task', { task_id: 'a', title: 'a', deleted_at: ts }, ts)), ['c'])
})

test('L3 what a result does not tell is not guessed', () => {
  assert.equal(foldResult(items, 'complete_task', { task_id: 'unknown', title: 'x' }, ts), undefined)
  assert.equal(foldResult(items, 'add_task', { title: 'x' }, ts), undefined)
  assert.equal(foldResult(items, 'add_task', 'nonsense', ts), undefined)
  assert.equal(foldResult(items, 'mail__send', { task_id: 'a', title: 'a' }, ts), undefined)
})

test('L4 a late answer brings no deleted task back', () => {
  assert.equal(put(items, task('gone', 5)), items)
})
