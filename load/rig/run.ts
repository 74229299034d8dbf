/**
 * `node load/rig/run.ts smoke|gate|takeover|short [--seed n] [--faults a,b] [--slot seconds] [--root folder] [--keep file]`: a cluster under
 * traffic, faults one after another, then quiet, then every checker over the whole history. Ends with `N passed, N failed`.
 * smoke, gate and takeover write their result into load/RESULTS.md. A seed repeats choices, not the machine's timing.
 * `streams` is the assistant's own rig: streams.ts.
 */
import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { checkResources, type Resources } from '#load/kit/checkers-resources.ts'
import { writeSection } from '#load/kit/results.ts'
import { shardCount } from '#protos/limits.ts'
import { type Audit, auditRun, countResources } from './audit.ts'
import { checkBeside } from './beside.ts'
import { sayCounts } from './crowd.ts'
import { type Folded, type HistoryWriter, openHistory, readHistory } from './history.ts'
import { type Fault, type FaultName, faults } from './plan.ts'
import { type Profile, type ProfileName, profiles } from './profiles.ts'
import { mulberry32 } from './random.ts'
import { connectionsBeyond, countExact, countMemory } from './resources.ts'
import { runStreams } from './streams.ts'
import { startTraffic, type Traffic } from './traffic.ts'
import { World } from './world.ts'

const warmMs = 4000
const quietMsMax = 30_000
/** Positions are flushed every 10 s. */
const flushMs = 12_500
const resumedMsMax = 30_000
/** After a fault everything is back within this; a dead engine's shards move back only after 10 s of stable membership. */
const backMsMax = 25_000
/** DATABASE_POOL_MAX and what listens or recovers beside it: of an engine for each thread. */
const connectionsEachMax = 20

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    faults: { type: 'string' },
    slot: { type: 'string' },
    root: { type: 'string' },
    keep: { type: 'string' },
    runs: { type: 'string' },
    parallel: { type: 'string' },
  },
})

async function main(): Promise<number> {
  if (positionals[0] === 'streams') return runStreams(values)
  const name = positionals[0] as ProfileName
  if (!(name in profiles)) throw new Error(`one of: ${Object.keys(profiles).join(', ')}, streams`)
  const given: Profile = profiles[name]
  const profile = { ...given, ...(values.slot && { slotMs: Number(values.slot) * 1000 }) }
  const chosen = values.faults ? (values.faults.split(',') as FaultName[]) : profile.faults
  const unknown = chosen.filter(f => !(f in faults))
  if (unknown.length > 0)
    throw new Error(`no such fault: ${unknown.join(', ')}; known: ${Object.keys(faults).join(', ')}`)
  const seed = Number(values.seed ?? randomInt(1, 2 ** 31))
  const random = mulberry32(seed)
  console.log(`seed ${seed}, ${name}: ${chosen.join(' ')}${profile.repeat > 1 ? ` × ${profile.repeat}` : ''}`)
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-history-'))
  const file = values.keep ?? path.join(folder, 'history.jsonl')
  const history = openHistory(file)
  const needsLinks = chosen.some(f => (faults[f] as Fault).needsLinks)
  const world = await World.start({ links: needsLinks, ...(values.root && { root: path.resolve(values.root) }) })
  // Interrupted, it still takes its processes along.
  const onSignal = () => void world.stop().finally(() => process.exit(1))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  try {
    const traffic = await startTraffic({ world, size: profile.size, history, random })
    console.log(`${traffic.devices.length} devices in ${traffic.conversations.length} conversations`)
    const played = await play({ world, traffic, history, random, profile, chosen })
    await history.close()
    const folded = await readHistory(file)
    const audit = await auditRun({
      world,
      traffic,
      folded,
      factor: profile.factor,
      resources: played.resources,
      reconnectMs: chosen.flatMap(f => {
        const { code, reconnectMs } = faults[f] as Fault
        return reconnectMs === undefined ? [] : [{ code, ms: reconnectMs }]
      }),
    })
    const isWhole = values.faults === undefined
    const beside = checkBeside(
      folded.attempts,
      folded.faults,
      chosen.map(f => faults[f] as Fault),
    )
    const floors = isWhole ? belowFloors(profile, folded) : []
    const more = { ...played.found, 'P10 the others are not held up': beside, 'enough happened': floors }
    return report({ name, seed, isWhole, profile, folded, audit, more })
  } finally {
    await world.stop()
    if (!values.keep) rmSync(folder, { recursive: true, force: true })
  }
}

