import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Breaker } from './breaker.ts'

function failing(n: number, at: number, breaker = new Breaker()): Breaker {
  for (let i = 0; i < n; i++) breaker.failed(at)
  return breaker
}

test('[P6] nine failures leave it closed, the tenth opens it for 15 s', () => {
  assert.equal(failing(9, 0).admits(1), true)
  assert.equal(failing(9, 0).isOpen, false)
  const open = failing(10, 0)
  assert.equal(open.isOpen, true)
  assert.equal(open.admits(14_999), false)
  assert.equal(open.admits(15_000), true)
})

test('[P6] failures older than 30 s do not count', () => {
  const breaker = failing(9, 0)
  breaker.failed(30_001)
  assert.equal(breaker.admits(30_002), true)
})

test('[P6] failures pushed out by later successes do not count', () => {
  const breaker = failing(9, 0)
  for (let i = 0; i < 12; i++) breaker.succeeded(1)
  breaker.failed(2)
  assert.equal(breaker.admits(3), true)
})

test('[P6] after the pause one probe at a time: its success closes, its failure opens again', () => {
  const breaker = failing(10, 0)
  assert.equal(breaker.admits(15_000), true)
  assert.equal(breaker.admits(15_001), false)
  breaker.failed(15_002)
  assert.equal(breaker.admits(30_001), false)
  assert.equal(breaker.admits(30_002), true)
  breaker.abstained()
  assert.equal(breaker.admits(30_003), true)
  assert.equal(breaker.isOpen, true)
  breaker.succeeded(30_004)
  assert.equal(breaker.isOpen, false)
  assert.equal(breaker.admits(30_005), true)
  assert.equal(breaker.admits(30_006), true)
})
