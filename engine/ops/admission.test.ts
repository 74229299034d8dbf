/** When a worker refuses further sends. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { admissionCalmMs, admissionStandsMs, admissionTakeoverMs } from '#protos/limits.ts'
import { Admission } from './admission.ts'

/** Letters from `from` on, one a ms, each behind so many; how many were refused. */
function refused(
  admission: Admission,
  waiting: number,
  from: number,
  ms: number,
  rate: number | undefined = 1000,
): number {
  let count = 0
  for (let at = from; at < from + ms; at++) if (admission.refuses(waiting, rate, at)) count++
  return count
}

test('[A1] a queue above 200 ms is refused once it stands', () => {
  const admission = new Admission()
  assert.equal(refused(admission, 201, 0, admissionStandsMs), 0)
  assert.equal(refused(admission, 201, admissionStandsMs, 100), 100)
  assert.equal(refused(admission, 200, admissionStandsMs + 100, 100), 0)
})

test('[A1] a burst after an idle time is taken, however slow the statement before it was', () => {
  const admission = new Admission()
  admission.refuses(0, 2560, 0)
  assert.equal(refused(admission, 1000, 5000, 200, 2560), 0)
  // It was stored; half a minute later there is another one.
  assert.equal(refused(admission, 0, 5200, 10), 0)
  assert.equal(refused(admission, 1000, 35_000, 200, 2560), 0)
})

test('[A1] a queue that stood is kept short without another try, until there was none for a while', () => {
  const admission = new Admission()
  refused(admission, 300, 0, 1000)
  assert.equal(refused(admission, 100, 1000, admissionCalmMs / 2), 0)
  assert.equal(refused(admission, 300, 1000 + admissionCalmMs / 2, 10), 10)
  const from = 1010 + admissionCalmMs / 2
  assert.equal(refused(admission, 100, from, admissionCalmMs + 1), 0)
  assert.equal(refused(admission, 300, from + admissionCalmMs + 1, admissionStandsMs), 0)
})

test('[A1] nothing is refused while no statement completes', () => {
  const admission = new Admission()
  let count = 0
  for (let at = 0; at < 5000; at++) if (admission.refuses(100_000, undefined, at)) count++
  assert.equal(count, 0)
})

test('[A1] a takeover is no overload', () => {
  const admission = new Admission()
  refused(admission, 300, 0, admissionStandsMs / 2)
  admission.took(200)
  assert.equal(refused(admission, 3000, 200, admissionTakeoverMs), 0)
  assert.ok(refused(admission, 3000, 200 + admissionTakeoverMs, admissionStandsMs * 2) > 0)
})
