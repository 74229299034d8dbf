import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Figures, flushGoals, goals, goalsTable, medianOf, spreadOf } from './goals.ts'

const sio: Figures = {
  w1: 6000,
  cpuAt2k: 370,
  cpuAt6k: 220,
  closed: 8000,
  p99At10k: 90,
  oneP50: 0.6,
  oneP99: 1.5,
  fan: 150_000,
  fanUs: 7,
  idleKb: 18,
}
const ours: Figures = {
  w1: 20_000,
  cpuAt2k: 250,
  cpuAt6k: 100,
  closed: 20_000,
  p99At10k: 30,
  oneP50: 0.65,
  oneP99: 2,
  fan: 1_000_000,
  fanUs: 1,
  idleKb: 9,
}
const raw = { oneP50: 0.3, oneP99: 0.6 }

test('[G0] figures above the floors are met', () => {
  assert.ok(goals(ours, sio, raw).every(g => g.isMet === true))
})

test('[G0] each figure below its floor is missed, alone', () => {
  const worse: Partial<Figures>[] = [
    { w1: 17_000 },
    { cpuAt6k: 140 },
    { cpuAt2k: 300 },
    { oneP50: 0.8 },
    { oneP99: 3 },
    { fan: 800_000 },
    { idleKb: 11.5 },
    { closed: 15_000 },
  ]
  for (const change of worse) {
    const missed = goals({ ...ours, ...change }, sio, raw).filter(g => g.isMet === false)
    assert.equal(missed.length, 1, JSON.stringify(change))
  }
  assert.equal(goals({ ...ours, idleKb: 10.9 }, { ...sio, idleKb: 16 }, raw).filter(g => g.isMet === false).length, 1)
})

test('[G0] what was not measured is neither met nor missed', () => {
  assert.ok(goals({}, {}, {}).every(g => g.isMet === undefined))
  assert.match(goalsTable({}, {}, {}), /\| G1 .*\| – \|/)
})

test('[G0] a slow disk has a floor of its own', () => {
  const isMet = (w1: number, p99At10k: number, flushMs: number) =>
    flushGoals({ w1, p99At10k }, { w1: 1000 }, { oneP50: 4.2 }, flushMs).map(g => g.isMet)
  assert.deepEqual(isMet(15_000, 20, 4), [true, true])
  assert.deepEqual(isMet(14_000, 22, 4), [false, false])
  assert.deepEqual(isMet(14_000, 22, 1), [undefined, undefined])
  assert.deepEqual(
    flushGoals({}, {}, {}, 4).map(g => g.isMet),
    [undefined, undefined],
  )
})

test('[G0] medians and spread', () => {
  assert.deepEqual(medianOf([{ w1: 3 }, { w1: 1 }, { w1: 2, fan: 5 }]), { w1: 2, fan: 5 })
  assert.equal(spreadOf([10, 12, 9]), 0.3)
})
