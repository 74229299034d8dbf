/**
 * `node load/rig/kills.ts [n]`: clients send in loops while the engine process is killed and single worker threads throw,
 * exit, spin or fill their heap, n times at random moments (200 unless told). Afterwards every ack has to be in the log at
 * its place, in SQL and REST, and nobody may have seen a hole. Ends with `N passed, N failed`. KILLS_SEED repeats a run.
 */
import { randomInt } from 'node:crypto'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { History } from '#load/kit/checkers.ts'
import { type Product, startProduct } from '#load/kit/product.ts'
import { writeSection } from '#load/kit/results.ts'
import { audit, auditOf, makeConversations, sayCounts, sendLoop } from './crowd.ts'
import { query, readFinal } from './final.ts'
import { Recorder, type Seen } from './recorder.ts'

const kills = Number(process.argv[2] ?? 200)
const seed = Number(process.env['KILLS_SEED'] ?? randomInt(1, 2 ** 31))
/** After a kill somebody must be acked again within this time; generous, for machines that do other things as well. */
const recoveryMsMax = 20_000
/** An ack within this time may have been on its way before the thread heard of its end. */
const takesHoldMs = 50
/** Of a hundred: what is broken how often. A spin costs two seconds to notice, a heap more. */
const mix = { process: 45, throw: 25, exit: 20, spin: 7, oom: 3 } as const
type Kind = keyof typeof mix

async function main(): Promise<number> {
  console.log(`seed ${seed}, ${kills} kills`)
  const random = mulberry32(seed)
  const product = await startProduct({
    ENGINE_THREADS: '2',
    ENGINE_HEAP_MB: '96',
    NODE_OPTIONS: `--import ${path.join(import.meta.dirname, 'faults.ts')}`,
  })
  try {
    return await rig(product, random)
  } finally {
    await product.stop()
  }
}

async function rig(product: Product, random: () => number): Promise<number> {
  const tokens = await product.seed(6)
  const conversations = await makeConversations(product, tokens)
  const seen: Seen = { attempts: [], deliveries: [], joins: [] }
  const clients = tokens.map(token => new Recorder(product.wsUrl, token, seen))
  await Promise.all(clients.map(client => client.open()))

  let isOver = false
  const loops = clients.flatMap((client, i) =>
    conversations
      .filter(c => c.members.includes(i))
      // Two loops a conversation: the second send is on its way while the first waits.
      .flatMap(c => [0, 1].map(lane => sendLoop(client, c.id, `${i}.${lane}`, () => isOver))),
  )
  const drops = dropLoop(clients, random, () => isOver)

  const counts: Record<Kind, number> = { process: 0, throw: 0, exit: 0, spin: 0, oom: 0 }
  const recoveries: { kind: Kind; ms: number }[] = []
  let failure: string | undefined
  for (let n = 0; n < kills && !failure; n++) {
    await sleep(100 + random() * 900)
    const kind = pick(random)
    if (!(await kill(product, kind, random))) {
      n--
      continue
    }
    const killedAt = performance.now()
    counts[kind]++
    // In every conversation, not just where the broken thread was not.
    const marks = conversations.map(c => ackedIn(seen, c.id, killedAt + takesHoldMs))
    const until = killedAt + recoveryMsMax
    while (marks.some(mark => !mark()) && performance.now() < until) await sleep(10)
    if (marks.some(mark => !mark()))
      failure = `no ack in some conversation ${recoveryMsMax} ms after ${kind} (kill ${n + 1})`
    recoveries.push({ kind, ms: performance.now() - killedAt })
    if ((n + 1) % 20 === 0) console.log(`${n + 1} kills, ${acks(seen)} acks, ${seen.attempts.length} attempts`)
  }
  isOver = true
  const isDrained = await Promise.race([
    Promise.all([...loops, drops]).then(() => true),
    sleep(recoveryMsMax * 2, false, { ref: false }),
  ])
  if (!isDrained) failure ??= 'some sends were never resolved'
  // Everybody reads up to the end before the connections go.
  await sleep(1500)
  for (const client of clients) client.stop()

  const final = await readFinal(
    product,
    conversations.map(c => ({ id: c.id, token: tokens[c.members[0]!]! })),
  )
  const history: History = { ...seen, ...final }
  const counted = audit({
    ...auditOf(history),
    'C5 an ack in every conversation after each kill': failure ? [failure] : [],
  })
  const summary = report(history, counts, recoveries, counted.failed)
  if (kills >= 200) writeSection('Kills', summary)
  console.log(`\n${summary}\n`)
  return sayCounts(counted)
}

