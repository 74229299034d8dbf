import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Goal, replaceGoals, replaceSection } from './results.ts'

const page = '# Results\n\nwords\n\n## One\n\nfirst\n\n## Two\n\nsecond\n'
const goal = (id: string, what: string, measured: string, isMet?: boolean): Goal => ({
  id,
  what,
  floor: '≤ 1',
  aim: '',
  measured,
  isMet,
})

test('[R0] a section takes the place of the one with its heading and leaves the others', () => {
  assert.equal(replaceSection(page, 'One', 'new'), page.replace('first', 'new'))
  assert.ok(replaceSection(page, 'Three', 'third').endsWith('second\n\n## Three\n\nthird\n'))
})

test('[R0] goals of several commands share one table, in order, each row the last run', () => {
  let all = replaceGoals(page, [goal('G16', 'acks', '9', true), goal('G16', 'memory', '4', false)], 'overload, day 1')
  all = replaceGoals(all, [goal('G9', 'p99', '1')], 'growth, day 1')
  all = replaceGoals(all, [goal('G16', 'acks', '2', true)], 'overload, day 2')
  const rows = all.split('\n').filter(line => line.startsWith('| G'))
  assert.deepEqual(rows, [
    '| G9 | p99 | ≤ 1 |  | 1 | – | growth, day 1 |',
    '| G16 | acks | ≤ 1 |  | 2 | met | overload, day 2 |',
    '| G16 | memory | ≤ 1 |  | 4 | MISSED | overload, day 1 |',
  ])
  assert.ok(all.includes('## Two\n\nsecond'))
})
