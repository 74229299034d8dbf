/**
 * `node load/bench/redis-trips.ts [--smoke]`: how often Redis is asked for a send (G15): calls by Redis' own count in a cluster of two
 * gateways, while nothing is sent and while much is. Fails when sends were not acked.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { type Cluster, startTestCluster } from '#load/kit/cluster.ts'
import { machineLine } from '#load/kit/machine.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { Load } from './load.ts'
import type { Sender } from './wires.ts'

const isSmoke = process.argv.includes('--smoke')
const pairCount = isSmoke ? 6 : 100
const rate = isSmoke ? 40 : 2000
const runMs = isSmoke ? 2000 : 15_000

type Calls = Map<string, number>

async function callsOf(redis: Redis): Promise<Calls> {
  const out: Calls = new Map()
  for (const line of (await redis.info('commandstats')).split('\n')) {
    const [, name, calls] = /^cmdstat_([^:]+):calls=(\d+)/.exec(line) ?? []
    if (name && name !== 'info') out.set(name, Number(calls))
  }
  return out
}

function since(before: Calls, after: Calls): Calls {
  return new Map([...after].map(([name, n]) => [name, n - (before.get(name) ?? 0)]))
}

async function makePairs(cluster: Cluster): Promise<Sender[]> {
  const tokens = await cluster.seed(2 * pairCount)
  const out: Sender[] = []
  for (let i = 0; i < pairCount; i++) {
    const [a, b] = [tokens[2 * i]!, tokens[2 * i + 1]!]
    const body = { type: 'dm', usernames: [`seed_${2 * i + 2}`] }
    const { id } = await cluster.request<{ id: string }>(i % 2, a, 'POST', '/conversations', body)
    out.push({ token: a, conversation: id }, { token: b, conversation: id })
  }
  return out
}

const cluster = await startTestCluster({ RATE_LIMIT_SCALE: '1000', SOCKETS_PER_ADDRESS: '0', BCRYPT_COST: '6' })
const redis = new Redis(cluster.file().redis.url)
try {
  const senders = await makePairs(cluster)
  const half = senders.length / 2
  const loads = await Promise.all(
    cluster
      .file()
      .gateways.map(({ url }, i) =>
        Load.open(
          { name: 'parley', url: url.replace('http', 'ws'), cpu: () => ({}) },
          senders.slice(i * half, (i + 1) * half),
        ),
      ),
  )
  const send = () =>
    Promise.all(
      loads.map(load =>
        load.measure({ kind: 'step', rate: rate / 2, burst: 1, senders: half, warmMs: 0, runMs, drainMs: 5000 }),
      ),
    )
  await send()
  await sleep(1000)
  const quietBefore = await callsOf(redis)
  const quietFrom = performance.now()
  await sleep(runMs)
  const quiet = since(quietBefore, await callsOf(redis))
  const quietMs = performance.now() - quietFrom
  const busyBefore = await callsOf(redis)
  const busyFrom = performance.now()
  const results = await send()
  const busy = since(busyBefore, await callsOf(redis))
  const busyMs = performance.now() - busyFrom
  for (const load of loads) await load.end()
  const due = results.reduce((n, m) => n + m.due, 0)
  const acked = results.reduce((n, m) => n + m.acked, 0)
  const names = [...new Set([...quiet.keys(), ...busy.keys()])].sort()
  const perSecond = (calls: Calls, ms: number, name: string) => ((calls.get(name) ?? 0) * 1000) / ms
  const more = names.reduce(
    (sum, name) => sum + (busy.get(name) ?? 0) - (perSecond(quiet, quietMs, name) * busyMs) / 1000,
    0,
  )
  // A heartbeat less is none either.
  const perSend = Math.max(0, more) / acked
  const text = [
    `Machine: ${machineLine()}.`,
    '',
    `${acked} sends at ${rate} a second over two gateways of a cluster: ${perSend.toFixed(4)} calls of Redis for each, by its own count, above those of as long a time without sends.`,
    '',
    '| command | a second, nothing sent | while sending |',
    '| --- | ---: | ---: |',
    ...names.map(
      name =>
        `| ${name} | ${perSecond(quiet, quietMs, name).toFixed(1)} | ${perSecond(busy, busyMs, name).toFixed(1)} |`,
    ),
  ].join('\n')
  console.log(`\n${text}\n`)
  if (acked !== due) console.log(`FAIL ${acked} of ${due} sends were acked`)
  if (!isSmoke && acked === due) {
    writeSection('Redis calls', text)
    const goal = { id: 'G15', what: 'Redis round trips a send', floor: '0', aim: '0', measured: perSend.toFixed(4) }
    // A heartbeat more or less is none of a send's.
    recordGoals([{ ...goal, isMet: perSend < 0.001 }], 'redis-trips')
  }
  console.log(acked === due ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = acked === due ? 0 : 1
} finally {
  redis.disconnect()
  await cluster.stop()
}
process.exit()
