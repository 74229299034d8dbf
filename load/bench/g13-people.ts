/** People's acks while 50 turns stream, and while the model answers nothing: in turn with quiet spans, the medians compared. */
import { fork } from 'node:child_process'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WsClient } from '#load/kit/ws-client.ts'
import { questionOf } from '#load/rig/upstream.ts'
import type { ScriptName } from '#load/rig/upstream-scripts.ts'
import { ask } from './ask.ts'
import { at, ms, newRun, type Outcome, openStage, type Stage } from './g13-stage.ts'
import type { FromGenerator, StepResult, ToGenerator } from './w1-generator.ts'

const gapMs = 20
const perPerson = 2

interface Turn {
  token: string
  conversation: string
}

export async function people(isSmoke: boolean): Promise<Outcome> {
  const pairs = isSmoke ? 5 : 100
  const turns = isSmoke ? 4 : 50
  const rate = isSmoke ? 50 : 500
  const rounds = isSmoke ? 1 : 5
  const spans = isSmoke ? { warmMs: 300, runMs: 1500, drainMs: 5000 } : { warmMs: 1500, runMs: 6000, drainMs: 10_000 }
  const stage = await openStage(pairs * 2 + turns / perPerson)
  const generator = fork(path.join(import.meta.dirname, 'w1-generator.ts'), [], { stdio: 'inherit' })
  try {
    const senders = await makePairs(stage, pairs)
    await ask<FromGenerator, 'open'>(generator, { kind: 'open', wsUrl: stage.product.wsUrl, senders }, 'open')
    const askers = await makeAskers(stage, turns, pairs * 2)
    const sockets = await openSockets(stage, new Set(askers.map(a => a.token)))
    const results: Record<'quiet' | 'streams' | 'hole', StepResult[]> = { quiet: [], streams: [], hole: [] }
    const problems: string[] = []
    for (let round = 0; round < rounds; round++) {
      for (const what of ['quiet', 'streams', 'hole'] as const) {
        const spanMs = spans.warmMs + spans.runMs + 4000
        const running =
          what === 'quiet'
            ? 0
            : await start(stage, askers, what === 'hole' ? 'never-begun-and-stopped' : 'plain', spanMs)
        if (what !== 'quiet' && running < turns) problems.push(`${what}: ${running} of ${turns} turns ran`)
        const result = await ask<FromGenerator, 'step'>(generator, { kind: 'step', rate, ...spans }, 'step')
        if (result.acked !== result.due) problems.push(`${what}: ${result.acked} of ${result.due} sends were acked`)
        results[what].push(result)
        await stopAll(stage, askers, sockets)
      }
    }
    const p99 = (what: keyof typeof results) =>
      at(
        results[what].map(r => r.ackMs.p99),
        0.5,
      )
    const row = (what: keyof typeof results, name: string) =>
      `| ${name} | ${ms(
        at(
          results[what].map(r => r.ackMs.p50),
          0.5,
        ),
      )} | ${ms(p99(what))} | ${(p99(what) / p99('quiet')).toFixed(2)} | ${results[what].map(r => ms(r.ackMs.p99)).join(', ')} |`
    const text = [
      `${rate} sends/s in ${pairs} conversations of two, ${rounds} rounds in turn, medians; ${turns} turns of ${turns / perPerson} people at ${1000 / gapMs} tokens/s (goal: p99 ≤ 1.1 ×).`,
      '',
      '| while | ack p50 ms | ack p99 ms | × quiet | p99 of each round |',
      '| --- | ---: | ---: | ---: | --- |',
      row('quiet', 'no turn runs'),
      row('streams', `${turns} turns stream`),
      row('hole', `${turns} turns wait for a model that says nothing`),
    ].join('\n')
    generator.send({ kind: 'end' } satisfies ToGenerator)
    return { title: "People's acks beside turns", text, problems }
  } finally {
    generator.kill('SIGKILL')
    await stage.stop()
  }
}

async function makePairs({ product, tokens }: Stage, pairs: number): Promise<Turn[]> {
  const senders: Turn[] = []
  for (let i = 0; i < pairs; i++) {
    const token = tokens[2 * i]!
    const body = { type: 'dm', usernames: [`seed_${2 * i + 2}`] }
    const { id } = await product.request<{ id: string }>(token, 'POST', '/conversations', body)
    senders.push({ token, conversation: id }, { token: tokens[2 * i + 1]!, conversation: id })
  }
  return senders
}

async function makeAskers({ product, tokens }: Stage, turns: number, from: number): Promise<Turn[]> {
  const askers: Turn[] = []
  for (let i = 0; i < turns; i++) {
    const token = tokens[from + Math.floor(i / perPerson)]!
    const body = { type: 'ai', title: `turn ${i}` }
    const { id } = await product.request<{ id: string }>(token, 'POST', '/conversations', body)
    askers.push({ token, conversation: id })
  }
  return askers
}

/** To stop turns with. */
async function openSockets({ product }: Stage, tokens: ReadonlySet<string>): Promise<Map<string, WsClient>> {
  const sockets = new Map<string, WsClient>()
  for (const token of tokens) {
    const client = await WsClient.open(`${product.wsUrl}/ws`, { onText: () => {} })
    client.send(JSON.stringify({ type: 'auth', token }))
    sockets.set(token, client)
  }
  return sockets
}

/** Answers how many of them reached the model. */
async function start(stage: Stage, askers: readonly Turn[], script: ScriptName, spanMs: number): Promise<number> {
  const runs = new Set<string>()
  for (const { token, conversation } of askers) {
    const run = newRun()
    runs.add(run)
    const content = `@assistant ${questionOf(run, script, Math.ceil(spanMs / gapMs), gapMs)}`
    await stage.product.request(token, 'POST', `/conversations/${conversation}/messages`, { content })
  }
  const reached = () => stage.upstream.inferences.filter(i => runs.has(i.run)).length
  for (const until = performance.now() + 5000; reached() < runs.size && performance.now() < until; ) await sleep(20)
  return reached()
}

/** What still runs is stopped, so that the next span begins with nothing. */
async function stopAll(stage: Stage, askers: readonly Turn[], sockets: ReadonlyMap<string, WsClient>): Promise<void> {
  const open = "select conversation_id as id, answer_id as answer from ai_run where status <> 'ended'"
  for (const until = performance.now() + 60_000; performance.now() < until; await sleep(200)) {
    const rows = await stage.sql<{ id: string; answer: string }>(open)
    if (rows.length === 0) return
    for (const { id, answer } of rows) {
      const { token } = askers.find(a => a.conversation === id)!
      sockets.get(token)?.send(JSON.stringify({ type: 'chat.stop', conversationId: id, messageId: answer }))
    }
  }
  throw new Error('turns did not end')
}
