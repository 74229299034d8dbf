/**
 * G13: 20 streams of 50 tokens/s, each with 50 watchers: once with all of them reading, once with one in each room who does not,
 * and beside it the same streams relayed token by token. Delays are from the model's send to the watcher's socket.
 */
import { type ChildProcess, fork } from 'node:child_process'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuMs } from '#load/kit/proc.ts'
import { questionOf } from '#load/rig/upstream.ts'
import { at, begun, cpuOf, delays, ms, newRun, type Outcome, openStage, type Stage, Watchers } from './g13-stage.ts'
import type { Seat, Sight } from './watch-generator.ts'

const gapMs = 20
/** Questions are not asked all at once. */
const startEveryMs = 37
/** Of the turns that come before those that are measured. */
const warmTokens = 150
/** After what came before, so that its garbage is no part of what is measured. */
const calmMs = 3000

interface Size {
  rooms: number
  watchers: number
  tokens: number
}

interface Pass {
  sights: Sight[]
  runOf: Map<string, string>
  /** Wall ms of the commit of the first bytes, by answer. */
  committed: Map<string, number>
  cpu: { gateway: number; engine: number; postgres: number }
}

export async function relay(isSmoke: boolean): Promise<Outcome> {
  const size: Size = isSmoke ? { rooms: 4, watchers: 5, tokens: 100 } : { rooms: 20, watchers: 50, tokens: 750 }
  const stage = await openStage(size.rooms * size.watchers)
  const watchers = new Watchers()
  try {
    const seats = await makeRooms(stage, size)
    await watchers.open(stage.product.wsUrl, seats, false)
    await pass(stage, watchers, seats, { ...size, tokens: Math.min(size.tokens, warmTokens) }, false)
    const calm = await pass(stage, watchers, seats, size, false)
    const slow = await pass(stage, watchers, seats, size, true)
    watchers.end()
    const reference = await tokenByToken(stage, size)
    return report(stage, size, calm, slow, reference)
  } finally {
    watchers.end()
    await stage.stop()
  }
}

async function makeRooms({ product, tokens }: Stage, { rooms, watchers }: Size): Promise<Seat[]> {
  const seats: Seat[] = []
  for (let r = 0; r < rooms; r++) {
    const first = r * watchers
    const usernames = Array.from({ length: watchers - 1 }, (_, i) => `seed_${first + i + 2}`)
    const body = { type: 'group', title: `stream ${r}`, usernames }
    const { id } = await product.request<{ id: string }>(tokens[first]!, 'POST', '/conversations', body)
    for (let i = 0; i < watchers; i++)
      seats.push({ token: tokens[first + i]!, conversation: id, isSlow: i === watchers - 1 })
  }
  return seats
}

async function pass(stage: Stage, watchers: Watchers, seats: Seat[], size: Size, isSlow: boolean): Promise<Pass> {
  await sleep(calmMs)
  const before = cpuOf(stage)
  const runs = new Map<string, string>()
  for (let r = 0; r < size.rooms; r++) {
    const { token, conversation } = seats[r * size.watchers]!
    const run = newRun()
    const content = `@assistant ${questionOf(run, 'plain', size.tokens, gapMs)}`
    const where = `/conversations/${conversation}/messages`
    const { id } = await stage.product.request<{ id: string }>(token, 'POST', where, { content })
    runs.set(id, run)
    await sleep(startEveryMs)
  }
  if (!(await begun(stage.upstream, [...runs.values()]))) throw new Error('some turns did not begin')
  if (isSlow) watchers.tell({ kind: 'pause' })
  await sleep((size.tokens * gapMs) / 2)
  // While they run: what a turn stored piece by piece is cleared away some time after its end.
  const committed = await stage.sql<{ answer: string; ms: number }>(
    `select a.answer_id as answer, (extract(epoch from pg_xact_commit_timestamp(g.xmin)) * 1000)::float8 as ms
       from ai_segment g join ai_run a on a.id = g.run_id where a.question_id = any($1) and g."offset" = 0`,
    [[...runs.keys()]],
  )
  const rows = await ended(stage, [...runs.keys()], size.tokens * gapMs + 30_000)
  const after = cpuOf(stage)
  if (isSlow) watchers.tell({ kind: 'resume' })
  await sleep(2500)
  const runOf = new Map(rows.map(row => [row.answer, runs.get(row.question)!]))
  const sights = (await watchers.collect()).filter(s => runOf.has(s.answerId))
  return {
    sights,
    runOf,
    committed: new Map(committed.map(c => [c.answer, c.ms])),
    cpu: {
      gateway: after.gateway - before.gateway,
      engine: after.engine - before.engine,
      postgres: after.postgres - before.postgres,
    },
  }
}

async function ended(stage: Stage, questions: string[], msMax: number) {
  const text =
    "select question_id as question, answer_id as answer from ai_run where question_id = any($1) and status = 'ended'"
  for (const until = performance.now() + msMax; performance.now() < until; await sleep(200)) {
    const rows = await stage.sql<{ question: string; answer: string }>(text, [questions])
    if (rows.length === questions.length) return rows
  }
  throw new Error('some turns did not end')
}

