/** Plants every bug in turn, each in a process of its own, and prints which seed found it: `node load/sim/bugs-run.ts [names…]`. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { bugs } from './bugs.ts'

const seedsMax = 500
const run = path.join(import.meta.dirname, 'run.ts')
const names = process.argv.slice(2)
let missed = 0
for (const { name, about } of bugs) {
  if (names.length > 0 && !names.includes(name)) continue
  const began = performance.now()
  const { stdout } = spawnSync(process.execPath, [run, '--seeds', String(seedsMax), '--bug', name], {
    encoding: 'utf8',
    maxBuffer: 1e9,
  })
  const found = /^seed (\d+) fails.*\n {2}(.*)/m.exec(stdout)
  if (!found) missed++
  const s = ((performance.now() - began) / 1000).toFixed(1)
  console.log(
    `${name}: ${found ? `seed ${found[1]} in ${s} s: ${found[2]!.slice(0, 120)}` : `NOT FOUND in ${s} s`} (${about})`,
  )
}
process.exit(missed > 0 ? 1 : 0)
