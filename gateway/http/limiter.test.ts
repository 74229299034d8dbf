import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { systemClock } from '#engine/ops/clock.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { fullBucket, takeToken } from './bucket.ts'
import { createLimiter } from './limiter.ts'
import { addressKey } from './origin.ts'

test('M-02 a bucket grants its burst, then its rate, and its wait is exact', () => {
  const rule = { perMs: 60 / 60_000, burst: 10 }
  let bucket = fullBucket(rule, 0)
  for (let i = 0; i < 10; i++) {
    const taken = takeToken(bucket, rule, 0)
    assert.equal(taken.waitMs, 0)
    bucket = taken.bucket
  }
  assert.equal(takeToken(bucket, rule, 0).waitMs, 1000)
  assert.ok(takeToken(bucket, rule, 999).waitMs > 0)
  assert.equal(takeToken(bucket, rule, 1000).waitMs, 0)
})

test('M-03 waiting as long as told is always enough, and never grants more than burst plus rate', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 1, max: 600 }),
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 200 }),
      (burst, perMinute, gaps) => {
        const rule = { perMs: perMinute / 60_000, burst }
        let bucket = fullBucket(rule, 0)
        let now = 0
        let granted = 0
        for (const gap of gaps) {
          now += gap
          const taken = takeToken(bucket, rule, now)
          bucket = taken.bucket
          if (taken.waitMs === 0) granted++
          else assert.equal(takeToken(bucket, rule, now + taken.waitMs).waitMs, 0)
        }
        assert.ok(granted <= burst + now * rule.perMs + 1e-6)
      },
    ),
  )
})

test('S12 the limiter holds no more keys than its limit and forgets the least recently used', () => {
  const metrics = openMetrics()
  const limiter = createLimiter({ clock: { ...systemClock, mono: () => 0 }, metrics, scale: 0.2, keysMax: 3 })
  assert.equal(limiter.take('login_account', 'a'), 0)
  assert.ok(limiter.take('login_account', 'a') > 0)
  limiter.take('send', 'b')
  limiter.take('send', 'c')
  assert.ok(limiter.take('login_account', 'a') > 0)
  limiter.take('send', 'd')
  assert.equal(limiter.size, 3)
  assert.ok(limiter.take('login_account', 'a') > 0, 'used just now, so it is still known')
})

test('S22 questions are limited by person, hour and conversation; a refusal takes nothing, and its wait is honest', () => {
  let now = 0
  const limiter = createLimiter({ clock: { ...systemClock, mono: () => now }, metrics: openMetrics(), scale: 1 })
  for (let i = 0; i < 10; i++) assert.equal(limiter.takeSend('ann', 'room').waitMs, 0)
  const over = limiter.takeSend('ann', 'room')
  assert.deepEqual(over, { waitMs: 6000, limit: 'ai_user' })
  // People's own messages go on, and another person's questions too, until the room has had its share.
  now += 1000
  assert.equal(limiter.takeSend('ann').waitMs, 0)
  for (let i = 0; i < 10; i++) assert.equal(limiter.takeSend('ben', 'room').waitMs, 0)
  assert.equal(limiter.takeSend('cat', 'room').limit, 'ai_conversation')
  now += 5000
  assert.equal(limiter.takeSend('ann', 'other').waitMs, 0, 'who waits as long as told is allowed')
  let granted = 11
  for (; granted < 30; granted++) {
    now += 6000
    const { waitMs, limit } = limiter.takeSend('ann', `room ${granted}`)
    if (waitMs === 0) continue
    assert.equal(limit, 'ai_user_hour')
    now += waitMs
    assert.equal(limiter.takeSend('ann', `room ${granted}`).waitMs, 0)
    break
  }
  assert.ok(granted >= 20 && granted <= 21, `${granted} questions at once`)
})

test('S11 addresses are limited by IPv4 or by /64', () => {
  assert.equal(addressKey('203.0.113.9'), '203.0.113.9')
  assert.equal(addressKey('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  assert.equal(addressKey('2001:db8:1:2::9'), '2001:db8:1:2::/64')
  assert.equal(addressKey('::1'), '0:0:0:0::/64')
  assert.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64')
})
