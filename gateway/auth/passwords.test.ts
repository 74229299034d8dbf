import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createPasswords, digestOf } from './passwords.ts'

test('S7 no byte beyond 72 is lost, and forms of one text are one password', async () => {
  const passwords = createPasswords({ cost: 4, metrics: openMetrics() })
  const stem = 'x'.repeat(80)
  const hash = await passwords.hash(`${stem}a`)
  assert.equal(await passwords.matches(`${stem}a`, hash), true)
  assert.equal(await passwords.matches(`${stem}b`, hash), false)
  assert.equal(digestOf('ﬁ'), digestOf('fi'))
  assert.equal(digestOf('é'), digestOf('e\u0301'))
})

test('S7 an unknown user costs as much as a wrong password', async () => {
  const passwords = createPasswords({ cost: 8, metrics: openMetrics() })
  const hash = await passwords.hash('right')
  const times: Record<'known' | 'unknown', number[]> = { known: [], unknown: [] }
  for (let i = 0; i < 25; i++) {
    for (const [name, stored] of [
      ['known', hash],
      ['unknown', undefined],
    ] as const) {
      const from = performance.now()
      assert.equal(await passwords.matches('wrong', stored), false)
      times[name].push(performance.now() - from)
    }
  }
  const median = (of: number[]) => of.sort((a, b) => a - b)[of.length >> 1]!
  const ratio = median(times.known) / median(times.unknown)
  assert.ok(ratio > 0.8 && ratio < 1.25, `medians differ: ${ratio}`)
})

test('S12 two hashes run at a time; what waits is bounded and refused beyond', async () => {
  const passwords = createPasswords({ cost: 4, metrics: openMetrics() })
  const results = await Promise.allSettled(Array.from({ length: 250 }, (_, i) => passwords.hash(String(i))))
  const refused = results.filter(r => r.status === 'rejected')
  assert.equal(refused.length, 250 - 202)
  assert.equal((refused[0] as PromiseRejectedResult).reason.status, 503)
  assert.ok(await passwords.hash('later'))
})
