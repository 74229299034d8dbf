import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { observeAnyMs, observeExpiredMs, observeGapMsMax, renewMs } from '#protos/limits.ts'
import { nothingObserved, type Observations, observe } from './observe.ts'

const other = (beat: number, expired: boolean) => [{ incarnation: 'b', beat, expired }]

/** Rounds at the given times; returns the first burial with its time. */
function rounds(steps: { at: number; beat: number; expired: boolean }[]) {
  let state: Observations = nothingObserved
  for (const { at, beat, expired } of steps) {
    const out = observe(state, { kind: 'round', began: at, ended: at + 10, others: other(beat, expired) })
    state = out.state
    if (out.burials.length > 0) return { at, ...out.burials[0]! }
  }
  return undefined
}

const every = (count: number, beat: (i: number) => number, expired: boolean) =>
  Array.from({ length: count }, (_, i) => ({ at: i * renewMs, beat: beat(i), expired }))

test('[OBS1] an expired node whose beat stands still is buried after 4 s and not before', () => {
  const buried = rounds(every(10, () => 7, true))
  assert.deepEqual(buried, { at: 3 * renewMs, incarnation: 'b', beat: 7, anyway: false })
  assert.ok(buried.at - 10 >= observeExpiredMs)
})

test('[OBS2] a node that has not expired is buried only after 8 s, whatever the clocks say', () => {
  const buried = rounds(every(10, () => 7, false))
  assert.deepEqual(buried, { at: 6 * renewMs, incarnation: 'b', beat: 7, anyway: true })
  assert.ok(buried.at - 10 >= observeAnyMs)
})

test('[OBS3] a node that beats is never buried, expired or not', () => {
  assert.equal(rounds(every(40, i => Math.floor(i / 2), true)), undefined)
})

test('[OBS4] a gap of the observer starts all observations again', () => {
  const steps = every(6, () => 7, true).map((s, i) => ({ ...s, at: i < 3 ? s.at : s.at + observeGapMsMax }))
  assert.equal(rounds(steps), undefined)
  const longer = every(7, () => 7, true).map((s, i) => ({ ...s, at: i < 3 ? s.at : s.at + observeGapMsMax }))
  assert.equal(rounds(longer)?.at, 6 * renewMs + observeGapMsMax)
})

test('[OBS5] a failed round starts all observations again', () => {
  let state = nothingObserved
  for (let at = 0; at <= 60_000; at += renewMs) {
    const out = observe(state, { kind: 'round', began: at, ended: at + 10, others: other(7, true) })
    assert.deepEqual(out.burials, [])
    state = at % (2 * renewMs) === 0 ? out.state : observe(out.state, { kind: 'failed' }).state
  }
})

test('[OBS6] whatever the rounds, a burial names a beat seen unchanged for 4 s without a gap', () => {
  const seed = Number(process.env['SEED'] ?? Date.now())
  const step = fc.record({
    gap: fc.integer({ min: 1, max: 3000 }),
    took: fc.integer({ min: 0, max: 800 }),
    moves: fc.boolean(),
    expired: fc.boolean(),
    fails: fc.integer({ min: 0, max: 9 }).map(n => n === 0),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      let state = nothingObserved
      let at = 0
      let beat = 0
      // What the rule allows, kept apart from how the machine keeps it.
      let unbroken: { ended: number; beat: number }[] = []
      for (const { gap, took, moves, expired, fails } of steps) {
        at += gap
        if (moves) beat++
        if (fails) {
          state = observe(state, { kind: 'failed' }).state
          unbroken = []
          continue
        }
        const began = at
        at += took
        const last = unbroken.at(-1)
        if (last && at - last.ended > observeGapMsMax) unbroken = []
        const out = observe(state, { kind: 'round', began, ended: at, others: other(beat, expired) })
        state = out.state
        const first = unbroken.findLastIndex(r => r.beat !== beat) + 1
        const still = unbroken[first] ? began - unbroken[first].ended : 0
        const isDue = still >= observeAnyMs || (still >= observeExpiredMs && expired)
        assert.equal(out.burials.length, isDue ? 1 : 0)
        unbroken.push({ ended: at, beat })
      }
    }),
    { seed, numRuns: 300 },
  )
})
