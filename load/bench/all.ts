/**
 * `npm run bench [-- name …] [--smoke] [--quick] [--reps n]`: the benches one after another, each as its own command, which writes its
 * own section of load/RESULTS.md. `--smoke`: small ones that only show that each still measures. What takes longer than these (soak,
 * g13, w1, k6) is left to its command.
 */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'

/** By name: the arguments that it takes from ours. Without a smoke: `run` and `takeover`, which are long by nature. */
const benches: Record<string, { passes: readonly ('quick' | 'reps')[]; hasSmoke: boolean }> = {
  run: { passes: ['quick', 'reps'], hasSmoke: false },
  flush: { passes: ['reps'], hasSmoke: true },
  'fan-out': { passes: [], hasSmoke: true },
  hop: { passes: [], hasSmoke: true },
  growth: { passes: [], hasSmoke: true },
  takeover: { passes: [], hasSmoke: false },
  receipts: { passes: [], hasSmoke: true },
  'redis-trips': { passes: [], hasSmoke: true },
  overload: { passes: [], hasSmoke: true },
  scrapes: { passes: [], hasSmoke: true },
}
/** Long, and part of no run of all; its smoke is. */
const longer: typeof benches = { soak: { passes: [], hasSmoke: true } }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { smoke: { type: 'boolean' }, quick: { type: 'boolean' }, reps: { type: 'string' } },
})
const isSmoke = values.smoke === true
const known = { ...benches, ...longer }
const unknown = positionals.filter(name => !known[name])
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(', ')}; known: ${Object.keys(known).join(', ')}`)
  process.exit(2)
}
const all = Object.keys(isSmoke ? known : benches)
const chosen = (positionals.length > 0 ? positionals : all).filter(name => !isSmoke || known[name]!.hasSmoke)
let failed = 0
for (const name of chosen) {
  const { passes } = known[name]!
  const args = isSmoke
    ? ['--smoke']
    : passes.flatMap(key => {
        const value = values[key]
        return value === undefined ? [] : typeof value === 'string' ? [`--${key}`, value] : [`--${key}`]
      })
  console.log(`\n=== ${name}`)
  const began = performance.now()
  const file = path.join(import.meta.dirname, `${name}.ts`)
  const { status } = spawnSync(process.execPath, [file, ...args], { stdio: 'inherit' })
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${name}, ${((performance.now() - began) / 1000).toFixed(0)} s`)
  if (status !== 0) failed++
}
console.log(`${chosen.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
