import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { systemClock } from '#engine/ops/clock.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createLimiter, type LimitName, type RateShare, rates } from './limiter.ts'
import { freshMeter, scaledRule, takeOne } from './meter.ts'
import { addressKey } from './origin.ts'

const minute = 60_000

test('M-02 a rate with a burst grants the burst, then evenly, and in all no more than its count', () => {
  const rule = { count: 60, ms: minute, burst: 10 }
  let meter = freshMeter(rule, 0)
  const take = (now: number) => {
    const taken = takeOne(meter, rule, now)
    meter = taken.meter
    return taken.waitMs
  }
  for (let i = 0; i < 10; i++) assert.equal(take(0), 0)
  assert.equal(take(0), 1000)
  assert.ok(take(999) > 0)
  for (let i = 1; i <= 50; i++) assert.equal(take(i * 1000), 0)
  assert.equal(take(51_000), 9000, 'sixty were granted in this minute')
  assert.equal(take(minute), 0)
})

test('P13 whoever asks at ten times a rate gets its count in each stretch, at the rate itself all of it', () => {
  for (const rule of [
    { count: 100, ms: minute },
    { count: 5, ms: minute },
    { count: 60, ms: minute, burst: 10 },
  ]) {
    let meter = freshMeter(rule, 0)
    const granted = [0, 0, 0]
    for (let i = 0; i < rule.count * 30; i++) {
      const now = (i * rule.ms) / (rule.count * 10)
      const taken = takeOne(meter, rule, now)
      meter = taken.meter
      if (taken.waitMs === 0) granted[Math.floor(now / rule.ms)]!++
    }
    for (const n of granted) assert.ok(n >= rule.count - 1 && n <= rule.count, `${n} of ${rule.count}`)
    meter = freshMeter(rule, 0)
    for (let i = 0; i < rule.count * 3; i++) {
      const taken = takeOne(meter, rule, (i * rule.ms) / rule.count)
      meter = taken.meter
      assert.equal(taken.waitMs, 0)
    }
  }
})

test('M-03 waiting as long as told is always enough, and no stretch grants more than the count', () => {
  fc.assert(
    fc.property(
      fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
      fc.integer({ min: 1, max: 600 }),
      fc.double({ min: 0.001, max: 10, noNaN: true }),
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 200 }),
      (burst, count, scale, gaps) => {
        const rule = scaledRule({ count, ms: minute, ...(burst === undefined ? {} : { burst }) }, scale)
        let meter = freshMeter(rule, 0)
        let now = 0
        let granted = 0
        for (const gap of gaps) {
          now += gap
          const { from } = meter
          const taken = takeOne(meter, rule, now)
          meter = taken.meter
          if (meter.from !== from) granted = 0
          if (taken.waitMs === 0) granted++
          else assert.equal(takeOne(meter, rule, now + taken.waitMs).waitMs, 0)
          assert.ok(granted <= rule.count)
        }
      },
    ),
  )
})

