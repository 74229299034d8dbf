/**
 * Puts together, for each turn of the streams rig, what was asked, watched and sent with what the database has in the end, and
 * which faults it lived through. Refuses to judge; the records are C4's.
 */
import type { Answer, Inference, TurnRecord, View } from '#load/kit/checkers-streams.ts'
import { breakerOpenMs } from '#protos/limits.ts'
import type { Asked } from './stream-lanes.ts'
import { scriptOf } from './upstream-scripts.ts'
import type { World } from './world.ts'

/** A fault as it was played; monotonic ms. */
export interface Strike {
  code: string
  begin: number
  end: number
  fired: number
  problems: string[]
}

/** What a fault leaves behind is over so long after it was healed. */
const afterMs = 6000
/** A thread is replaced when it stood still for two seconds. */
const starvedMs = 3000

interface RunRow {
  question: string
  answer: string
  status: string
  finish: string | null
  bytes: number
  ended_ms: number | null
}

export async function recordTurns(options: {
  world: World
  asked: readonly Asked[]
  views: readonly View[]
  inferences: readonly Inference[]
  strikes: readonly Strike[]
}): Promise<TurnRecord[]> {
  const { world, asked, views, inferences, strikes } = options
  const rows = await world.query<RunRow>(
    `select question_id as question, answer_id as answer, status, finish, bytes::float8 as bytes,
            extract(epoch from ended_at)::float8 * 1000 as ended_ms
       from ai_run where question_id = any($1)`,
    [asked.map(a => a.questionId)],
  )
  const rowOf = new Map(rows.map(row => [row.question, row]))
  const messages = await world.query<{ id: string; content: string; finish: string; seq: number }>(
    `select message_id as id, body->>'content' as content, body->>'finish' as finish, seq::float8 as seq
       from event where kind = 'message.new' and message_id = any($1)`,
    [rows.map(row => row.answer)],
  )
  const titles = await world.query<{ title: string; n: number }>(
    "select title, count(*)::int as n from task where title like 'rig %' group by title",
  )
  const answersOf = groupBy(messages, m => m.id)
  const viewsOf = groupBy(views, v => v.answerId)
  const inferencesOf = groupBy(inferences, i => i.run)
  // Nobody may have been there to be told why a turn was not even asked; others that failed at that moment were.
  const broken = views.flatMap(v => v.errors.filter(e => e.reason === 'breaker').map(e => e.at))
  const wasBroken = (at: number | undefined) => at !== undefined && broken.some(t => Math.abs(t - at) < breakerOpenMs)
  return asked.map(one => {
    const script = scriptOf(one.plan.script)
    const row = rowOf.get(one.questionId)
    const endedAt = row?.ended_ms == null ? one.endedAt : row.ended_ms - performance.timeOrigin
    const mine = viewsOf.get(row?.answer ?? '') ?? []
    const carried = titles.filter(t => t.title.startsWith(`rig ${one.run}`))
    const struckBy = strikes
      .filter(s => s.begin <= (endedAt ?? Number.POSITIVE_INFINITY) && s.end + afterMs >= one.askedAt)
      .map(s => s.code)
    const told = mine.flatMap(v => v.errors.map(e => e.reason))
    const { finish, text, inferences: n, reason } = script
    return {
      run: one.run,
      expected: { finish, text, inferences: n, ...(reason && { reason }) },
      answerId: row?.answer,
      answers: (answersOf.get(row?.answer ?? '') ?? []) as Answer[],
      row: row && { status: row.status, finish: row.finish, bytes: row.bytes },
      views: mine,
      inferences: inferencesOf.get(one.run) ?? [],
      ...(script.tasks !== undefined && {
        tasks: { found: carried.reduce((sum, t) => sum + t.n, 0), expected: script.tasks },
      }),
      effectsTwice: carried.filter(t => t.n > 1).length,
      ...(one.stopAt !== undefined && { stopAt: one.stopAt }),
      struckBy,
      mayFail:
        told.includes('breaker') ||
        struckBy.includes('F9 refused') ||
        (!inferencesOf.has(one.run) && wasBroken(endedAt)),
      ...(endedAt !== undefined && { endedAt }),
    }
  })
}

/** Threads that the machine itself starved until they were replaced, and nodes that it got buried: as good as a fault. */
export function unasked(lines: readonly string[], strikes: readonly Strike[]): Strike[] {
  return lines.flatMap(line => {
    const [, time] =
      /"time":"([^"]+)".*"msg":"(?:a thread stands still|this incarnation was declared dead)/.exec(line) ?? []
    if (time === undefined) return []
    const at = Date.parse(time) - performance.timeOrigin
    if (strikes.some(s => s.begin <= at && at <= s.end + afterMs)) return []
    return [{ code: 'F0 the machine itself', begin: at - starvedMs, end: at, fired: 1, problems: [] }]
  })
}

function groupBy<T>(list: readonly T[], key: (one: T) => string): Map<string, T[]> {
  const out = new Map<string, T[]>()
  for (const one of list) {
    const k = key(one)
    const group = out.get(k)
    if (group) group.push(one)
    else out.set(k, [one])
  }
  return out
}
