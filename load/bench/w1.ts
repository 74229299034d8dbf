/**
 * W1: 200 conversations of two people, 400 sockets, durable sends to the running product at growing rates until the 99th
 * percentile of the ack reaches 100 ms. Prints a table with CPU per component and writes it into load/RESULTS.md.
 * `--smoke`: a short run that only checks that everything sent is acked. Refuses to assert a speed.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import path from 'node:path'
import { cpuMs, machineCpuMs, rssBytes, treeCpuMs } from '#load/kit/proc.ts'
import { type Product, startProduct } from '#load/kit/product.ts'
import { writeSection } from '#load/kit/results.ts'
import type { FromGenerator, StepResult, ToGenerator } from './w1-generator.ts'

const p99MsMax = 100
const isSmoke = process.argv.includes('--smoke')
const pairs = isSmoke ? 10 : 200
const rates = isSmoke ? [50] : [500, 1000, 2000, 3000, 4000, 6000, 8000, 10_000, 13_000, 16_000, 20_000, 25_000, 30_000]
const spans = isSmoke ? { warmMs: 500, runMs: 2000, drainMs: 15_000 } : { warmMs: 2000, runMs: 6000, drainMs: 15_000 }

interface Row extends StepResult {
  cpuUs: Record<'gateway' | 'engine' | 'postgres' | 'model' | 'generator', number>
  rssMb: Record<'gateway' | 'engine', number>
  /** Cores that programs which have nothing to do with this used meanwhile. */
  othersCores: number
}

async function main(): Promise<number> {
  const product = await startProduct()
  const generator = fork(path.join(import.meta.dirname, 'w1-generator.ts'), [], { stdio: 'inherit' })
  try {
    console.log(`product ready at ${product.url}; making ${pairs} conversations of two`)
    const senders = await makePairs(product)
    const opened = await ask(generator, { kind: 'open', wsUrl: product.wsUrl, senders }, 'open')
    console.log(`${opened.sockets} sockets open\n`)
    const rows: Row[] = []
    let good = 0
    let bad = Number.POSITIVE_INFINITY
    for (const rate of rates) {
      let row = await measure(product, generator, rate)
      // Once more: a neighbour's burst is no limit of ours.
      if (!holds(row) && !isSmoke) row = await measure(product, generator, rate)
      rows.push(row)
      console.log(rows.length === 1 ? table(rows) : table([row]).split('\n').at(-1))
      if (holds(row)) good = rate
      else {
        bad = rate
        break
      }
    }
    // Two more between the last that held and the first that did not.
    for (let i = 0; i < 2 && !isSmoke && good > 0 && bad < Number.POSITIVE_INFINITY; i++) {
      const rate = Math.round((good + bad) / 2 / 100) * 100
      const row = await measure(product, generator, rate)
      rows.push(row)
      console.log(table([row]).split('\n').at(-1))
      if (holds(row)) good = rate
      else bad = rate
    }
    generator.send({ kind: 'end' } satisfies ToGenerator)
    if (isSmoke) {
      const failures = rows.filter(row => row.acked !== row.due).length
      console.log(`${rows.length - failures} passed, ${failures} failed`)
      return failures
    }
    report(rows, good)
    return 0
  } finally {
    generator.kill('SIGKILL')
    await product.stop()
  }
}

const holds = (row: Row) => row.acked === row.due && row.ackMs.p99 < p99MsMax

async function makePairs(product: Product): Promise<{ token: string; conversation: string }[]> {
  const tokens = await product.seed(pairs * 2)
  const senders: { token: string; conversation: string }[] = []
  for (let i = 0; i < pairs; i += 10) {
    const made = await Promise.all(
      Array.from({ length: Math.min(10, pairs - i) }, async (_, j) => {
        const a = tokens[(i + j) * 2]!
        const body = { type: 'dm', usernames: [`seed_${(i + j) * 2 + 2}`] }
        const { id } = await product.request<{ id: string }>(a, 'POST', '/conversations', body)
        return [
          { token: a, conversation: id },
          { token: tokens[(i + j) * 2 + 1]!, conversation: id },
        ]
      }),
    )
    senders.push(...made.flat())
  }
  return senders
}

