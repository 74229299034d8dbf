/**
 * `node load/bench/soak.ts [minutes] [--sockets n] [--smoke]`: 10,000 people at one gateway for half an hour, who write, read, type, ask
 * the assistant and lose connections (G18). What each has seen is checked against the log, and memory is read after a collection
 * once a minute. Writes its section of load/RESULTS.md. Fails when anything was lost, doubled or out of order.
 */
import { fork } from 'node:child_process'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Client } from 'pg'
import { machineLine } from '#load/kit/machine.ts'
import { rssBytes } from '#load/kit/proc.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { ask } from './ask.ts'
import { slopeOf } from './slope.ts'
import type { FromSoak, Look, SoakRates, ToSoak } from './soak-generator.ts'
import type { Place } from './soak-seat.ts'
import { type ParleySubject, startGround, startParley } from './subjects.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sockets: { type: 'string' }, smoke: { type: 'boolean' } },
})
const isSmoke = values.smoke === true
const minutes = Number(positionals[0] ?? (isSmoke ? 0.15 : 30))
const sockets = Number(values.sockets ?? (isSmoke ? 100 : 10_000))
const sampleMs = isSmoke ? 3000 : minutes < 10 ? 20_000 : 60_000
const groupSize = 10
const makersAtOnce = 8
const share = sockets / 10_000
const rates: SoakRates = {
  small: Math.max(20, 150 * share),
  large: 0.5,
  typing: Math.max(5, 30 * share),
  turns: 0.5,
  cuts: Math.max(2, 10 * share),
  readShare: 0.2,
}
/** Growth over the second half that is still called none. */
const growthShareMax = 0.03
const hook = path.resolve(import.meta.dirname, '../rig/faults.ts')

interface Sample {
  minute: number
  heapMb: { gateway: number; engine: number }
  rssMb: { gateway: number; engine: number }
}

async function makePlaces(subject: ParleySubject): Promise<Place[]> {
  const users = await subject.users(sockets)
  const places: Place[] = users.map(({ token }) => ({ token, conversations: [] }))
  const groups: number[][] = []
  const dmFrom = Math.floor(sockets / 2)
  const roomFrom = Math.floor(sockets * 0.9)
  for (let i = 0; i < dmFrom; i += groupSize)
    groups.push(Array.from({ length: Math.min(groupSize, dmFrom - i) }, (_, j) => i + j))
  for (let i = dmFrom; i + 1 < roomFrom; i += 2) groups.push([i, i + 1])
  groups.push(Array.from({ length: sockets - roomFrom }, (_, j) => roomFrom + j))
  // Some have an assistant of their own, beside their group.
  for (let i = 0; i < Math.min(20, dmFrom); i++) groups.push([i])
  const make = async (members: number[]) => {
    const owner = users[members[0]!]!
    const usernames = members.slice(1).map(i => users[i]!.username)
    const body =
      members.length === 1
        ? { type: 'ai', title: 'mine' }
        : members.length === 2
          ? { type: 'dm', usernames }
          : { type: 'group', title: 'soak', usernames }
    const { id } = await subject.product.request<{ id: string }>(owner.token, 'POST', '/conversations', body)
    for (const i of members) places[i]!.conversations.push(id)
  }
  // One's own assistant comes second in everybody's list.
  const own = groups.filter(members => members.length === 1)
  for (const list of [groups.filter(members => members.length > 1), own]) {
    const waiting = [...list]
    const maker = async () => {
      for (let members = waiting.shift(); members; members = waiting.shift()) await make(members)
    }
    await Promise.all(Array.from({ length: makersAtOnce }, maker))
  }
  return places.filter(place => place.conversations.length > 0)
}

async function heapMb(adminUrl: string): Promise<number> {
  const answer = await fetch(`${adminUrl}/heap`, { signal: AbortSignal.timeout(20_000) })
  const { main, threads } = (await answer.json()) as { main: number; threads: number[] }
  return threads.reduce((n, bytes) => n + bytes, main) / 2 ** 20
}

async function sample(subject: ParleySubject, minute: number): Promise<Sample> {
  const { gateway, engine, metricsUrl, engineMetricsUrl } = subject.product.node()
  const mb = (pid: number | undefined) => rssBytes(pid) / 2 ** 20
  return {
    minute,
    heapMb: { gateway: await heapMb(metricsUrl!), engine: await heapMb(engineMetricsUrl!) },
    rssMb: { gateway: mb(gateway), engine: mb(engine) },
  }
}

