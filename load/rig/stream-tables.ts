/** What a run of the streams rig shows: turns by script and ending, and what each fault met. Owns the layout only. */
import type { TurnRecord } from '#load/kit/checkers-streams.ts'
import type { Strike } from './stream-audit.ts'
import type { Asked } from './stream-lanes.ts'

export function tables(turns: readonly TurnRecord[], asked: readonly Asked[], strikes: readonly Strike[]): string {
  const scriptOf = new Map(
    asked.map(a => [a.run, a.plan.stopAt === undefined ? a.plan.script : `${a.plan.script}, stopped`]),
  )
  const names = [...new Set(scriptOf.values())].sort()
  const scripts = names.map(name => {
    const mine = turns.filter(t => scriptOf.get(t.run) === name)
    const calm = mine.filter(t => t.struckBy.length === 0).length
    const requests = mine.reduce((n, t) => n + t.inferences.length, 0)
    return `| ${name} | ${mine.length} | ${calm} | ${requests} | ${endings(mine)} |`
  })
  const codes = [...new Set(strikes.map(s => s.code))]
  const faults = codes.map(code => {
    const mine = strikes.filter(s => s.code === code)
    const met = turns.filter(t => mine.some(s => firstShown(t) < s.begin && s.begin < (t.endedAt ?? 0)))
    const cut = lastBefore(turns, strikes, code)
    const worst = cut.length === 0 ? '–' : Math.round(Math.max(...cut))
    return `| ${code} | ${mine.length} | ${met.length} | ${cut.length} | ${worst} |`
  })
  const stops = turns.flatMap(t => stopMs(t))
  return [
    '| script | turns | without a fault near | requests | ended |',
    '| --- | ---: | ---: | ---: | --- |',
    ...scripts,
    '',
    '| fault | times | answers in mid-stream | interrupted | the last ended after ms |',
    '| --- | ---: | ---: | ---: | ---: |',
    ...faults,
    '',
    `Stops: ${stops.length} met a request; upstream was given up after ${percentile(stops, 0.5)} ms (median), ${percentile(stops, 1)} ms at most.`,
  ].join('\n')
}

function endings(turns: readonly TurnRecord[]): string {
  const counts = new Map<string, number>()
  for (const { row } of turns) counts.set(row?.finish ?? 'none', (counts.get(row?.finish ?? 'none') ?? 0) + 1)
  return [...counts].map(([finish, n]) => `${n} ${finish}`).join(', ')
}

const firstShown = (turn: TurnRecord) => Math.min(...turn.views.flatMap(v => v.pieces[0]?.at ?? []))

/** Ms from the fault to the end of each turn that it interrupted. */
function lastBefore(turns: readonly TurnRecord[], strikes: readonly Strike[], code: string): number[] {
  return turns.flatMap(({ row, endedAt = 0 }) => {
    if (row?.finish !== 'interrupted') return []
    const last = strikes.findLast(s => !/^F[79]/.test(s.code) && s.begin <= endedAt)
    return last?.code === code ? [endedAt - last.begin] : []
  })
}

function stopMs({ stopAt, inferences, struckBy }: TurnRecord): number[] {
  if (stopAt === undefined || struckBy.length > 0) return []
  return inferences.flatMap(i =>
    i.at < stopAt && i.closedAt !== undefined && i.closedAt > stopAt ? i.closedAt - stopAt : [],
  )
}

function percentile(list: readonly number[], share: number): string {
  const sorted = list.toSorted((a, b) => a - b)
  return sorted.length === 0 ? '–' : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(0)
}
