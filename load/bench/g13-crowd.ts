/** Ten thousand sockets of a thousand people watch one answer: one stream upstream, one journal, one gateway. */
import { setTimeout as sleep } from 'node:timers/promises'
import { rssBytes } from '#load/kit/proc.ts'
import { questionOf } from '#load/rig/upstream.ts'
import { at, cpuOf, delays, ms, newRun, type Outcome, openStage, Watchers } from './g13-stage.ts'

const gapMs = 20
/** As many sockets as one person may have. */
const socketsEach = 10

export async function crowd(isSmoke: boolean): Promise<Outcome> {
  const people = isSmoke ? 10 : 1000
  const tokens = isSmoke ? 100 : 750
  const stage = await openStage(people, { GROUP_MEMBERS_MAX: '2000' })
  const watchers = new Watchers()
  try {
    const usernames = Array.from({ length: people - 1 }, (_, i) => `seed_${i + 2}`)
    const body = { type: 'group', title: 'everybody', usernames }
    const owner = stage.tokens[0]!
    const { id } = await stage.product.request<{ id: string }>(owner, 'POST', '/conversations', body)
    const seats = stage.tokens.flatMap(token =>
      Array.from({ length: socketsEach }, () => ({ token, conversation: id })),
    )
    await watchers.open(stage.product.wsUrl, seats, false)
    const before = cpuOf(stage)
    const run = newRun()
    const content = `@assistant ${questionOf(run, 'plain', tokens, gapMs)}`
    await stage.product.request(owner, 'POST', `/conversations/${id}/messages`, { content })
    const isOver = () => stage.upstream.inferences.some(i => i.run === run && i.closedAt !== undefined)
    for (const until = performance.now() + tokens * gapMs + 30_000; !isOver() && performance.now() < until; )
      await sleep(100)
    const rss = rssBytes(stage.product.node().gateway) / 2 ** 20
    await sleep(isSmoke ? 1500 : 5000)
    const after = cpuOf(stage)
    const sights = await watchers.collect()
    const mine = stage.upstream.inferences.filter(i => i.run === run)
    const { first, later } = delays(sights, () => mine[0]?.sentAt ?? [])
    const whole = sights.filter(s => s.isDone && s.at.at(-2) === mine[0]?.sentBytes).length
    const pieces = sights.reduce((n, s) => n + s.at.length / 2, 0)
    const text = [
      `${seats.length} sockets of ${people} people in one room, one answer of ${tokens} tokens at ${1000 / gapMs} a second: ${mine.length} request upstream, ${pieces} pieces delivered`,
      `(${(pieces / Math.max(1, sights.length)).toFixed(0)} for each watcher), ${whole} watchers had all of it.`,
      '',
      '| delay from the model, ms | first token p50 | p99 | later p50 | p95 | p99 |',
      '| --- | ---: | ---: | ---: | ---: | ---: |',
      `| ${seats.length} watchers | ${ms(at(first, 0.5))} | ${ms(at(first, 0.99))} | ${ms(at(later, 0.5))} | ${ms(at(later, 0.95))} | ${ms(at(later, 0.99))} |`,
      '',
      `CPU µs a delivered piece: gateway ${(((after.gateway - before.gateway) * 1000) / pieces).toFixed(1)}, engine ${(((after.engine - before.engine) * 1000) / pieces).toFixed(1)}. Gateway RSS ${rss.toFixed(0)} MB. The watchers share the machine.`,
    ].join('\n')
    const problems: string[] = []
    if (whole !== seats.length) problems.push(`${whole} of ${seats.length} watchers had the whole answer`)
    if (mine.length !== 1) problems.push(`${mine.length} requests upstream for one answer`)
    return { title: 'G13: ten thousand watchers of one answer', text, problems }
  } finally {
    watchers.end()
    await stage.stop()
  }
}
