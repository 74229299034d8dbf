/**
 * The simulation by command: `node load/sim/run.ts [--seeds n] [--from k] [--seconds s] [--bug name] [--trace]`. Prints seeds
 * and events per second; a failing seed with its whole plan and trace. Exit 1 when a seed fails.
 */
import { parseArgs } from 'node:util'
import { bugs } from './bugs.ts'
import { hook } from './hooks.ts'
import { planOf } from './plan.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '0' },
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
hook(bug ? [bug] : [])
const { simulate } = await import('./world.ts')
process.on('unhandledRejection', error => {
  console.error('a rejection that nobody handled', error)
  process.exit(1)
})

const from = Number(values.from)
const seconds = Number(values.seconds)
const startedAt = process.hrtime.bigint()
const elapsed = () => Number(process.hrtime.bigint() - startedAt) / 1e9
const total = { seeds: 0, events: 0, acked: 0, unknown: 0, resumes: 0, faults: 0 }
const failed: number[] = []
for (let seed = from; seconds > 0 ? elapsed() < seconds : seed < from + Number(values.seeds); seed++) {
  const plan = planOf(seed)
  const outcome = await simulate(plan)
  total.seeds++
  for (const key of ['events', 'acked', 'unknown', 'resumes', 'faults'] as const) total[key] += outcome[key]
  if (outcome.problems.length === 0 && !values.trace) continue
  if (values.trace) console.log(outcome.trace.join('\n'))
  if (outcome.problems.length === 0) continue
  failed.push(seed)
  console.log(`seed ${seed} fails after ${outcome.events} events:`)
  for (const problem of outcome.problems.slice(0, 10)) console.log(`  ${problem.slice(0, 600)}`)
  if (!values.keep) {
    console.log(`plan: ${JSON.stringify(plan)}`)
    if (!values.trace) console.log(outcome.trace.join('\n'))
    break
  }
}
const s = elapsed()
console.log(
  `${total.seeds} seeds from ${from} in ${s.toFixed(1)} s: ${total.events} events, ${Math.round(total.events / s)} events/s, ` +
    `${Math.round(total.events / total.seeds)} a seed; ${total.faults} faults, ${total.acked} acked, ` +
    `${total.unknown} unknown, ${total.resumes} resumes; ${failed.length} failed${failed.length > 0 ? `: ${failed.join(' ')}` : ''}`,
)
process.exit(failed.length > 0 ? 1 : 0)