async function measure(product: Product, generator: ChildProcess, rate: number): Promise<Row> {
  const read = () => {
    const node = product.node()
    return {
      gateway: cpuMs(node.gateway),
      engine: cpuMs(node.engine),
      postgres: treeCpuMs(node.postgres),
      model: cpuMs(node.model),
      generator: cpuMs(generator.pid),
    }
  }
  const before = read()
  const [startedAt, machineBefore] = [performance.now(), machineCpuMs()]
  const result = await ask(generator, { kind: 'step', rate, ...spans }, 'step')
  const after = read()
  const spentMs = performance.now() - startedAt
  const sum = (cpu: typeof before) => Object.values(cpu).reduce((a, b) => a + b)
  const othersCores = Math.max(0, machineCpuMs() - machineBefore - (sum(after) - sum(before))) / spentMs
  // CPU of warm-up and drain is in it, so it is divided by all sends, not by the measured ones.
  const sends = (rate * (spans.warmMs + spans.runMs)) / 1000
  const cpuUs = Object.fromEntries(
    Object.entries(after).map(([name, ms]) => [name, ((ms - before[name as keyof typeof before]) * 1000) / sends]),
  ) as Row['cpuUs']
  const node = product.node()
  const mb = (pid: number | undefined) => rssBytes(pid) / 1024 / 1024
  return { ...result, cpuUs, rssMb: { gateway: mb(node.gateway), engine: mb(node.engine) }, othersCores }
}

function ask<K extends 'open' | 'step'>(generator: ChildProcess, order: ToGenerator, kind: K) {
  return new Promise<Extract<FromGenerator, { kind: K }>>((resolve, reject) => {
    const settle = (message: FromGenerator) => {
      if (message.kind === 'broken') reject(new Error(message.why))
      else if (message.kind === kind) resolve(message as Extract<FromGenerator, { kind: K }>)
      else return
      generator.off('message', settle).off('exit', ended)
    }
    const ended = (code: number | null) => reject(new Error(`the generator ended with ${code}`))
    generator.on('message', settle).once('exit', ended)
    generator.send(order)
  })
}

function table(rows: Row[]): string {
  const n = (value: number, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : '–')
  const lines = rows.map(r => {
    const total = r.cpuUs.gateway + r.cpuUs.engine + r.cpuUs.postgres
    const answered = r.acked === r.due ? 'all' : `${((100 * r.acked) / r.due).toFixed(1)} %`
    return (
      `| ${r.rate} | ${answered} | ${n(r.ackMs.p50, 1)} | ${n(r.ackMs.p90, 1)} | ${n(r.ackMs.p99, 1)} | ${n(r.ackMs.max, 0)} | ${n(r.cpuUs.gateway)} | ` +
      `${n(r.cpuUs.engine)} | ${n(r.cpuUs.postgres)} | ${n(total)} | ${n(r.cpuUs.generator)} | ${n(r.lateMs, 1)} | ${n(r.rssMb.gateway)} / ${n(r.rssMb.engine)} | ${n(r.othersCores, 1)} |`
    )
  })
  return [
    '| sends/s | acked | p50 ms | p90 | p99 | max | gateway µs/send | engine | postgres | together | generator | generator late p99 ms | RSS MB gateway / engine | cores used by others |',
    '| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |',
    ...lines,
  ].join('\n')
}

function report(rows: Row[], good: number): void {
  const sorted = rows.toSorted((a, b) => a.rate - b.rate)
  const machine = `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}`
  const text = [
    `**${good} sends/s** were all acked with the 99th percentile below ${p99MsMax} ms: ${pairs} conversations of two, ${pairs * 2} sockets, the default start`,
    '(gateway and engine as processes, gRPC between them, embedded Postgres with its default flushes), rate limits lifted by `RATE_LIMIT_SCALE=1000`.',
    'Open loop: a send counts from the moment it was due. The generator shares the machine; CPU is per send, from `/proc`.',
    '',
    `Machine: ${machine}, ${new Date().toISOString().slice(0, 10)}.`,
    '',
    table(sorted),
  ].join('\n')
  writeSection('W1: durable sends', text)
  console.log(`\n${good} sends/s at p99 < ${p99MsMax} ms; written to load/RESULTS.md`)
}

process.exit((await main()) === 0 ? 0 : 1)
