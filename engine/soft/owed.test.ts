import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Owed, OwedList } from './owed.ts'

const entry = (socket: string, isHere: boolean, order: number): Owed => ({
  userId: 'ann',
  socket,
  isHere,
  order,
  at: 0,
})
const shown = (list: OwedList) => list.list().map(e => `${e.socket} ${e.isHere ? 'here' : 'gone'}`)

test('P4 the last call for a socket is owed, whichever failed first, and the first call is told first', () => {
  const list = new OwedList(10)
  list.add(entry('b', false, 3))
  list.add(entry('a', true, 2))
  list.add(entry('b', true, 1))
  assert.deepEqual(shown(list), ['a here', 'b gone'])
})

test('P4 what was owed for a socket while it was being told stays owed', () => {
  const list = new OwedList(10)
  list.add(entry('a', true, 1))
  list.add(entry('b', true, 2))
  const told = list.list()
  list.add(entry('a', false, 3))
  list.settle(told)
  assert.deepEqual(shown(list), ['a gone'])
})

test('P4 beyond its bound nothing is added, but what is owed for a known socket is replaced', () => {
  const list = new OwedList(2)
  assert.ok(list.add(entry('a', true, 1)) && list.add(entry('b', true, 2)))
  assert.equal(list.add(entry('c', true, 3)), false)
  assert.ok(list.add(entry('a', false, 4)))
  assert.deepEqual(shown(list), ['b here', 'a gone'])
})