/** The same tokens to as many sockets, each sent as it comes and stored nowhere. */
async function tokenByToken(
  stage: Stage,
  size: Size,
): Promise<{ cpu: number; sights: Sight[]; runOf: Map<string, string> }> {
  const child: ChildProcess = fork(path.join(import.meta.dirname, 'token-reference.ts'), [], {
    stdio: 'inherit',
    env: { ...process.env, OPENAI_BASE_URL: stage.upstream.url },
  })
  const watchers = new Watchers()
  try {
    const { url } = await new Promise<{ url: string }>((resolve, reject) => {
      child.once('message', message => resolve(message as { url: string }))
      child.once('exit', code => reject(new Error(`the reference ended with ${code}`)))
    })
    const rooms = Array.from({ length: size.rooms }, (_, r) => `room-${r}`)
    const seats = rooms.flatMap(conversation =>
      Array.from({ length: size.watchers }, () => ({ token: '', conversation })),
    )
    await watchers.open(url, seats, true)
    const wave = async (tokens: number) => {
      const runs: string[] = []
      for (const room of rooms) {
        const run = newRun()
        runs.push(run)
        child.send({ room, run, question: questionOf(run, 'plain', tokens, gapMs) })
        await sleep(startEveryMs)
      }
      const isOver = () =>
        runs.every(run => stage.upstream.inferences.some(i => i.run === run && i.closedAt !== undefined))
      for (const until = performance.now() + tokens * gapMs + 30_000; !isOver() && performance.now() < until; )
        await sleep(100)
      await sleep(500)
      return runs
    }
    await wave(Math.min(size.tokens, warmTokens))
    await sleep(calmMs)
    const before = cpuMs(child.pid)
    const runs = await wave(size.tokens)
    const cpu = cpuMs(child.pid) - before
    const runOf = new Map(runs.map(run => [run, run]))
    const sights = (await watchers.collect()).filter(s => runOf.has(s.answerId))
    return { cpu, sights, runOf }
  } finally {
    watchers.end()
    child.kill('SIGKILL')
  }
}

function report(
  { upstream }: Stage,
  size: Size,
  calm: Pass,
  slow: Pass,
  reference: Awaited<ReturnType<typeof tokenByToken>>,
): Outcome {
  const inferenceOf = new Map(upstream.inferences.map(i => [i.run, i]))
  const sentOf = (runOf: Map<string, string>) => (s: Sight) =>
    inferenceOf.get(runOf.get(s.answerId) ?? '')?.sentAt ?? []
  const reading = (p: Pass) => p.sights.filter(s => !s.isSlow)
  const afterCommit = calm.sights.flatMap(s => {
    const committed = calm.committed.get(s.answerId)
    return committed === undefined || s.at.length === 0 ? [] : s.at[1]! - committed
  })
  const row = (name: string, sights: readonly Sight[], sent: (s: Sight) => readonly number[]) => {
    const { first, later } = delays(sights, sent)
    return `| ${name} | ${ms(at(first, 0.5))} | ${ms(at(first, 0.99))} | ${ms(at(later, 0.5))} | ${ms(at(later, 0.95))} | ${ms(at(later, 0.99))} |`
  }
  const relayCpu = (p: Pass) => p.cpu.gateway + p.cpu.engine
  const tokens = size.rooms * size.tokens
  const us = (cpu: number) => ((cpu * 1000) / tokens).toFixed(0)
  const text = [
    `${size.rooms} streams × ${1000 / gapMs} tokens/s × ${size.watchers} watchers, ${size.tokens} tokens each, every piece stored before it is shown; commits stamped by Postgres.`,
    '',
    `First token after its commit: p50 ${ms(at(afterCommit, 0.5))} ms, **p99 ${ms(at(afterCommit, 0.99))} ms** (goal ≤ 5). Later tokens, from the model's send to the socket: **p95 ${ms(at(delays(reading(calm), sentOf(calm.runOf)).later, 0.95))} ms** (goal ≤ 100).`,
    `CPU of gateway and engine: **${(relayCpu(calm) / reference.cpu).toFixed(2)} ×** the relay that sends each token to each watcher and stores nothing (goal ≤ 0.5); with Postgres ${((relayCpu(calm) + calm.cpu.postgres) / reference.cpu).toFixed(2)} ×.`,
    '',
    '| delay, ms | first token p50 | p99 | later p50 | p95 | p99 |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    row('all read', reading(calm), sentOf(calm.runOf)),
    row('one in each room reads nothing: the others', reading(slow), sentOf(slow.runOf)),
    row('token by token, not stored', reference.sights, sentOf(reference.runOf)),
    '',
    '| CPU µs a token | gateway | engine | Postgres | together |',
    '| --- | ---: | ---: | ---: | ---: |',
    `| all read | ${us(calm.cpu.gateway)} | ${us(calm.cpu.engine)} | ${us(calm.cpu.postgres)} | ${us(relayCpu(calm) + calm.cpu.postgres)} |`,
    `| token by token | ${us(reference.cpu)} | | | ${us(reference.cpu)} |`,
  ].join('\n')
  const problems: string[] = []
  const expected = size.rooms * size.watchers
  for (const [name, p] of Object.entries({ calm, slow })) {
    const whole = p.sights.filter(s => s.isDone).length
    if (whole !== expected) problems.push(`${name}: ${whole} of ${expected} watchers saw an answer to its end`)
  }
  if (afterCommit.length === 0) problems.push('no commit of a first token was seen')
  if (reference.sights.length !== expected) problems.push('the reference did not reach every watcher')
  return { title: 'G13: watching answers', text, problems }
}
