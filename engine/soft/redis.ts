/**
 * The soft store on Redis, for several gateways. Every command has 150 ms; after a failure none is tried for a moment, and who
 * came or went meanwhile is owed and told as soon as it answers. A pulse says that nothing is owed; while one is missing,
 * absent people are `unknown`. Refuses to hold anything whose loss would matter.
 */
import { Redis } from 'ioredis'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import {
  presenceBeatMs,
  presencePulseLateMs,
  presencePulseMs,
  presenceTtlMs,
  softBreakerMs,
  softCommandMs,
  softOwedMax,
} from '#protos/limits.ts'
import { type Owed, OwedList } from './owed.ts'
import { openRedisRates } from './redis-rates.ts'
import { channel, scriptsOf } from './redis-scripts.ts'
import { type PresenceState, type SoftOptions, type SoftStore, unknownPresence } from './store.ts'

export interface RedisStoreDeps {
  url: string
  log: Log
  metrics: Metrics
  /** Of this process among all that ever were. */
  name: string
  /** What the names of this gateway's earlier lives begin with, all of one length; '' where nobody can tell. */
  replaces: string
  /** For tests. */
  settleMs?: number
  goneMs?: number
  owedMax?: number
}

const chunk = 200
/** A pulse that took longer than this says what was so before somebody else came. */
const heardMsMax = presencePulseMs * 1.5
/** It is told to say everything again, does, was too late with it, and is in time. */
const pulseRoundsMax = 4

type Notice =
  | { presence: string; state: { status: PresenceState['status']; lastSeen?: number } }
  | { evicted: string }
  | { gateway: string }

