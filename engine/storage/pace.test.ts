/** When a statement waits for company. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commitPaceMs, commitPaceSourcesMax, commitPaceSourcesMin } from '#protos/limits.ts'
import { paceMs } from './pace.ts'

test('J14 a statement waits only right behind one of several sources, and never with a full batch', () => {
  const busy = { at: 1000, sources: commitPaceSourcesMin }
  assert.equal(paceMs(busy, 1, 1000), commitPaceMs)
  assert.equal(paceMs(busy, 1, 1001), commitPaceMs - 1)
  assert.equal(paceMs(busy, 1, 1000 + commitPaceMs), 0)
  assert.equal(paceMs(busy, 1, 5000), 0)
  assert.equal(paceMs(busy, commitPaceSourcesMax - 1, 1000), commitPaceMs)
  assert.equal(paceMs(busy, commitPaceSourcesMax, 1000), 0)
  assert.equal(paceMs({ at: 1000, sources: commitPaceSourcesMin - 1 }, 10, 1000), 0)
})
