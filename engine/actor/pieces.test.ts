/** When pieces of answers are due. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  deltaBusyMembersMin,
  deltaBusyTurnsMin,
  deltaGatherBusyMs,
  deltaGatherMs,
  deltaGridMs,
} from '#protos/limits.ts'
import { Pieces } from './pieces.ts'

test('T17 a piece gathers for a while; where many answers stream or many people watch, longer and all at once', () => {
  const pieces = new Pieces()
  for (let i = 1; i < deltaBusyTurnsMin; i++) pieces.begin()
  assert.equal(pieces.dueAt(1003, 2), 1003 + deltaGatherMs)
  const crowded = pieces.dueAt(1003, deltaBusyMembersMin)
  pieces.begin()
  const due = pieces.dueAt(1003, 2)
  assert.equal(crowded, due)
  // Those stored within one step of the grid are due at the same instant, and none gathers longer than the limit.
  for (let mono = 1000.001; mono <= 1020; mono += 0.7) assert.equal(pieces.dueAt(mono, 2), due)
  for (let mono = 5000; mono < 5100; mono += 1.3) {
    const waitsMs = pieces.dueAt(mono, 2) - mono
    assert.ok(waitsMs > deltaGatherBusyMs - 2 * deltaGridMs && waitsMs <= deltaGatherBusyMs, String(waitsMs))
    assert.equal(pieces.dueAt(mono, 2) % deltaGridMs, 0)
  }
  pieces.end()
  assert.equal(pieces.dueAt(1003, 2), 1003 + deltaGatherMs)
})
