import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Entry, matching } from './actions.ts'

const entries: Entry[] = ['Oslo trip', 'Trip to Rome', 'Zoë', 'New group', 'Theme: Dark'].map(words => ({
  id: words,
  words,
  act: () => {},
}))
const found = (query: string) => matching(entries, query).map(entry => entry.words)

test('P1 each word typed begins a word of the entry; case and accents do not matter', () => {
  assert.deepEqual(found('zoe'), ['Zoë'])
  assert.deepEqual(found('DARK'), ['Theme: Dark'])
  assert.deepEqual(found('rip'), [])
  assert.deepEqual(found('trip os'), ['Oslo trip'])
})

test('P2 what begins with it comes first, and nothing typed offers the first few', () => {
  assert.deepEqual(found('trip'), ['Trip to Rome', 'Oslo trip'])
  assert.equal(matching(Array(20).fill(entries[0]), ' ').length, 8)
})
