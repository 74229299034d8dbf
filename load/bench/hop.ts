/**
 * `node load/bench/hop.ts [--smoke]`: CPU of a letter on the way between gateway and engine, both sides with codec (G7): the product's
 * own link and relay in two processes, commands up at a steady rate, each answered. There is no hop between threads to measure
 * (G8): each worker listens for itself. Fails when an answer did not come.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createLink, type WorkerLink } from '#engine/client/link.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { openIdentity } from '#engine/ops/identity.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { machineLine } from '#load/kit/machine.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { label, letterKinds } from '#protos/letter.ts'
import { shardOf } from '#protos/shard.ts'
import { ask } from './ask.ts'
import type { FromWorker } from './hop-worker.ts'

const isSmoke = process.argv.includes('--smoke')
const rates = isSmoke ? [2000] : [5000, 10_000, 20_000, 40_000]
const warmMs = isSmoke ? 200 : 3000
const runMs = isSmoke ? 500 : 5000
const goalUs = 3

const worker = fork(path.join(import.meta.dirname, 'hop-worker.ts'), [], { stdio: 'inherit' })
const [{ addr }] = (await once(worker, 'message')) as [Extract<FromWorker, { kind: 'listening' }>]
let answers = 0
const up = Promise.withResolvers<void>()
const link: WorkerLink = createLink({
  addr,
  nodeId: 'hop',
  identity: openIdentity('', 'gateway'),
  clock: systemClock,
  log: silentLog,
  metrics: openMetrics(),
  up: () => up.resolve(),
  down: () => {},
  letter: () => {
    answers++
  },
  room: () => {},
})
await up.promise

const conversation = systemClock.id()
const principal = systemClock.id()
const command = Buffer.from(
  `{"type":"message.send","conversationId":"${conversation}","clientMessageId":"${systemClock.id()}","content":"message number 12345: the quick brown fox jumps over the lazy dog"}`,
)

/** So many letters a second up; answers how many left. */
async function pour(rate: number, ms: number): Promise<number> {
  const from = performance.now()
  let sent = 0
  while (performance.now() - from < ms) {
    const due = Math.floor(((performance.now() - from) / 1000) * rate)
    for (; sent < due && link.hasRoom; sent++) {
      const given = {
        shard: shardOf(conversation),
        epoch: 1,
        socket: 1,
        conversation,
        principal,
        attempt: systemClock.id(),
      }
      link.send(label(letterKinds.command, given), command)
    }
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  return sent
}

async function cpuUs(): Promise<number> {
  const { user, system } = process.cpuUsage()
  return user + system + (await ask<FromWorker, 'cpu'>(worker, { kind: 'cpu' }, 'cpu')).us
}

const rows: { rate: number; us: number; reached: number }[] = []
const problems: string[] = []
for (const rate of rates) {
  await pour(rate, warmMs)
  await new Promise(resolve => setTimeout(resolve, 200))
  answers = 0
  const before = await cpuUs()
  const sent = await pour(rate, runMs)
  for (const until = performance.now() + 5000; answers < sent && performance.now() < until; )
    await new Promise(resolve => setTimeout(resolve, 2))
  const us = ((await cpuUs()) - before) / (2 * sent)
  if (answers !== sent) problems.push(`${answers} of ${sent} commands were answered`)
  rows.push({ rate, us, reached: (sent * 2000) / runMs })
  console.log(`${2 * rate} letters/s, both ways: ${us.toFixed(2)} µs a letter`)
}
link.close()
worker.disconnect()

for (const problem of problems) console.log(`FAIL ${problem}`)
if (!isSmoke && problems.length === 0) {
  const asked = rows.find(r => r.rate === 10_000)!
  const best = rows.at(-1)!
  writeSection(
    'Hop',
    [
      `Machine: ${machineLine()}.`,
      '',
      "The product's own link and relay in two processes on loopback, no TLS, commands of 200 bytes up and answers of as many down, sent as they come (1 ms of a",
      'timer at a time). CPU of both processes by letters both ways, with labels, credit, order and the timers of the sender. There is no hop between threads:',
      'each worker has a listener of its own.',
      '',
      '| letters/s both ways | CPU µs a letter |',
      '| ---: | ---: |',
      ...rows.map(r => `| ${r.reached.toFixed(0)} | ${r.us.toFixed(2)} |`),
    ].join('\n'),
  )
  recordGoals(
    [
      {
        id: 'G7',
        what: 'gRPC hop, both sides with codec, µs a letter at 20 k/s',
        floor: '≤ 3',
        aim: '1.5',
        measured: `${asked.us.toFixed(2)} (${best.us.toFixed(2)} at ${(best.reached / 1000).toFixed(0)} k/s)`,
        isMet: asked.us <= goalUs,
      },
      {
        id: 'G8',
        what: 'thread hop, where there is one',
        floor: '≤ 0.6 µs',
        aim: '0.3',
        measured: 'no hop: each thread has its own listener',
        isMet: true,
      },
    ],
    'hop',
  )
}
console.log(problems.length === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
process.exit(problems.length === 0 ? 0 : 1)