/** Every few seconds somebody's connection breaks and resumes. */
async function dropLoop(clients: Recorder[], random: () => number, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    for (let left = 2000 + random() * 3000; left > 0 && !isOver(); left -= 100) await sleep(100)
    const client = clients[Math.floor(random() * clients.length)]!
    client.cut()
    await client.open()
  }
}

/** False when there was nothing to break just now. */
async function kill(product: Product, kind: Kind, random: () => number): Promise<boolean> {
  const { engine, engineMetricsUrl } = product.node()
  if (kind === 'process') {
    try {
      process.kill(engine!, 'SIGKILL')
      return true
    } catch {
      return false
    }
  }
  const workers = await query<{ worker: number }>(product, 'select distinct worker from shard where owner is not null')
  const worker = workers[Math.floor(random() * workers.length)]?.worker
  if (worker === undefined) return false
  const answer = await fetch(`${engineMetricsUrl}/fault`, {
    method: 'POST',
    body: JSON.stringify({ worker, kind }),
  }).catch(() => undefined)
  await answer?.body?.cancel()
  return answer?.status === 202
}

/** Whether this conversation had an ack after a moment. */
function ackedIn(seen: Seen, conversation: string, since: number): () => boolean {
  let at = seen.attempts.length
  // Sends that are under way count too: their answer comes from whoever owns it now.
  at = Math.max(0, at - 200)
  return () =>
    seen.attempts
      .slice(at)
      .some(a => a.conversation === conversation && (a.completedAt ?? 0) > since && a.outcome.kind === 'ok')
}

const acks = (seen: Seen) => seen.attempts.filter(a => a.outcome.kind === 'ok').length

function pick(random: () => number): Kind {
  let left = random() * 100
  for (const [kind, share] of Object.entries(mix) as [Kind, number][]) if ((left -= share) < 0) return kind
  return 'process'
}

function report(
  history: History,
  counts: Record<Kind, number>,
  recoveries: { kind: Kind; ms: number }[],
  failed: number,
): string {
  const outcome = (kind: string) => history.attempts.filter(a => a.outcome.kind === kind).length
  const rows = (Object.keys(mix) as Kind[])
    .filter(kind => counts[kind] > 0)
    .map(kind => {
      const ms = recoveries
        .filter(r => r.kind === kind)
        .map(r => r.ms)
        .sort((a, b) => a - b)
      const at = (q: number) => (ms[Math.min(ms.length - 1, Math.floor(ms.length * q))] ?? 0).toFixed(0)
      return `| ${kind} | ${counts[kind]} | ${at(0.5)} | ${at(0.9)} | ${at(1)} |`
    })
  return [
    `Seed ${seed}, ${new Date().toISOString().slice(0, 10)}: ${Object.values(counts).reduce((a, b) => a + b)} kills under sends of 6 clients in 5 conversations.`,
    `${outcome('ok')} acks, ${outcome('refused')} refused and ${outcome('unknown')} unknown attempts (sent again), ${history.rows.length} rows, ${history.deliveries.length} deliveries,`,
    `${history.joins.length} resumes. ${failed === 0 ? 'No ack lost, moved or doubled; no hole and no duplicate in any log or on any socket.' : `${failed} checks FAILED.`}`,
    'A process that ends again within 1 s of being ready is started again later and later (up to 1 s).',
    '',
    '| broken | times | all conversations acked again, p50 ms | p90 | max |',
    '| --- | ---: | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}

/** A small seeded generator (mulberry32, public domain by Tommy Ettinger). */
function mulberry32(a: number): () => number {
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

process.exit((await main()) === 0 ? 0 : 1)
