/**
 * `node load/bench/g13.ts [relay|crowd|people …] [--smoke]`: what watching answers costs and how late a token is. relay: 20 streams of
 * 50 tokens/s with 50 watchers each, beside per-token sends of the same. crowd: ten thousand watchers of one answer. people:
 * acks while 50 turns stream, and while the model is a black hole. Refuses to assert a speed; written into load/RESULTS.md.
 */
import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { writeSection } from '#load/kit/results.ts'
import { crowd } from './g13-crowd.ts'
import { people } from './g13-people.ts'
import { relay } from './g13-relay.ts'

const parts = { relay, crowd, people }
const { values, positionals } = parseArgs({ allowPositionals: true, options: { smoke: { type: 'boolean' } } })
const chosen = positionals.length > 0 ? positionals : Object.keys(parts)
const machine = `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`
let failed = 0
for (const name of chosen) {
  const part = parts[name as keyof typeof parts]
  if (!part) throw new Error(`no such part: ${name}; known: ${Object.keys(parts).join(', ')}`)
  const { title, text, problems } = await part(values.smoke === true)
  console.log(`\n${title}\n\n${text}\n`)
  for (const problem of problems) console.log(`FAIL ${problem}`)
  failed += problems.length > 0 ? 1 : 0
  if (!values.smoke) writeSection(title, `Machine: ${machine}.\n\n${text}`)
}
console.log(`${chosen.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
