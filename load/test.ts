/**
 * `npm test`: every test file beside the code, two at a time, on one embedded Postgres for the run. `npm test -- word …`
 * runs the files whose path holds a word. A test has 60 s; a file that does not end after its last test left a handle open
 * and fails. A file that failed beside another is run once more, alone: a machine that others use may stand still for
 * seconds, and what is wrong fails twice. The last line is `N passed, N failed`. Refuses to hide: what failed is shown,
 * also when it passed alone.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { run } from 'node:test'
import { startTestPostgres } from './kit/postgres.ts'

const root = path.resolve(import.meta.dirname, '..')
const testMsMax = 60_000
/** Longer than one test may take: no event for so long means that nothing runs any more. */
const idleMsMax = 90_000
const outputCharsMax = 20_000
const filesAtOnce = 2

interface Result {
  file: string
  passed: number
  failed: number
  skipped: number
  failures: string[]
}

const words = process.argv.slice(2)
const results: Result[] = []
/** What failed beside another file and passed alone. */
const unsettled: string[] = []
let leftOut = 0
const began = performance.now()

const hasRedis = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0
const files = testFiles(root).filter(file => words.length === 0 || words.some(word => file.includes(word)))
const runnable = files.filter(file => hasRedis || !file.endsWith('.redis.test.ts'))
for (const file of files.filter(f => !runnable.includes(f))) {
  console.log(`skipped ${file}: redis-server is not installed`)
  leftOut++
}

const needsPostgres = runnable.some(file => file.endsWith('.pg.test.ts'))
const postgres = needsPostgres && !process.env['PARLEY_TEST_PG'] ? await startTestPostgres() : undefined
if (postgres) process.env['PARLEY_TEST_PG'] = postgres.adminUrl
let interrupted = false
process.once('SIGINT', () => {
  interrupted = true
})

try {
  const waiting = [...runnable]
  await Promise.all(
    Array.from({ length: filesAtOnce }, async () => {
      for (let file = waiting.shift(); file && !interrupted; file = waiting.shift()) await runFile(file)
    }),
  )
  const again = results.filter(r => r.failed > 0)
  if (again.length > 0) console.log('\nonce more, alone:')
  for (const first of again) {
    if (interrupted) break
    results.splice(results.indexOf(first), 1)
    await runFile(first.file)
    if (results.at(-1)?.failed === 0) unsettled.push(...first.failures)
  }
} finally {
  await postgres?.stop()
}

for (const failure of unsettled) console.log(`\npassed alone, but ${failure}`)
for (const failure of results.flatMap(r => r.failures)) console.log(`\n${failure}`)
const sum = (what: 'passed' | 'failed' | 'skipped') => results.reduce((n, r) => n + r[what], 0)
const [passed, failed, skipped] = [sum('passed'), sum('failed'), sum('skipped') + leftOut]
console.log(`\n${Math.round((performance.now() - began) / 1000)} s`)
console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
process.exit(failed > 0 || passed === 0 || interrupted ? 1 : 0)

async function runFile(file: string): Promise<void> {
  const full = path.join(root, file)
  const abort = new AbortController()
  const fileBegan = performance.now()
  let idle: NodeJS.Timeout | undefined
  let output = ''
  const result: Result = { file, passed: 0, failed: 0, skipped: 0, failures: [] }
  const fail = (name: string, text: string) => {
    result.failed++
    result.failures.push(`FAILED ${file}\n  ${name}\n${text.replace(/^/gm, '    ')}`)
  }
  for await (const { type, data } of run({ files: [full], timeout: testMsMax, signal: abort.signal })) {
    clearTimeout(idle)
    idle = setTimeout(() => abort.abort(), idleMsMax)
    switch (type) {
      case 'test:stdout':
      case 'test:stderr':
        output = (output + data.message).slice(-outputCharsMax)
        break
      case 'test:pass':
        if (data.details.type === 'suite' || data.name === full) break
        if (data.skip !== undefined || data.todo !== undefined) {
          result.skipped++
          console.log(`skipped ${file}: ${data.name}${typeof data.skip === 'string' ? ` (${data.skip})` : ''}`)
        } else result.passed++
        break
      case 'test:fail': {
        const error = data.details.error as Error & { failureType?: string; cause?: unknown }
        if (error.failureType === 'subtestsFailed') break
        if (abort.signal.aborted && data.name === full)
          fail('the file did not end', 'Its tests are over and something is still open, or a test hangs.')
        else fail(data.name === full ? 'the file' : data.name, describe(error.cause ?? error))
        break
      }
      default:
        break
    }
  }
  clearTimeout(idle)
  const seconds = ((performance.now() - fileBegan) / 1000).toFixed(1)
  console.log(`${result.failed === 0 ? 'ok     ' : 'FAILED '} ${file} (${seconds} s)`)
  if (result.failed > 0 && output.trim() !== '') result.failures.push(`OUTPUT ${file}\n${output.trimEnd()}`)
  results.push(result)
}

/** With its causes: a property's failure says only there what was wrong. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = error.stack?.includes(error.message) ? error.stack : `${error.message}\n${error.stack ?? ''}`
  return error.cause === undefined ? own : `${own}\ncaused by ${describe(error.cause)}`
}

/** Files with a database first: they take longest. */
function testFiles(folder: string): string[] {
  const found: string[] = []
  const visit = (at: string) => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.name === 'node_modules' || entry.name === 'dist' || entry.name.startsWith('.')) continue
      const full = path.join(at, entry.name)
      if (entry.isDirectory()) visit(full)
      else if (entry.name.endsWith('.test.ts')) found.push(path.relative(folder, full))
    }
  }
  visit(folder)
  const weight = (file: string) => (/\.(pg|redis)\.test\.ts$/.test(file) ? 0 : 1)
  return found.sort((a, b) => weight(a) - weight(b) || (a < b ? -1 : 1))
}
