/**
 * `node load/rig/rolling.ts [rounds] [--ci]`: a cluster under sends while each of its processes is asked to leave (SIGTERM) in turn
 * and comes back, as in an upgrade. Nothing may be refused, nothing lost; it prints how long sends paused. Ends with
 * `N passed, N failed`. Refuses to break anything: kills are kills.ts's.
 */
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Attempt, History } from '#load/kit/checkers.ts'
import { type Cluster, startTestCluster } from '#load/kit/cluster.ts'
import { writeSection } from '#load/kit/results.ts'
import { fairShare } from '#load/kit/shares.ts'
import { shardOf } from '#protos/shard.ts'
import { audit, auditOf, makeConversations, sayCounts, sendLoop } from './crowd.ts'
import { readFinal } from './final.ts'
import { Recorder, type Seen } from './recorder.ts'

const isCi = process.argv.includes('--ci')
const rounds = Number(process.argv[2]) || 1
const users = 12
/** Where other things run beside it a longer pause says little. */
const pauseMsMax = isCi ? 900 : 300
/** The first seconds of a process hold module loading, for which the two cores of a small machine are one too few. */
const settleMs = 2500
const leaveMsMax = 90_000
const drainMsMax = 20_000

interface Step {
  name: string
  /** SIGTERM to exit. */
  leftMs: number
  attempts: number
  refused: number
  unknown: number
  /** Per conversation the longest time from a send's first attempt to its ack. */
  pauses: number[]
}

async function main(): Promise<number> {
  const cluster = await startTestCluster({ DRAIN_SPREAD_MS: '1000', LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'warn' })
  try {
    return await roll(cluster)
  } finally {
    if (process.env['SHOW_OUTPUT']) process.stderr.write(cluster.output())
    await cluster.stop()
  }
}

async function roll(cluster: Cluster): Promise<number> {
  const tokens = await cluster.seed(users)
  const product = {
    request: <T>(token: string, method: string, where: string, body?: unknown) =>
      cluster.request<T>(0, token, method, where, body),
    node: () => ({ parent: 0, databaseUrl: cluster.file().postgres.url }),
  }
  const conversations = await makeConversations(product, tokens)
  for (let i = 0; i < tokens.length; i++) {
    const { id } = await product.request<{ id: string }>(tokens[i]!, 'POST', '/conversations', {
      type: 'group',
      title: `own ${i}`,
      usernames: [`seed_${((i + 1) % tokens.length) + 1}`],
    })
    conversations.push({ id, members: [i, (i + 1) % tokens.length] })
  }
  await fairShare(cluster)

  const seen: Seen = { attempts: [], deliveries: [], joins: [] }
  // A client goes to the other gateway when its own says goodbye, as a balancer would send it.
  let leaving = -1
  const wsUrl = (i: number) => () => {
    const gateway = i % 2 === leaving ? 1 - leaving : i % 2
    return cluster.file().gateways[gateway]!.url.replace('http', 'ws')
  }
  const clients = tokens.map((token, i) => new Recorder(wsUrl(i), token, seen))
  await Promise.all(clients.map(client => client.open()))
  let isOver = false
  const loops = conversations.flatMap(c =>
    c.members.slice(0, 2).map(i => sendLoop(clients[i]!, c.id, `${i}`, () => isOver)),
  )

  const steps: Step[] = []
  const name = { engines: 'engine', gateways: 'gateway' } as const
  for (let round = 0; round < rounds; round++) {
    for (const kind of ['engines', 'gateways'] as const) {
      for (const index of [0, 1]) {
        await sleep(settleMs)
        const from = seen.attempts.length
        leaving = kind === 'gateways' ? index : -1
        const leftMs = await restart(cluster, kind, index)
        leaving = -1
        await sleep(settleMs)
        steps.push(stepOf(`${name[kind]} ${index + 1}`, leftMs, seen.attempts.slice(from)))
        console.log(line(steps.at(-1)!))
        // Its part of the shards comes back to an engine.
        if (kind === 'engines') await fairShare(cluster)
      }
    }
  }
  isOver = true
  const isDrained = await Promise.race([Promise.all(loops).then(() => true), sleep(drainMsMax, false, { ref: false })])
  const stuck = conversations.filter(c => seen.attempts.findLast(a => a.conversation === c.id)?.outcome.kind !== 'ok')
  await sleep(1500)
  for (const client of clients) client.stop()
  const final = await readFinal(
    product,
    conversations.map(c => ({ id: c.id, token: tokens[c.members[0]!]! })),
  )
  const history: History = { ...seen, ...final }
  const engineSteps = steps.filter(s => s.name.startsWith('engine'))
  const counted = audit({
    ...auditOf(history),
    'C5 every send is acked in the end': isDrained
      ? []
      : stuck.map(c => `conversation ${c.id} of shard ${shardOf(c.id)} takes nothing`),
    'F14 no send is refused': steps.filter(s => s.refused > 0).map(s => `${s.name}: ${s.refused} refused`),
    'F14 an engine that leaves leaves no send without an answer': engineSteps
      .filter(s => s.unknown > 0)
      .map(s => `${s.name}: ${s.unknown} without an answer within 3 s`),
    [`F14 an engine that leaves pauses sends for at most ${pauseMsMax} ms (p99 of conversations)`]: engineSteps
      .filter(s => at(s.pauses, 0.99) > pauseMsMax)
      .map(s => `${s.name}: ${at(s.pauses, 0.99).toFixed(0)} ms`),
  })
  if (!isCi) writeSection('Rolling', report(steps, history, counted.failed))
  return sayCounts(counted)
}

