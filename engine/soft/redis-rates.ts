/**
 * What all gateways granted of a rate, on Redis: a counter for each stretch, and a set of who is there to share. A key lives as
 * long as its stretch, and no name of a person or an address leaves the process. Refuses to decide what may be granted.
 */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { gatewayBeatMs, gatewayTtlMs } from '#protos/limits.ts'
import { channel, nowLua } from './redis-scripts.ts'
import type { SoftStore } from './store.ts'

const gatewaysKey = 'parley:gateways'
const gatewaysLua = `${nowLua}
local came = redis.call('zadd', KEYS[1], now, ARGV[1])
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[2])
redis.call('pexpire', KEYS[1], ARGV[2])
if came == 1 then redis.call('publish', ARGV[3], cjson.encode({gateway = ARGV[1]})) end
return redis.call('zcard', KEYS[1])`
const leaveLua = `
if redis.call('zrem', KEYS[1], ARGV[1]) == 1 then redis.call('publish', ARGV[2], cjson.encode({gateway = ARGV[1]})) end
return 0`
const spendLua = `
local total = redis.call('incrby', KEYS[1], ARGV[1])
local rest = redis.call('pttl', KEYS[1])
if rest < 0 then redis.call('pexpire', KEYS[1], ARGV[2]) rest = tonumber(ARGV[2]) end
return {total, rest}`
/** Whose rate it is may be an address or an e-mail: only a digest leaves the process. */
const rateKeyOf = (rate: string) => `parley:rate:${createHash('sha256').update(rate).digest('base64url').slice(0, 22)}`

export type RedisRates = Pick<SoftStore, 'spend' | 'gateways' | 'close'> & {
  /** Another gateway came or left. */
  heard(gateway: string): void
}

/** `attempt`: runs one step unless the breaker is open; undefined when Redis has no answer. `name`: of this gateway. */
export function openRedisRates(
  redis: Redis,
  attempt: <T>(work: () => Promise<T>) => Promise<T | undefined>,
  name: string,
): RedisRates {
  /** Not known yet: there are several, or there would be no Redis. */
  let gateways = 2
  const count = () =>
    attempt(async () => {
      gateways = Math.max(1, Number(await redis.eval(gatewaysLua, 1, gatewaysKey, name, gatewayTtlMs, channel)))
    })
  const counting = setInterval(() => void count(), gatewayBeatMs).unref()
  redis.on('ready', () => void count())
  return {
    async spend(rate, granted, ms) {
      const found = await attempt(async () => {
        const key = rateKeyOf(rate)
        return (await redis.eval(spendLua, 1, key, granted, Math.ceil(ms))) as [total: number, restMs: number]
      })
      return found && { total: found[0], restMs: found[1] }
    },
    get gateways() {
      return gateways
    },
    heard(gateway) {
      if (gateway !== name) void count()
    },
    /** Who leaves properly leaves its share of the rates at once. */
    async close() {
      clearInterval(counting)
      await attempt(() => redis.eval(leaveLua, 1, gatewaysKey, name, channel))
    },
  }
}
