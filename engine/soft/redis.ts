/**
 * The soft store on Redis, for several gateways: sorted sets of sockets per user, small scripts so that each change is one
 * step, one channel for changes. Every command has 150 ms; after a failure none is tried for a moment.
 * Refuses to hold anything whose loss would matter.
 */
import { createHash, randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { gatewayBeatMs, gatewayTtlMs, presenceBeatMs, softBreakerMs, softCommandMs } from '#protos/limits.ts'
import { type PresenceState, type SoftOptions, type SoftStore, unknownPresence } from './store.ts'

export interface RedisStoreDeps {
  url: string
  log: Log
  metrics: Metrics
  /** For tests: how long after a loss of all data absent people are `unknown`. */
  settleMs?: number
}

const channel = 'parley:soft'
const epochKey = 'parley:soft:epoch'
/** Each user's keys share a slot, so the scripts work on a cluster. */
const keysOf = (userId: string) => [`parley:{${userId}}:beat`, `parley:{${userId}}:came`, `parley:{${userId}}:seen`]

const nowLua = `local t = redis.call('time') local now = t[1] * 1000 + math.floor(t[2] / 1000)`
const sweepLua = `
for _, s in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', now - ARGV[2])) do
  redis.call('zrem', KEYS[1], s) redis.call('zrem', KEYS[2], s)
end`
const arriveLua = `${nowLua} ${sweepLua}
local before = redis.call('zcard', KEYS[1])
redis.call('zadd', KEYS[1], now, ARGV[1])
local last = redis.call('zrange', KEYS[2], -1, -1, 'withscores')
local rank = now
if last[2] and tonumber(last[2]) >= now then rank = tonumber(last[2]) + 1 end
redis.call('zadd', KEYS[2], 'nx', rank, ARGV[1])
local over = redis.call('zcard', KEYS[2]) - tonumber(ARGV[3])
local out = {before}
if over > 0 then
  for _, s in ipairs(redis.call('zrange', KEYS[2], 0, over - 1)) do
    redis.call('zrem', KEYS[1], s) redis.call('zrem', KEYS[2], s) out[#out + 1] = s
  end
end
redis.call('pexpire', KEYS[1], ARGV[2] * 2) redis.call('pexpire', KEYS[2], ARGV[2] * 2)
return out`
const beatLua = `${nowLua}
redis.call('zadd', KEYS[1], now, ARGV[1])
redis.call('zadd', KEYS[2], 'nx', now, ARGV[1])
redis.call('pexpire', KEYS[1], ARGV[2] * 2) redis.call('pexpire', KEYS[2], ARGV[2] * 2)
return 0`
const leaveLua = `${nowLua} ${sweepLua}
local gone = redis.call('zrem', KEYS[1], ARGV[1])
redis.call('zrem', KEYS[2], ARGV[1])
if gone == 0 then return -1 end
redis.call('set', KEYS[3], now, 'px', 30 * 86400000)
return redis.call('zcard', KEYS[1])`
const lookLua = `${nowLua}
return {redis.call('zcount', KEYS[1], now - ARGV[2], '+inf'), redis.call('get', KEYS[3]) or '', now}`

const gatewaysKey = 'parley:gateways'
const gatewaysLua = `${nowLua}
redis.call('zadd', KEYS[1], now, ARGV[1])
redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[2])
redis.call('pexpire', KEYS[1], ARGV[2])
return redis.call('zcard', KEYS[1])`
/** The key lives as long as its stretch. */
const spendLua = `
local total = redis.call('incrby', KEYS[1], ARGV[1])
local rest = redis.call('pttl', KEYS[1])
if rest < 0 then redis.call('pexpire', KEYS[1], ARGV[2]) rest = tonumber(ARGV[2]) end
return {total, rest}`
/** Whose rate it is may be an address or an e-mail: only a digest leaves the process. */
const rateKeyOf = (rate: string) => `parley:rate:${createHash('sha256').update(rate).digest('base64url').slice(0, 22)}`

type Notice = { presence: string; state: PresenceState } | { evicted: string }

export function createRedisStore(deps: RedisStoreDeps, { ttlMs, socketsMax }: SoftOptions): SoftStore {
  const { log, metrics } = deps
  const settleMs = deps.settleMs ?? presenceBeatMs
  const options = {
    lazyConnect: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 1000,
    retryStrategy: (times: number) => Math.min(50 * 2 ** times, 1000),
  }
  const redis = new Redis(deps.url, { ...options, commandTimeout: softCommandMs })
  const subscriber = new Redis(deps.url, { ...options, autoResubscribe: true })
  const presenceListeners: ((userId: string, state: PresenceState) => void)[] = []
  const evictionListeners: ((socket: string) => void)[] = []
  let openUntil = 0
  let failures = 0

  for (const client of [redis, subscriber]) client.on('error', () => {})
  subscriber.on('ready', () => void subscriber.subscribe(channel).catch(() => {}))
  subscriber.on('message', (_channel: string, text: string) => {
    const notice = JSON.parse(text) as Notice
    if ('evicted' in notice) for (const listener of evictionListeners) listener(notice.evicted)
    else for (const listener of presenceListeners) listener(notice.presence, notice.state)
  })

  /** Runs one step unless the breaker is open; undefined when the store has no answer. */
  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    const start = performance.now()
    if (start < openUntil) {
      metrics.parley_soft_errors_total.inc()
      return undefined
    }
    try {
      // Arrivals may have been missed meanwhile, here or elsewhere: as after a loss of everything, nobody is offline for sure.
      if (failures > 0) await redis.set(epochKey, Date.now())
      const result = await work()
      metrics.parley_soft_ms.observe(performance.now() - start)
      failures = 0
      return result
    } catch (error) {
      metrics.parley_soft_errors_total.inc()
      openUntil = performance.now() + softBreakerMs
      if (failures++ % 30 === 0) log.warn('the soft store does not answer', { err: error })
      return undefined
    }
  }

  const self = randomUUID()
  /** Not known yet: there are several, or there would be no Redis. */
  let gateways = 2
  const count = () =>
    attempt(async () => {
      gateways = Math.max(1, Number(await redis.eval(gatewaysLua, 1, gatewaysKey, self, gatewayTtlMs)))
    })
  const counting = setInterval(() => void count(), gatewayBeatMs).unref()
  redis.on('ready', () => void count())

  function publish(notice: Notice): Promise<unknown> {
    return redis.publish(channel, JSON.stringify(notice))
  }

  const run = (script: string, userId: string, ...values: (string | number)[]) =>
    redis.eval(script, 3, ...keysOf(userId), ...values)

  return {
    kind: 'redis',
    async arrive(userId, socket) {
      await attempt(async () => {
        await redis.set(epochKey, Date.now(), 'NX')
        const [before, ...evicted] = (await run(arriveLua, userId, socket, ttlMs, socketsMax)) as [number, ...string[]]
        if (before === 0) await publish({ presence: userId, state: { status: 'online', lastSeen: Date.now() } })
        for (const old of evicted) await publish({ evicted: old })
      })
    },
    async beat(sockets) {
      for (let i = 0; i < sockets.length; i += 200) {
        await attempt(async () => {
          const pipeline = redis.pipeline().set(epochKey, Date.now(), 'NX')
          for (const [userId, socket] of sockets.slice(i, i + 200)) {
            pipeline.eval(beatLua, 3, ...keysOf(userId), socket, ttlMs)
          }
          await pipeline.exec()
        })
      }
    },
    async leave(userId, socket) {
      await attempt(async () => {
        const left = (await run(leaveLua, userId, socket, ttlMs)) as number
        if (left === 0) await publish({ presence: userId, state: { status: 'offline', lastSeen: Date.now() } })
      })
    },
    async presence(userIds) {
      const found = await attempt(async () => {
        const pipeline = redis.pipeline().get(epochKey)
        for (const id of userIds) pipeline.eval(lookLua, 3, ...keysOf(id), '', ttlMs)
        const [epoch, ...looks] = (await pipeline.exec()) ?? []
        if (!epoch || looks.some(([error]) => error)) throw new Error('a look at presence failed')
        // After a loss of everything nobody is offline until all gateways have had time to say who is there.
        const isSettled = epoch[1] !== null && Date.now() - Number(epoch[1]) >= settleMs
        return new Map(
          looks.map(([, value], i): [string, PresenceState] => {
            const [count, seen, now] = value as [number, string, number]
            if (count > 0) return [userIds[i]!, { status: 'online', lastSeen: now }]
            const lastSeen = seen === '' ? undefined : Number(seen)
            return [userIds[i]!, isSettled ? { status: 'offline', lastSeen } : unknownPresence]
          }),
        )
      })
      return found ?? new Map(userIds.map(id => [id, unknownPresence]))
    },
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
    onPresence: listener => void presenceListeners.push(listener),
    onEvicted: listener => void evictionListeners.push(listener),
    async close() {
      clearInterval(counting)
      // Who leaves properly leaves its share of the rates at once.
      await redis.zrem(gatewaysKey, self).catch(() => {})
      redis.disconnect()
      subscriber.disconnect()
    },
  }
}