export function createRedisStore(deps: RedisStoreDeps, { ttlMs, socketsMax }: SoftOptions): SoftStore {
  const { log, metrics, name } = deps
  // From the first pulse after the loss; with the wait for that one it is a beat.
  const settleMs = deps.settleMs ?? presenceBeatMs - presencePulseMs
  const goneMs = deps.goneMs ?? presenceTtlMs
  const scripts = scriptsOf({ ttlMs, socketsMax, settleMs, goneMs, lateMs: presencePulseLateMs })
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
  const knownListeners: (() => void)[] = []
  let openUntil = 0
  let failures = 0
  /** Socket → user. */
  const here = new Map<string, string>()
  const owed = new OwedList(deps.owedMax ?? softOwedMax)
  let lastOrder = 0
  /** Sockets may be unknown to the store that are not owed one by one. */
  let mustTellAll = false
  let isTellingAll = false
  let hasToldAll = true
  let hasPulsed = false
  /** Redis' time of the last answer to a pulse. */
  let heardAt = 0
  let ticking: Promise<void> | undefined
  let isClosed = false
  /** Somebody was called unknown, or a change may not have been heard. */
  let isDoubted = false

  const isWhole = () => owed.size === 0 && !mustTellAll && !isTellingAll

  for (const client of [redis, subscriber]) client.on('error', () => {})
  redis.on('ready', () => {
    openUntil = 0
    tick()
  })
  subscriber.on('ready', () => {
    isDoubted = true
    void subscriber.subscribe(channel).catch(() => {})
  })
  subscriber.on('message', (_channel: string, text: string) => {
    const notice = JSON.parse(text) as Notice
    if ('gateway' in notice) return rates.heard(notice.gateway)
    if ('evicted' in notice) {
      for (const listener of evictionListeners) listener(notice.evicted)
      return
    }
    // Whoever left there may have come here and not be told yet.
    const isKnown = notice.state.status === 'online' || (notice.state.status === 'offline' && isWhole())
    const state = isKnown ? { ...unknownPresence, ...notice.state } : unknownPresence
    if (!isKnown) isDoubted = true
    for (const listener of presenceListeners) listener(notice.presence, state)
  })
  const timer = setInterval(tick, presencePulseMs).unref()

  /** Runs one step unless the breaker is open; undefined when the store has no answer. */
  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    const start = performance.now()
    if (start < openUntil) {
      metrics.parley_soft_errors_total.inc()
      return undefined
    }
    try {
      const result = await work()
      metrics.parley_soft_ms.observe(performance.now() - start)
      failures = 0
      return result
    } catch (error) {
      metrics.parley_soft_errors_total.inc()
      openUntil = performance.now() + softBreakerMs
      setTimeout(tick, softBreakerMs + 1).unref()
      if (failures++ % 30 === 0) log.warn('the soft store does not answer', { err: error })
      return undefined
    }
  }

  const rates = openRedisRates(redis, attempt, name)

  /** Several commands in one write: their answers, when each has one. */
  function together(fill: (pipeline: ReturnType<Redis['pipeline']>) => void): Promise<unknown[] | undefined> {
    return attempt(async () => {
      const pipeline = redis.pipeline()
      fill(pipeline)
      const answers = (await pipeline.exec()) ?? []
      for (const [error] of answers) if (error) throw error
      return answers.map(([, answer]) => answer)
    })
  }

  // --- who came and went ---------------------------------------------------------------------------------------------
  async function tell(userId: string, socket: string, isHere: boolean): Promise<void> {
    const entry: Owed = { userId, socket, isHere, order: ++lastOrder, at: performance.now() }
    // What is told after something that is owed would be told before it.
    if (owed.size > 0) return owe(entry)
    const isTold = await attempt(async () => {
      await (isHere ? scripts.arrive(redis, userId, socket, false) : scripts.leave(redis, userId, socket))
      return true
    })
    if (!isTold) owe(entry)
  }

  function owe(entry: Owed): void {
    // It left while its coming was on the way: then its leaving is told or owed by itself.
    if (entry.isHere && !here.has(entry.socket)) return
    if (!owed.add(entry)) {
      metrics.parley_soft_owed_dropped_total.inc()
      if (entry.isHere) mustTellAll = true
    }
    metrics.parley_soft_owed.set(owed.size)
  }

  async function tellOwed(): Promise<boolean> {
    while (owed.size > 0) {
      const entries = owed.list()
      for (let i = 0; i < entries.length; i += chunk) {
        const part = entries.slice(i, i + chunk)
        // A socket that left so long ago has expired by itself.
        const [over, due] = [part.filter(isOver), part.filter(entry => !isOver(entry))]
        metrics.parley_soft_owed_dropped_total.inc(over.length)
        const isTold = await together(pipeline => {
          for (const { userId, socket, isHere } of due) {
            if (isHere) scripts.arrive(pipeline, userId, socket, true)
            else scripts.leave(pipeline, userId, socket)
          }
        })
        if (!isTold) return false
        owed.settle(part)
        metrics.parley_soft_owed.set(owed.size)
      }
    }
    return true
  }

  const isOver = (entry: Owed) => !entry.isHere && performance.now() - entry.at > ttlMs

  async function tellAll(sockets: readonly (readonly [userId: string, socket: string])[]): Promise<boolean> {
    for (let i = 0; i < sockets.length; i += chunk) {
      // One that left meanwhile must not be brought back.
      const part = sockets.slice(i, i + chunk).filter(([, socket]) => here.has(socket))
      const isTold = await together(pipeline => {
        for (const [userId, socket] of part) scripts.beat(pipeline, userId, socket)
      })
      if (!isTold) return false
    }
    return true
  }

  // --- the pulse -----------------------------------------------------------------------------------------------------
  function tick(): void {
    if (ticking || isClosed || redis.status !== 'ready' || performance.now() < openUntil) return
    ticking = pulse().finally(() => {
      ticking = undefined
    })
  }

  async function pulse(): Promise<void> {
    for (let round = 0; round < pulseRoundsMax; round++) {
      if (!(await tellOwed())) return
      if (mustTellAll) {
        mustTellAll = false
        isTellingAll = true
        hasToldAll = await tellAll([...here].map(([socket, userId]) => [userId, socket]))
        isTellingAll = false
        if (!hasToldAll) mustTellAll = true
      }
      if (!isWhole() || isClosed) return
      const replaces = hasPulsed ? '' : deps.replaces
      const answer = await attempt(() => scripts.pulse(redis, { name, heardAt, heardMsMax, hasToldAll, replaces }))
      if (!answer) {
        hasToldAll = false
        return
      }
      heardAt = answer.now
      if (!answer.isTaken) {
        // The store was emptied, or this process stood still and its sockets are old there.
        if (answer.hasGap && !hasToldAll) mustTellAll = true
        continue
      }
      hasPulsed = true
      hasToldAll = false
      metrics.parley_soft_missing.set(answer.missing)
      if (!isDoubted || !answer.isSure || !isWhole()) return
      isDoubted = false
      for (const listener of knownListeners) listener()
      return
    }
  }

  return {
    kind: 'redis',
    arrive(userId, socket) {
      here.set(socket, userId)
      return tell(userId, socket, true)
    },
    async beat(sockets) {
      if (!(await tellAll(sockets))) mustTellAll = true
    },
    leave(userId, socket) {
      here.delete(socket)
      return tell(userId, socket, false)
    },
    async presence(userIds) {
      const wasWhole = isWhole()
      const answers = await together(pipeline => {
        scripts.surely(pipeline, name)
        for (const id of userIds) scripts.look(pipeline, id)
      })
      const isSure = answers?.[0] === 1 && wasWhole && isWhole()
      const states = userIds.map((id, i): [string, PresenceState] => {
        const [count, seen, now] = (answers?.[i + 1] ?? [0, '', 0]) as [number, string, number]
        if (count > 0) return [id, { status: 'online', lastSeen: now }]
        if (!isSure) isDoubted = true
        return [id, isSure ? { status: 'offline', lastSeen: seen === '' ? undefined : Number(seen) } : unknownPresence]
      })
      return new Map(states)
    },
    onPresence: listener => void presenceListeners.push(listener),
    onEvicted: listener => void evictionListeners.push(listener),
    onKnown: listener => void knownListeners.push(listener),
    spend: rates.spend,
    get gateways() {
      return rates.gateways
    },
    async close() {
      isClosed = true
      clearInterval(timer)
      await ticking
      if (redis.status === 'ready') {
        await rates.close()
        await tellOwed()
        await attempt(() => scripts.goodbye(redis, name))
      }
      redis.disconnect()
      subscriber.disconnect()
    },
  }
}
