/**
 * `node load/rig/postgres-stop.ts [seconds]`: Postgres is stopped under sends and started again (20 s unless told). No ack
 * may come in between, no node may be buried, no socket closed; every pending send has to be resolved and the speed from
 * before be back within 5 s. Ends with `N passed, N failed`.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { silentLog } from '#engine/ops/log.ts'
import { startEmbedded } from '#engine/storage/embedded-postgres.ts'
import type { Attempt, History } from '#load/kit/checkers.ts'
import { type Product, startProduct } from '#load/kit/product.ts'
import { writeSection } from '#load/kit/results.ts'
import { audit, auditOf, makeConversations, sayCounts, sendLoop } from './crowd.ts'
import { query, readFinal } from './final.ts'
import { Recorder, type Seen } from './recorder.ts'

const outageMs = Number(process.argv[2] ?? 20) * 1000
const baselineMs = 6000
const backWithinMs = 5000
/** A shared machine is not steady: this much of the speed from before counts as full; less in a short run, as CI has it. */
const fullShare = outageMs >= 20_000 ? 0.8 : 0.5

async function main(): Promise<number> {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-stop-'))
  chmodSync(home, 0o755)
  const server = await startEmbedded(home, silentLog)
  let isUp = true
  try {
    const product = await startProduct({ DATABASE_URL: server.url, ENGINE_THREADS: '2' })
    try {
      return await rig(product, {
        async stop() {
          isUp = false
          await server.stop()
        },
        async start() {
          const again = await startEmbedded(home, silentLog)
          isUp = true
          if (again.url !== server.url) throw new Error('Postgres came back at another address')
        },
      })
    } finally {
      await product.stop()
    }
  } finally {
    if (isUp) await server.stop()
    rmSync(server.dataDir, { recursive: true, force: true })
    rmSync(home, { recursive: true, force: true })
  }
}

async function rig(product: Product, database: { stop(): Promise<void>; start(): Promise<void> }): Promise<number> {
  const tokens = await product.seed(6)
  const conversations = await makeConversations(product, tokens)
  const seen: Seen = { attempts: [], deliveries: [], joins: [] }
  const clients = tokens.map(token => new Recorder(product.wsUrl, token, seen))
  await Promise.all(clients.map(client => client.open()))
  const nodesBefore = await nodes(product)
  const pidBefore = product.node().engine

  let isOver = false
  const loops = clients.flatMap((client, i) =>
    conversations
      .filter(c => c.members.includes(i))
      .flatMap(c => [0, 1].map(lane => sendLoop(client, c.id, `${i}.${lane}`, () => isOver))),
  )
  await sleep(2000)
  const speedBefore = await speed(seen, baselineMs)
  console.log(`${speedBefore.toFixed(0)} acks/s; Postgres stops for ${outageMs / 1000} s`)
  await database.stop()
  const stoppedAt = performance.now()
  await sleep(outageMs)
  const startingAt = performance.now()
  await database.start()
  const upAt = performance.now()
  await sleep(backWithinMs)
  const speedAfter = await speed(seen, baselineMs)
  isOver = true
  const isResolved = await Promise.race([Promise.all(loops).then(() => true), sleep(20_000, false, { ref: false })])
  await sleep(1000)
  const nodesAfter = await nodes(product)
  for (const client of clients) client.stop()
  const firstAck = acks(seen).find(a => a.completedAt! > startingAt)
  const between = acks(seen).filter(a => a.completedAt! > stoppedAt && a.completedAt! < startingAt)
  const final = await readFinal(
    product,
    conversations.map(c => ({ id: c.id, token: tokens[c.members[0]!]! })),
  )
  const history: History = { ...seen, ...final }
  const one = (isRight: boolean, problem: string) => (isRight ? [] : [problem])
  const counted = audit({
    ...auditOf(history),
    'no ack while Postgres was away': one(between.length === 0, `${between.length} acks`),
    'every pending send was resolved': one(isResolved, 'some sends never got an answer'),
    'no node was buried, the same process goes on': one(
      nodesBefore === nodesAfter && pidBefore === product.node().engine,
      `before ${nodesBefore} (${pidBefore}), after ${nodesAfter} (${product.node().engine})`,
    ),
    'no socket was closed': one(seen.joins.length === 0, `${seen.joins.length} resumes`),
    [`full speed within ${backWithinMs / 1000} s`]: one(
      speedAfter >= speedBefore * fullShare,
      `${speedBefore.toFixed(0)} acks/s before, ${speedAfter.toFixed(0)} after`,
    ),
  })
  const refused = seen.attempts.filter(a => a.outcome.kind === 'refused').length
  const summary = [
    `Postgres away for ${outageMs / 1000} s under sends of 6 clients, ${new Date().toISOString().slice(0, 10)}: ${speedBefore.toFixed(0)} acks/s before,`,
    `${between.length} acks in between, the first ${firstAck ? Math.max(0, firstAck.completedAt! - upAt).toFixed(0) : '–'} ms after it was up, ${speedAfter.toFixed(0)} acks/s from ${backWithinMs / 1000} s on.`,
    `${refused} attempts were refused (each sent again and acked), no node buried, no socket closed, ${history.rows.length} rows audited${counted.failed === 0 ? '' : `; ${counted.failed} checks FAILED`}.`,
  ].join('\n')
  if (outageMs >= 20_000) writeSection('Postgres stopped', summary)
  console.log(`\n${summary}\n`)
  return sayCounts(counted)
}

const acks = (seen: Seen): Attempt[] => seen.attempts.filter(a => a.outcome.kind === 'ok')

/** Acks a second over the next while. */
async function speed(seen: Seen, ms: number): Promise<number> {
  const from = performance.now()
  await sleep(ms)
  return (acks(seen).filter(a => a.completedAt! >= from).length * 1000) / (performance.now() - from)
}

async function nodes(product: Product): Promise<string> {
  const rows = await query<{ incarnation: string; state: string }>(
    product,
    'select incarnation, state from engine_node order by started_at',
  )
  return rows.map(row => `${row.incarnation} ${row.state}`).join(', ')
}

process.exit((await main()) === 0 ? 0 : 1)
