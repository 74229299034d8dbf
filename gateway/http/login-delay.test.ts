import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMetrics } from '#engine/ops/metrics.ts'
import { loginDelayMs, loginDelayMsMax, loginFailuresKeptMs } from '#protos/limits.ts'
import { createLoginDelay, delayOf } from './login-delay.ts'

function rig(scale = 1, keysMax = 3) {
  let now = 0
  const waits: number[] = []
  const clock = { mono: () => now }
  const wait = async (ms: number) => void waits.push(ms)
  const pass = (ms: number) => void (now += ms)
  return { delay: createLoginDelay({ clock, metrics: openMetrics(), scale, keysMax, wait }), waits, pass }
}

test('S7 each failure in a row is told later than the one before, up to a limit, and a success ends the row', async () => {
  const { delay, waits, pass } = rig()
  for (let i = 0; i < 12; i++) await delay.failed('ann')
  assert.deepEqual(waits.slice(0, 3), [loginDelayMs, 2 * loginDelayMs, 4 * loginDelayMs])
  assert.equal(waits.at(-1), loginDelayMsMax)
  await delay.failed('ben')
  assert.equal(waits.at(-1), loginDelayMs, 'another account has a row of its own')
  delay.passed('ann')
  await delay.failed('ann')
  assert.equal(waits.at(-1), loginDelayMs)
  await delay.failed('ann')
  pass(loginFailuresKeptMs)
  await delay.failed('ann')
  assert.equal(waits.at(-1), loginDelayMs, 'it is forgotten after a while')
})

test('S12 the delay shrinks with the scale of rates, and no more accounts are kept than the limit', async () => {
  assert.equal(delayOf(3, 1000), (4 * loginDelayMs) / 1000)
  const { delay, waits } = rig(1, 2)
  for (const account of ['ann', 'ben', 'cat', 'ann']) await delay.failed(account)
  assert.equal(delay.size, 2)
  assert.deepEqual(waits, [loginDelayMs, loginDelayMs, loginDelayMs, loginDelayMs], 'the oldest went')
})
