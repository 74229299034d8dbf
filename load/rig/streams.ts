/**
 * `npm run rig -- streams [--runs n] [--parallel n] [--faults a,b] [--seed n] [--root folder]`: turns of the assistant on a
 * cluster, the model scripted, watched on both gateways by people who come and go, while processes end around them. Every turn
 * is judged by C4. A run of a thousand is written into load/RESULTS.md. Ends with `N passed, N failed`.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { checkStreams, type TurnRecord } from '#load/kit/checkers-streams.ts'
import { writeSection } from '#load/kit/results.ts'
import { sayCounts } from './crowd.ts'
import { type Fault, type FaultName, faults } from './plan.ts'
import { mulberry32 } from './random.ts'
import { recordTurns, type Strike, unasked } from './stream-audit.ts'
import { type Asked, Lane, post } from './stream-lanes.ts'
import { planTurn, planTurns } from './stream-plan.ts'
import { tables } from './stream-tables.ts'
import { questionOf, Upstream } from './upstream.ts'
import { World } from './world.ts'

export interface StreamsOptions {
  runs?: string | undefined
  parallel?: string | undefined
  faults?: string | undefined
  seed?: string | undefined
  root?: string | undefined
}

/** From this many turns on it counts as the whole run: with the long scripts and every fault. */
const wholeRuns = 1000
/** Share of the turns before the first fault: what a script does by itself shows there. */
const calmShare = 0.3
const abandonedTurns = 4
const limits = { cancelMs: 1000, doneMs: 8000 }
const leftOverMsMax = 15_000
const pollMs = 250
/** From the end of one fault to the next. */
const pauseMs = 4000

// biome-ignore format: a list by fault
const wholeFaults = [
  'f1-throw', 'f1-exit', 'f1-spin', 'f1-oom', 'f2', 'f2-lost', 'f3-1s', 'f3-7s', 'f3-15s', 'f4-stop', 'f4-backend', 'f4-restart',
  'f7-kill', 'f7-stop', 'f14', 'refused', 'all',
] as const
const shortFaults = ['f1-exit', 'f2', 'f7-kill', 'f4-stop', 'all'] as const
/** Faults that only this rig has: the model's server refuses connections; every process is lost at once. */
export const ownFaults = ['refused', 'all'] as const
export type StreamFault = FaultName | (typeof ownFaults)[number]