/** SIGTERM, its end, its successor ready. */
async function restart(cluster: Cluster, kind: 'engines' | 'gateways', index: number): Promise<number> {
  const { pid } = cluster.file()[kind][index]!
  const began = performance.now()
  process.kill(pid, 'SIGTERM')
  let leftMs: number | undefined
  while (cluster.file()[kind][index]!.pid === pid) {
    if (leftMs === undefined && !isThere(pid)) leftMs = performance.now() - began
    if (performance.now() - began > leaveMsMax) throw new Error(`${kind} ${index} did not leave`)
    await sleep(10)
  }
  await cluster.ready()
  return leftMs ?? performance.now() - began
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function stepOf(name: string, leftMs: number, attempts: Attempt[]): Step {
  const sends = new Map<string, { conversation: string; from: number; to: number }>()
  for (const { clientId, conversation, invokedAt, completedAt } of attempts) {
    const send = sends.get(clientId) ?? { conversation, from: invokedAt, to: 0 }
    if (completedAt !== undefined) send.to = completedAt
    sends.set(clientId, send)
  }
  const longest = new Map<string, number>()
  for (const { conversation, from, to } of sends.values())
    if (to > 0) longest.set(conversation, Math.max(longest.get(conversation) ?? 0, to - from))
  const outcome = (kind: string) => attempts.filter(a => a.outcome.kind === kind).length
  return {
    name,
    leftMs,
    attempts: attempts.length,
    refused: outcome('refused'),
    unknown: outcome('unknown') - attempts.filter(a => isUnderWay(a)).length,
    pauses: [...longest.values()],
  }
}

/** Sent a moment ago: no answer yet says nothing. */
const isUnderWay = (a: Attempt) => a.outcome.kind === 'unknown' && performance.now() - a.invokedAt < 2000

function at(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
}

function line({ name, leftMs, attempts, refused, unknown, pauses }: Step): string {
  const cells = [
    name,
    leftMs.toFixed(0),
    attempts,
    refused,
    unknown,
    at(pauses, 0.5).toFixed(0),
    at(pauses, 0.99).toFixed(0),
  ]
  return `| ${cells.join(' | ')} |`
}

function report(steps: readonly Step[], { rows, deliveries, joins }: History, failed: number): string {
  return [
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, ${cpus().length} cores: each process of a cluster left on SIGTERM and came back, under sends of ${users} clients.`,
    `${rows.length} rows, ${deliveries.length} deliveries, ${joins.length} resumes. ${failed === 0 ? 'Nothing refused, nothing lost, no hole.' : `${failed} checks FAILED.`}`,
    '',
    '| process | left after ms | sends | refused | unknown | longest wait per conversation, p50 ms | p99 |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...steps.map(line),
  ].join('\n')
}

process.exit((await main()) === 0 ? 0 : 1)
