import assert from 'node:assert/strict'
import { test } from 'node:test'
import { slopeOf } from './slope.ts'

test('[G18] a line through points that lie on one has its slope', () => {
  assert.equal(slopeOf([0, 1, 2, 5].map(x => ({ x, y: 3 * x - 7 }))), 3)
  assert.equal(slopeOf([0, 1, 2].map(x => ({ x, y: 4 }))), 0)
})

test('[G18] noise around a level has nearly none, one place has no slope', () => {
  const noisy = Array.from({ length: 100 }, (_, x) => ({ x, y: 50 + (x % 2) }))
  assert.ok(Math.abs(slopeOf(noisy)) < 0.001)
  assert.ok(Number.isNaN(slopeOf([{ x: 1, y: 1 }])))
})