export async function runStreams(options: StreamsOptions): Promise<number> {
  const runs = Number(options.runs ?? wholeRuns)
  const parallel = Math.min(Number(options.parallel ?? 20), runs)
  const isWhole = runs >= wholeRuns && !options.faults
  const seed = Number(options.seed ?? randomInt(1, 2 ** 31))
  const random = mulberry32(seed)
  const given = options.faults?.split(',').filter(name => name !== '')
  const chosen = (given ?? (runs >= wholeRuns ? wholeFaults : shortFaults)) as StreamFault[]
  const unknown = chosen.filter(name => !(name in faults) && !(ownFaults as readonly string[]).includes(name))
  if (unknown.length > 0) throw new Error(`no such fault: ${unknown.join(', ')}`)
  console.log(`seed ${seed}, ${runs} turns, ${parallel} at a time, faults: ${chosen.join(' ')}`)
  const began = performance.now()
  const upstream = await Upstream.start()
  const world = await World.start({
    env: { OPENAI_BASE_URL: upstream.url, OPENAI_API_KEY: 'rig' },
    ...(options.root && { root: path.resolve(options.root) }),
  })
  const onSignal = () => void world.stop().finally(() => process.exit(1))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal)
  const ended = new Set<string>()
  const asked: Asked[] = []
  let areCounted = false
  try {
    const tokens = await world.seed(parallel * 3 + abandonedTurns)
    const lanes: Lane[] = []
    const isAtModel = (run: string) => upstream.inferences.some(i => i.run === run)
    for (let i = 0; i < parallel; i++)
      lanes.push(await Lane.make(world, tokens, i, asked, one => ended.has(one.questionId), isAtModel))
    await Promise.all(lanes.map(lane => lane.open()))
    if (chosen.length > 0 && !(await isSpread(world)))
      throw new Error('one engine owns nothing: its end would prove nothing')
    const watch = watchEnds(world, asked, ended, () => areCounted)
    const waiting = planTurns(runs, random, runs >= wholeRuns)
    let areStruck = false
    // Faults that are still to come find turns to hit, whatever the count.
    const more = () => waiting.shift() ?? (areStruck ? undefined : planTurn('plain', random))
    const playing = Promise.all(
      lanes.map(async lane => {
        for (let plan = more(); plan; plan = more()) await lane.play(plan)
      }),
    )
    const calm = () => waiting.length <= runs * (1 - calmShare)
    playing.catch(() => {})
    const isOver = () => waiting.length === 0
    const strikes = await strike({ world, upstream, tokens, chosen, random, asked, ended, calm, isOver })
    areStruck = true
    await playing
    // The last chat.done may still be made again.
    await sleep(limits.doneMs)
    areCounted = true
    await watch
    await Promise.all(lanes.map(lane => lane.close()))
    const views = lanes.flatMap(lane => lane.viewers.flatMap(v => v.views))
    strikes.push(...unasked(world.logs(), strikes))
    strikes.sort((a, b) => a.begin - b.begin)
    const turns = await recordTurns({ world, asked, views, inferences: upstream.inferences, strikes })
    const found = {
      'C4 every viewer has the final bytes, one ending each, one inference once a byte was shown': checkStreams(
        turns,
        limits,
      ),
      [`turns left over by a dead node ended within ${leftOverMsMax / 1000} s`]: leftOver(turns, strikes),
      'every turn could be asked for and ended': [
        ...lanes.flatMap(lane => lane.problems),
        ...(asked.length < runs ? [`${asked.length} turns of ${runs}`] : []),
        ...(upstream.strangers > 0 ? [`${upstream.strangers} requests without a question`] : []),
      ],
      'every fault hit, and showed what it must': strikes.flatMap(s => [
        ...(s.fired === 0 ? [`${s.code} did not hit`] : []),
        ...s.problems.map(problem => `${s.code}: ${problem}`),
      ]),
      'enough happened': tooLittle(turns, strikes, chosen.length),
    }
    const counts = { passed: 0, failed: 0 }
    for (const [what, problems] of Object.entries(found)) {
      console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${what}`)
      for (const problem of problems.slice(0, 30)) console.log(`     ${problem}`)
      if (problems.length > 30) console.log(`     and ${problems.length - 30} more`)
      counts[problems.length === 0 ? 'passed' : 'failed']++
    }
    const text = [
      `Seed ${seed}, ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} cores, Node ${process.version}: ${asked.length} turns, ${parallel} at a time,`,
      `in ${Math.round((performance.now() - began) / 1000)} s on 2 gateways and 2 engines. ${views.length} stays of viewers, ${upstream.inferences.length} requests upstream. Checks: ${counts.passed} passed, ${counts.failed} failed.`,
      '',
      tables(turns, asked, strikes),
    ].join('\n')
    console.log(`\n${text}\n`)
    if (isWhole) writeSection('Streams', text)
    return sayCounts(counts)
  } finally {
    areCounted = true
    await world.stop()
    upstream.stop()
  }
}

/** Both engines own shards; the second gets its own once the membership stood still. */
async function isSpread(world: World): Promise<boolean> {
  for (const until = performance.now() + 40_000; performance.now() < until; await sleep(200)) {
    const rows = await world.query<{ n: number }>('select count(*)::int as n from shard group by owner')
    if (rows.length === world.engines.length && rows.every(r => r.n > 60)) return true
  }
  return false
}

/** Learns from the database which turns have ended, also while nobody is told. */
async function watchEnds(world: World, asked: readonly Asked[], ended: Set<string>, isOver: () => boolean) {
  while (!isOver()) {
    const open = asked.flatMap(a => (ended.has(a.questionId) ? [] : a.questionId))
    const text = "select question_id as id from ai_run where status = 'ended' and question_id = any($1)"
    // The database may be away just now; that is one of the faults.
    const rows = open.length === 0 ? [] : await world.query<{ id: string }>(text, [open]).catch(() => [])
    for (const { id } of rows) ended.add(id)
    await sleep(pollMs)
  }
}

/** One fault after another until no turn waits, each of the list at least once. */
async function strike(options: {
  world: World
  upstream: Upstream
  tokens: readonly string[]
  chosen: readonly StreamFault[]
  random: () => number
  asked: Asked[]
  ended: ReadonlySet<string>
  calm: () => boolean
  isOver: () => boolean
}): Promise<Strike[]> {
  const { chosen, ended, calm, isOver } = options
  const strikes: Strike[] = []
  while (!calm()) await sleep(50)
  for (let n = 0; chosen.length > 0 && (n < chosen.length || !isOver()); n++) {
    const name = chosen[n % chosen.length]!
    const begin = performance.now()
    const entry: Strike = { code: '', begin, end: Number.POSITIVE_INFINITY, fired: 0, problems: [] }
    strikes.push(entry)
    try {
      await play(options, name, entry)
    } catch (error) {
      // One that does not heal is a finding; the turns are still to be judged.
      entry.problems.push(String(error).slice(0, 300))
    }
    entry.end = performance.now()
    const seconds = ((entry.end - begin) / 1000).toFixed(1)
    console.log(`${entry.code}: ${seconds} s, hit ${entry.fired} times; ${ended.size} turns ended so far`)
    await sleep(pauseMs)
  }
  return strikes
}

async function play(options: Parameters<typeof strike>[0], name: StreamFault, entry: Strike): Promise<void> {
  const { world, upstream, random } = options
  if (name === 'all') return killAll(options, entry)
  if (name === 'refused') {
    entry.code = 'F9 refused'
    await upstream.away(4000)
    entry.fired = 1
    return
  }
  const fault: Fault = faults[name]
  entry.code = fault.code
  const played = await fault.play(world, random)
  entry.begin = played.begin ?? entry.begin
  entry.fired = played.fired
  // How long a fault may take to be noticed is the fault rig's business; here it only has to have hit.
  if (played.fired === 0) entry.problems = played.problems ?? []
}

/** Answers begin in rooms that nobody has open and nobody opens again; then every process is lost at once. */
async function killAll(
  { world, upstream, tokens, asked, ended }: Parameters<typeof strike>[0],
  entry: Strike,
): Promise<void> {
  entry.code = 'everything killed'
  const mine: Asked[] = []
  for (const [i, token] of tokens.slice(-abandonedTurns).entries()) {
    const run = randomBytes(8).toString('hex')
    const plan = { script: 'plain', tokens: 400, gapMs: 50, reloadAt: [], rejoinAt: [] } as const
    const askedAt = performance.now()
    const body = { content: `@assistant ${questionOf(run, plan.script, plan.tokens, plan.gapMs)}` }
    const url = world.restUrl()
    const { id } = await post<{ id: string }>(url, token, '/conversations', { type: 'ai', title: `left ${i}` })
    const question = await post<{ id: string }>(url, token, `/conversations/${id}/messages`, body)
    mine.push({
      run,
      plan: { ...plan, reloadAt: [], rejoinAt: [] },
      conversation: id,
      questionId: question.id,
      askedAt,
    })
  }
  asked.push(...mine)
  const isBegun = () => mine.every(a => upstream.inferences.some(i => i.run === a.run && i.sentBytes > 100))
  for (const until = performance.now() + 10_000; !isBegun() && performance.now() < until; ) await sleep(20)
  await sleep(200)
  const nodes = [...world.engines, ...world.gateways]
  const begin = performance.now()
  entry.begin = begin
  for (const node of nodes) node.crash()
  await sleep(200)
  for (const node of nodes) node.start()
  await Promise.all(nodes.map(node => node.ready(40_000)))
  const isDone = () => mine.every(a => ended.has(a.questionId))
  for (const until = begin + 60_000; !isDone() && performance.now() < until; ) await sleep(50)
  entry.fired = isBegun() ? 1 : 0
}

/** Node and thread faults, after which whoever owns the conversation next has to end what was left. */
const isDeath = (code: string) => /^(F1|F2|F3 15|everything)/.test(code)

function leftOver(turns: readonly TurnRecord[], strikes: readonly Strike[]): string[] {
  return interrupted(turns, strikes).flatMap(({ turn, strike: s, ms }) =>
    ms > leftOverMsMax && isDeath(s.code) ? [`${turn.run}: ended ${Math.round(ms)} ms after ${s.code}`] : [],
  )
}

/** Each interrupted turn with the last fault before its end. */
export function interrupted(turns: readonly TurnRecord[], strikes: readonly Strike[]) {
  return turns.flatMap(turn => {
    const { endedAt } = turn
    if (turn.row?.finish !== 'interrupted' || endedAt === undefined) return []
    const last = strikes.findLast(s => !/^F[79]/.test(s.code) && s.begin <= endedAt)
    return last ? [{ turn, strike: last, ms: endedAt - last.begin }] : []
  })
}

/** A run in which the faults hit nothing, or the breaker answered for the model, proves nothing. */
function tooLittle(turns: readonly TurnRecord[], strikes: readonly Strike[], wanted: number): string[] {
  const problems: string[] = []
  const kinds = new Set(strikes.flatMap(s => (s.code.startsWith('F0') ? [] : s.code))).size
  if (kinds < wanted) problems.push(`${kinds} faults of ${wanted} were played`)
  const away = turns.filter(t => t.mayFail && t.row?.finish === 'failed' && t.expected.finish !== 'failed').length
  if (away > turns.length / 5) problems.push(`${away} turns met an open breaker or no provider`)
  if (wanted > 0 && !turns.some(t => t.row?.finish === 'interrupted' && (t.row?.bytes ?? 0) > 0))
    problems.push('no turn was interrupted in mid-answer')
  if (!turns.some(t => t.views.length > 2)) problems.push('nobody came back in mid-answer')
  return problems
}