test('M-03 the scale multiplies a rate with its burst; less than one a minute is one in a longer time', () => {
  assert.deepEqual(scaledRule({ count: 100, ms: minute }, 0.29), { count: 29, ms: minute })
  assert.deepEqual(scaledRule({ count: 60, ms: minute, burst: 10 }, 1000), { count: 60_000, ms: minute, burst: 10_000 })
  const { count, ms, burst } = scaledRule({ count: 5, ms: minute, burst: 2 }, 0.1)
  assert.deepEqual([count, Math.round(ms), burst], [1, 2 * minute, 1])
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

test('S12 of whatever was asked for in whatever order, those used last are known, over all limits', async () => {
  const metrics = openMetrics()
  const keysMax = 5
  const clock = { ...systemClock, mono: () => 0 }
  const limits = ['login_account', 'register_account'] as const
  const asks = fc.array(fc.tuple(fc.constantFrom(...limits), fc.constantFrom(...'abcdef')), { maxLength: 60 })
  fc.assert(
    fc.property(asks, asked => {
      // Each is granted once, at this scale, and then no more for as long as it is known.
      const limiter = createLimiter({ clock, metrics, scale: 0.2, keysMax })
      const known = new Set<string>()
      for (const [limit, key] of asked) {
        const name = `${limit} ${key}`
        assert.equal(limiter.take(limit, key) > 0, known.delete(name))
        known.add(name)
        if (known.size > keysMax) known.delete(known.values().next().value!)
        assert.equal(limiter.size, known.size)
      }
    }),
  )
  const limiter = createLimiter({ clock, metrics, scale: 1, keysMax })
  for (const key of 'abcdefg') {
    limiter.takeSend(key, 'room')
    assert.equal((await metrics.parley_limiter_keys.get()).values[0]?.value, limiter.size)
  }
  assert.equal(limiter.size, keysMax)
})

test('S22 questions are limited by person, hour and conversation; a refusal takes nothing, and its wait is honest', () => {
  let now = 0
  const limiter = createLimiter({ clock: { ...systemClock, mono: () => now }, metrics: openMetrics(), scale: 1 })
  for (let i = 0; i < 10; i++) assert.equal(limiter.takeSend('ann', 'room').waitMs, 0)
  const over = limiter.takeSend('ann', 'room')
  assert.deepEqual(over, { waitMs: minute, limit: 'ai_user' })
  // People's own messages go on, and another person's questions too, until the room has had its share.
  now += 1000
  assert.equal(limiter.takeSend('ann').waitMs, 0)
  for (let i = 0; i < 10; i++) assert.equal(limiter.takeSend('ben', 'room').waitMs, 0)
  assert.equal(limiter.takeSend('cat', 'room').limit, 'ai_conversation')
  now = minute
  for (let i = 0; i < 10; i++) {
    assert.equal(limiter.takeSend('ann', `room ${i}`).waitMs, 0, 'who waits as long as told is allowed')
  }
  now = 2 * minute
  assert.deepEqual(limiter.takeSend('ann', 'other'), { waitMs: 58 * minute, limit: 'ai_user_hour' })
  now = 60 * minute
  assert.equal(limiter.takeSend('ann', 'other').waitMs, 0)
})

/** What two gateways have told, as a store keeps it: a stretch begins with the first who tells. */
function twoGateways() {
  const world = { now: 0, isAway: false, spends: 0 }
  const stretches = new Map<string, { total: number; until: number }>()
  const share: RateShare = {
    gateways: 2,
    async spend(rate, count, ms) {
      if (world.isAway) return undefined
      world.spends++
      const known = stretches.get(rate)
      const stretch = known && known.until > world.now ? known : { total: 0, until: world.now + ms }
      stretch.total += count
      stretches.set(rate, stretch)
      return { total: stretch.total, restMs: stretch.until - world.now }
    },
  }
  const clock = { ...systemClock, mono: () => world.now }
  const open = () => createLimiter({ clock, metrics: openMetrics(), scale: 1, share })
  return { world, gateways: [open(), open()] as const }
}
const told = () => new Promise(setImmediate)

test('P13 two gateways at ten times a rate grant a fifth more at most; without the store each its half', async () => {
  for (const limit of ['rest_user', 'login_account', 'ai_user_hour', 'ai_user', 'rest_address'] as LimitName[]) {
    const { count, ms } = rates[limit]
    const { world, gateways } = twoGateways()
    const stretches = async (n: number) => {
      const granted = Array.from({ length: n }, () => [0, 0])
      const from = world.now
      for (let i = 0; i < n * count * 10; i++) {
        world.now = from + Math.floor((i * ms) / (count * 10))
        for (const [g, gateway] of gateways.entries()) {
          if (gateway.take(limit, 'ann') === 0) granted[Math.floor((world.now - from) / ms)]![g]!++
        }
        await told()
      }
      world.now = from + n * ms
      return granted
    }
    for (const [a, b] of await stretches(4)) {
      const sum = a! + b!
      assert.ok(sum <= count * 1.2 + 2 && sum >= count * 0.8 - 1, `${limit}: ${a} + ${b} of ${count}`)
    }
    assert.ok(world.spends <= 4 * 30, `${limit} was told ${world.spends} times`)
    world.isAway = true
    world.now += ms
    for (const sides of await stretches(3)) {
      for (const side of sides) assert.ok(side <= Math.floor(count / 2) + 1, `${limit} alone: ${sides} of ${count}`)
    }
    world.isAway = false
    world.now += 2 * ms
    await stretches(1)
    for (const [a, b] of await stretches(2)) assert.ok(a! + b! <= count * 1.2 + 2, `${limit} again: ${a} + ${b}`)
  }
})

test('P13 one gateway that is asked alone grants the whole rate, and a wait as long as told is enough', async () => {
  const { world, gateways } = twoGateways()
  const [one, other] = gateways
  for (let i = 0; i < 100; i++, world.now += 10, await told()) assert.equal(one.take('rest_user', 'ann'), 0, String(i))
  const waitMs = one.take('rest_user', 'ann')
  assert.ok(waitMs > 0 && waitMs <= minute)
  // The other has heard of nothing yet; it learns with the first tenth that it grants.
  let more = 0
  for (; other.take('rest_user', 'ann') === 0; await told()) more++
  assert.ok(more <= 10, `${more} more`)
  const wait = Math.max(other.take('rest_user', 'ann'), waitMs)
  world.now += wait
  assert.deepEqual([one.take('rest_user', 'ann'), other.take('rest_user', 'ann')], [0, 0])
})

test('P13 what one person used is not told as another’s, nor as used of another rate', async () => {
  const { gateways } = twoGateways()
  const [one, other] = gateways
  for (let i = 0; i < 100; i++, await told()) assert.equal(one.take('rest_user', 'ann'), 0)
  for (let i = 0; i < 100; i++, await told()) assert.equal(other.take('rest_user', 'ben'), 0)
  for (let i = 0; i < 60; i++, await told()) assert.equal(other.take('rest_address', 'ann'), 0)
  assert.ok(one.take('rest_user', 'ann') > 0)
})

test('S11 addresses are limited by IPv4 or by /64', () => {
  assert.equal(addressKey('203.0.113.9'), '203.0.113.9')
  assert.equal(addressKey('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  assert.equal(addressKey('2001:db8:1:2::9'), '2001:db8:1:2::/64')
  assert.equal(addressKey('::1'), '0:0:0:0::/64')
  assert.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64')
})