const ground = await startGround()
let subject: ParleySubject | undefined
const generator = fork(path.join(import.meta.dirname, 'soak-generator.ts'), [], { stdio: 'inherit' })
const tell = <K extends FromSoak['kind']>(order: ToSoak, kind: K) => ask<FromSoak, K>(generator, order, kind)
try {
  subject = await startParley(ground, { NODE_OPTIONS: `--import ${hook}` })
  const places = await makePlaces(subject)
  const opened = await tell({ kind: 'open', url: subject.url, places }, 'open')
  console.log(`${opened.sockets} sockets at one gateway`)
  await tell({ kind: 'begin', rates }, 'begin')
  const samples: Sample[] = []
  const looks: Look[] = []
  const from = performance.now()
  while (performance.now() - from < minutes * 60_000) {
    await sleep(sampleMs)
    const minute = (performance.now() - from) / 60_000
    const [at, look] = [await sample(subject, minute), await tell({ kind: 'look' }, 'look')]
    samples.push(at)
    looks.push(look)
    console.log(
      `  ${minute.toFixed(1)} min: ${look.sockets} sockets, ${look.tally.acked} acked, ack p99 ${look.ackMs.p99.toFixed(0)} ms, heap gateway ${at.heapMb.gateway.toFixed(0)}, engine ${at.heapMb.engine.toFixed(0)} MB`,
    )
  }
  const { owed } = await tell({ kind: 'stop' }, 'stop')
  const sql = new Client({ connectionString: ground.databaseUrl })
  await sql.connect()
  const { rows } = await sql.query<{ id: string; head: string }>(
    'select conversation_id as id, max(seq) as head from event group by conversation_id',
  )
  const stored = await sql.query<{ n: number }>(
    "select count(*)::int as n from event where kind = 'message.new' and body->>'role' = 'user'",
  )
  await sql.end()
  const heads = Object.fromEntries(rows.map(r => [r.id, Number(r.head)]))
  const audited = await tell({ kind: 'audit', heads }, 'audit')
  const last = await tell({ kind: 'look' }, 'look')
  const t = last.tally
  const problems: string[] = []
  if (audited.behind > 0)
    problems.push(`${audited.behind} of ${audited.checked} views are not whole: ${audited.example}`)
  if (owed > 0) problems.push(`${owed} sends or turns were never answered`)
  if (stored.rows[0]!.n !== t.acked) problems.push(`${t.acked} sends were acked, ${stored.rows[0]!.n} are stored`)
  if (t.doubled > 0) problems.push(`${t.doubled} events came twice`)
  if (t.outOfOrder > 0) problems.push(`${t.outOfOrder} events came out of order`)
  if (t.cuts > 0) problems.push(`${t.cuts} sockets were closed by the gateway`)
  if (t.resumes === 0 || t.acked === 0) problems.push('nothing happened')

  const half = samples.filter(s => s.minute >= minutes / 2)
  const slope = (of: (s: Sample) => number) => slopeOf(half.map(s => ({ x: s.minute, y: of(s) })))
  const level = (of: (s: Sample) => number) => half.reduce((n, s) => n + of(s), 0) / Math.max(1, half.length)
  const grew = (of: (s: Sample) => number) => (slope(of) * minutes) / 2 / level(of)
  const heaps = { gateway: (s: Sample) => s.heapMb.gateway, engine: (s: Sample) => s.heapMb.engine }
  const perHour = (of: (s: Sample) => number) => (slope(of) * 60).toFixed(1)
  const isFlat = grew(heaps.gateway) <= growthShareMax && grew(heaps.engine) <= growthShareMax
  const errors = Object.entries(t.errors).map(([code, n]) => `${code} ${n}`)
  const step = Math.max(1, Math.floor(samples.length / 8))
  const text = [
    `Machine: ${machineLine()}.`,
    '',
    `${opened.sockets} sockets at one gateway for ${minutes} minutes, groups of ten, pairs, one room of ${Math.ceil(sockets / 10)}: ${t.acked} sends acked (${t.again} of them sent again), ${t.deliveries} events delivered,`,
    `${t.turns} turns of the assistant, ${t.receipts} receipts, ${t.resumes} resumes after lost connections. Refused: ${errors.join(', ') || 'nothing'}.`,
    problems.length === 0
      ? `Nothing lost, doubled or out of order: ${audited.checked} views of a conversation end where its log ends, each ack is stored once.`
      : problems.join('. '),
    `Heap after a collection, slope over the second half: gateway ${perHour(heaps.gateway)} MB an hour, engine ${perHour(heaps.engine)}.`,
    '',
    '| minute | heap MB gateway | engine | RSS MB gateway | engine | ack p50 ms | p99 |',
    '| ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ...samples.flatMap((s, i) =>
      i % step !== 0 && i !== samples.length - 1
        ? []
        : `| ${s.minute.toFixed(1)} | ${s.heapMb.gateway.toFixed(1)} | ${s.heapMb.engine.toFixed(1)} | ${s.rssMb.gateway.toFixed(0)} | ${s.rssMb.engine.toFixed(0)} | ${looks[i]!.ackMs.p50.toFixed(1)} | ${looks[i]!.ackMs.p99.toFixed(0)} |`,
    ),
  ].join('\n')
  console.log(`\n${text}\n`)
  for (const problem of problems) console.log(`FAIL ${problem}`)
  if (!isSmoke) {
    writeSection('Soak', text)
    recordGoals(
      [
        {
          id: 'G18',
          what: `${sockets} sockets on one gateway, ${minutes} min, mixed load`,
          floor: '0 lost, heap slope 0',
          aim: '',
          measured: `${audited.behind} lost; ${perHour(heaps.gateway)} and ${perHour(heaps.engine)} MB an hour (gateway, engine)`,
          isMet: minutes >= 30 && sockets >= 10_000 ? problems.length === 0 && isFlat : undefined,
        },
      ],
      'soak',
    )
  }
  console.log(problems.length === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = problems.length === 0 ? 0 : 1
} finally {
  generator.kill('SIGKILL')
  await subject?.stop()
  await ground.stop()
}
process.exit()
