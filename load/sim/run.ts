/**
 * The simulation by command: `node load/sim/run.ts [--seeds n] [--from k] [--seconds s] [--floor n] [--processes n] [--bug name]
 * [--keep] [--trace]`. Prints seeds and events per second; a failing seed with its whole plan and trace. Exit 1 when a seed
 * fails or when fewer than the floor were run. Refuses to stop at a failing seed with --keep.
 */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { bugs } from './bugs.ts'
import { hook } from './hooks.ts'
import { planOf } from './plan.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    /** Each so manieth seed: how several processes share them. */
    step: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '0' },
    floor: { type: 'string', default: '0' },
    processes: { type: 'string', default: '1' },
    bug: { type: 'string', default: '' },
    trace: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
})
const bug = bugs.find(b => b.name === values.bug)
if (values.bug !== '' && !bug) {
  console.error(`no bug is called ${values.bug}; there are ${bugs.map(b => b.name).join(', ')}`)
  process.exit(2)
}
const [from, seconds, floor, processes] = [values.from, values.seconds, values.floor, values.processes].map(Number) as [
  number,
  number,
  number,
  number,
]

interface Total {
  seeds: number
  events: number
  acked: number
  unknown: number
  resumes: number
  faults: number
  failed: number[]
}
const none = (): Total => ({ seeds: 0, events: 0, acked: 0, unknown: 0, resumes: 0, faults: 0, failed: [] })

const startedAt = process.hrtime.bigint()
const elapsed = () => Number(process.hrtime.bigint() - startedAt) / 1e9
const total = processes > 1 ? await shared() : await alone()
const s = elapsed()
if (process.send) await new Promise<void>(sent => process.send!(total, () => sent()))
else {
  const { seeds, events, faults, acked, unknown, resumes, failed } = total
  console.log(
    `${seeds} seeds from ${from} in ${s.toFixed(1)} s: ${(seeds / s).toFixed(1)} seeds/s, ${events} events, ` +
      `${Math.round(events / s)} events/s, ${Math.round(events / seeds)} a seed; ${faults} faults, ${acked} acked, ` +
      `${unknown} unknown, ${resumes} resumes; ${failed.length} failed${failed.length > 0 ? `: ${failed.join(' ')}` : ''}`,
  )
  if (seeds < floor) console.log(`only ${seeds} seeds, at least ${floor} are needed`)
}
process.exit(total.failed.length > 0 || total.seeds < floor ? 1 : 0)

async function alone(): Promise<Total> {
  hook(bug ? [bug] : [])
  const { simulate } = await import('./world.ts')
  process.on('unhandledRejection', error => {
    console.error('a rejection that nobody handled', error)
    process.exit(1)
  })
  const sum = none()
  const last = from + Number(values.seeds)
  for (let seed = from; seconds > 0 ? elapsed() < seconds : seed < last; seed += Number(values.step)) {
    const plan = planOf(seed)
    const outcome = await simulate(plan)
    sum.seeds++
    for (const key of ['events', 'acked', 'unknown', 'resumes', 'faults'] as const) sum[key] += outcome[key]
    if (outcome.problems.length === 0 && !values.trace) continue
    if (values.trace) console.log(outcome.trace.join('\n'))
    if (outcome.problems.length === 0) continue
    sum.failed.push(seed)
    console.log(`seed ${seed} fails after ${outcome.events} events:`)
    for (const problem of outcome.problems.slice(0, 10)) console.log(`  ${problem.slice(0, 600)}`)
    if (!values.keep) {
      console.log(`plan: ${JSON.stringify(plan)}`)
      if (!values.trace) console.log(outcome.trace.join('\n'))
      break
    }
  }
  return sum
}

/** The same seeds over several processes. One that breaks off counts as a failure of the seed that it began with. */
async function shared(): Promise<Total> {
  const given = process.argv.slice(2)
  const parts = await Promise.all(
    Array.from({ length: processes }, (_, i) => {
      const mine = ['--processes', '1', '--from', String(from + i), '--step', String(processes), '--floor', '0']
      const seeds = ['--seeds', String(Math.max(0, Number(values.seeds) - i))]
      const child = fork(import.meta.filename, [...given, ...mine, ...seeds])
      let part: Total | undefined
      child.on('message', message => {
        part = message as Total
      })
      return new Promise<Total>(resolve => child.on('exit', () => resolve(part ?? { ...none(), failed: [from + i] })))
    }),
  )
  const sum = none()
  for (const part of parts) {
    for (const key of ['seeds', 'events', 'acked', 'unknown', 'resumes', 'faults'] as const) sum[key] += part[key]
    sum.failed.push(...part.failed)
  }
  return sum
}