async function play(options: {
  world: World
  traffic: Traffic
  history: HistoryWriter
  random: () => number
  profile: Profile
  chosen: readonly FaultName[]
}): Promise<{ resources: { before: Resources; after: Resources }; found: Record<string, string[]> }> {
  const { world, traffic, history, random, profile, chosen } = options
  const seen: string[] = []
  await sleep(warmMs)
  // Of what moves under load only the quiet value counts.
  const before = {
    ...(await countResources(world, 0)),
    'sockets beyond the devices': 0,
    'sends pending': 0,
    'letters in mailboxes': 0,
    'positions taken twice': 0,
    'shards owned': shardCount,
  }
  const left: string[] = []
  await traffic.pause(quietMsMax)
  const exact = profile.countsEach ? await countExact(world, readyOf(traffic)) : {}
  const memory = profile.countsEach ? await countMemory(world) : {}
  traffic.resume()
  for (let round = 0; round < profile.repeat; round++) {
    for (const name of chosen) {
      const fault: Fault = faults[name]
      const began = performance.now()
      const result = await fault.play(world, random)
      const end = performance.now()
      const { code, limitMs, isFromHeal = false } = fault
      history.write({
        kind: 'fault',
        code,
        begin: result.begin ?? began,
        end,
        fired: result.fired,
        limitMs,
        isFromHeal,
      })
      seen.push(...(result.problems ?? []).map(problem => `${code}: ${problem}`))
      console.log(
        `${code}: ${fault.title}; ${((end - began) / 1000).toFixed(1)} s, hit ${result.fired} times${result.problems?.length ? ` – ${result.problems.join('; ')}` : ''}`,
      )
      await sleep(Math.max(4000, profile.slotMs - (performance.now() - began)))
      if (profile.countsEach) left.push(...(await countAgain(code, exact, world, traffic)))
    }
  }
  const isQuiet = await traffic.quiet(quietMsMax)
  // One more reconnect for everybody: a position that was lost with a node comes back with it.
  await Promise.all(traffic.devices.map(device => device.leave('cut', 0)))
  for (const until = performance.now() + resumedMsMax; performance.now() < until; await sleep(100))
    if (traffic.devices.every(d => d.isReady || d.isLost)) break
  for (const device of traffic.devices) device.announceAgain()
  await sleep(flushMs)
  const after = await countResources(world, traffic.devices.filter(d => d.isReady).length)
  if (profile.countsEach) left.push(...checkResources('at the end', memory, await countMemory(world)))
  traffic.stop()
  await sleep(500)
  return {
    resources: { before, after },
    found: {
      'C12 everything exactly back after each fault': left,
      'what each fault must show': seen,
      'everything answered and everybody connected within 30 s': isQuiet ? [] : ['some sends or devices were not'],
    },
  }
}

const readyOf = (traffic: Traffic) => traffic.devices.filter(d => d.isReady).length

/** Everybody stands still until the counts are those from before, or it takes too long. */
async function countAgain(code: string, before: Resources, world: World, traffic: Traffic): Promise<string[]> {
  const isQuiet = await traffic.pause(quietMsMax)
  let problems: string[] = []
  for (const until = performance.now() + backMsMax; performance.now() < until; await sleep(500)) {
    problems = checkResources(code, before, await countExact(world, readyOf(traffic)))
    problems.push(...connectionsBeyond(world, connectionsEachMax).map(what => `${code}: ${what}`))
    if (problems.length === 0) break
  }
  traffic.resume()
  for (const problem of problems) console.log(`     ${problem}`)
  return isQuiet ? problems : [...problems, `${code}: not everybody was answered and connected again`]
}

function belowFloors({ floors }: Profile, { attempts, counts }: Folded): string[] {
  const acks = attempts.filter(a => a.outcome.kind === 'ok').length
  const problems: string[] = []
  if (acks < floors.acks) problems.push(`${acks} acks, ${floors.acks} are needed`)
  if (counts.unknown < floors.unknown) problems.push(`${counts.unknown} unknown outcomes, ${floors.unknown} are needed`)
  if (counts.resumes < floors.resumes) problems.push(`${counts.resumes} resumes, ${floors.resumes} are needed`)
  return problems
}

function report(options: {
  name: string
  seed: number
  isWhole: boolean
  profile: Profile
  folded: Folded
  audit: Audit
  more: Record<string, string[]>
}): number {
  const { name, seed, isWhole, profile, folded, audit, more } = options
  const counts = { passed: 0, failed: 0 }
  for (const [what, found] of Object.entries({ ...audit.found, ...more })) {
    console.log(`${found.length === 0 ? 'ok  ' : 'FAIL'} ${what}`)
    for (const problem of found) console.log(`     ${problem}`)
    counts[found.length === 0 ? 'passed' : 'failed']++
  }
  const acks = folded.attempts.filter(a => a.outcome.kind === 'ok').length
  const { unknown, refused, resumes, resyncs, duplicates } = folded.counts
  const text = [
    `Profile ${name}, seed ${seed}, ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} cores, Node ${process.version}:`,
    `${acks} acks (${duplicates} of them of a send repeated), ${unknown} attempts without an answer in time, ${refused} refused, ${resumes} joins answered, ${resyncs} resyncs,`,
    `${audit.rows} rows, ${folded.deliveries.length} deliveries. Checks: ${counts.passed} passed, ${counts.failed} failed.`,
    '',
    '| fault | hit | longest pause of a conversation, ms | median conversation | target | limit |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    ...tableRows(folded, audit, profile),
  ].join('\n')
  console.log(`\n${text}\n`)
  if (isWhole && name !== 'short' && !values.root) writeSection(`Fault rig: ${name}`, text)
  return sayCounts(counts)
}

/** One line a fault; repeated ones together: the worst of all, the median of the medians. */
function tableRows({ faults: spans }: Folded, { recoveries }: Audit, { factor }: Profile): string[] {
  const codes = [...new Set(spans.map(s => s.code))]
  return codes.map(code => {
    const mine = recoveries.filter(r => r.code === code)
    const hits = spans.filter(s => s.code === code).reduce((n, s) => n + s.fired, 0)
    const medians = mine.map(r => r.medianMs).sort((a, b) => a - b)
    const worst = Math.max(...mine.map(r => r.worstMs))
    const limit = spans.find(s => s.code === code)!.limitMs * factor
    const target = Object.values<Fault>(faults).find(f => f.code === code)?.targetMs ?? 0
    const median = medians[Math.floor(medians.length / 2)] ?? 0
    return `| ${code} | ${hits} | ${worst.toFixed(0)} | ${median.toFixed(0)} | ${target} | ${limit} |`
  })
}

process.exit((await main()) === 0 ? 0 : 1)
