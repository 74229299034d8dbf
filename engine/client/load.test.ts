/** When a gateway refuses sends because their worker is behind. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { admissionStandsMs, admissionTakeoverMs, admissionWaitMsMax, linkQueueLettersMin } from '#protos/limits.ts'
import { Load } from './load.ts'

/** For so long one send a ms, behind so many, while the worker answers so many a ms; how many were refused. */
function refused(load: Load, waiting: number, from: number, ms: number, answersPerMs: number): number {
  let count = 0
  for (let at = from; at < from + ms; at++) {
    for (let i = 0; i < answersPerMs; i++) load.answered(at)
    if (load.refuses(waiting, at)) count++
  }
  return count
}

test('[S15] what waits longer than 200 ms for its worker is refused once that stands, whoever holds it', () => {
  const load = new Load()
  const most = 5 * admissionWaitMsMax
  refused(load, 0, 0, 2000, 5)
  assert.equal(refused(load, most, 2000, 1000, 5), 0, 'as much as is answered in 200 ms')
  assert.equal(refused(load, 2 * most, 3000, admissionStandsMs, 5), 0, 'a burst')
  assert.equal(refused(load, 2 * most, 3000 + admissionStandsMs, 100, 5), 100)
  assert.equal(refused(load, most, 3100 + admissionStandsMs, 100, 5), 0, 'what there is room for is taken again')
})

test('[S15] a few that wait for a slow disk, a worker that is away and a takeover are no overload', () => {
  assert.equal(refused(new Load(), linkQueueLettersMin - 1, 0, 3000, 1), 0)
  const load = new Load()
  assert.equal(refused(load, 100_000, 0, 3000, 0), 0)
  load.took(3000)
  assert.equal(refused(load, 5000, 3000, admissionTakeoverMs, 5), 0)
  assert.ok(refused(load, 5000, 3000 + admissionTakeoverMs, 1000, 5) > 0)
})
