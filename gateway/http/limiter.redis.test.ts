/** Two gateways' limiters on a real Redis: one rate for both, and each its part while the store is away. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createRedisStore } from '#engine/soft/redis.ts'
import { RedisServer } from '#load/rig/redis-server.ts'
import { gatewayBeatMs } from '#protos/limits.ts'
import { createLimiter, type LimitName } from './limiter.ts'

const isMissing = spawnSync('redis-server', ['--version']).error !== undefined
const skip = isMissing ? 'redis-server is not installed' : false

test('M-02, M-06 two gateways behind one address share its rate; without Redis each grants its half', {
  skip,
}, async t => {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-rates-'))
  const redis = await RedisServer.start(home)
  const options = { ttlMs: 1000, socketsMax: 3 }
  const depsOf = (name: string) => ({ url: redis.url, log: silentLog, metrics: openMetrics(), name, replaces: '' })
  const stores = [createRedisStore(depsOf('a'), options), createRedisStore(depsOf('b'), options)] as const
  t.after(async () => {
    await Promise.all(stores.map(store => store.close()))
    await redis.stop()
    rmSync(home, { recursive: true, force: true })
  })
  const gateways = stores.map(share => createLimiter({ clock: systemClock, metrics: openMetrics(), scale: 1, share }))
  /** Both are asked at once, `atOnce` times a millisecond and more often than the rate allows. */
  const granted = async (limit: LimitName, key: string, asks: number, atOnce: number) => {
    const sums = [0, 0]
    for (let i = 0; i < asks; i++) {
      for (const [g, limiter] of gateways.entries()) if (limiter.take(limit, key) === 0) sums[g]!++
      if (i % atOnce === 0) await sleep(1)
    }
    return sums
  }
  // Before it has counted a gateway takes it that there are two; then the first to come learns of the other.
  await sleep(300)
  for (const by = Date.now() + 2 * gatewayBeatMs; stores.some(store => store.gateways !== 2); await sleep(20)) {
    assert.ok(Date.now() < by)
    for (const store of stores) await store.spend('warm', 1, 100)
  }
  const [a, b] = await granted('rest_address', '203.0.113.9', 2000, 4)
  assert.ok(a! + b! <= 1000 * 1.2 + 2, `${a} + ${b}`)
  assert.ok(a! + b! >= 1000, `${a} + ${b}`)
  redis.signal('SIGSTOP')
  // The first command that times out says so; what comes then is not waited for.
  await Promise.all(stores.map(store => store.spend('warm', 1, 100)))
  for (const side of await granted('login_address', '198.51.100.7', 300, 1)) assert.ok(side <= 10, `${side}`)
  redis.signal('SIGCONT')
})
