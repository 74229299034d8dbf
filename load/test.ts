/**
 * `npm test`: every test file beside the code, two at a time, on one embedded Postgres for the run. `npm test -- word …`
 * runs the files whose path holds a word. A test has 30 s; a file that does not end after its last test left a handle open
 * and fails. The last line is `N passed, N failed`. Refuses to hide: what a failed file printed is shown.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { run } from 'node:test'
import { startTestPostgres } from './kit/postgres.ts'

const root = path.resolve(import.meta.dirname, '..')
const testMsMax = 30_000
/** Longer than one test may take: no event for so long means that nothing runs any more. */
const idleMsMax = 45_000
const outputCharsMax = 20_000
const filesAtOnce = 2

interface Tally {
  passed: number
  failed: number
  skipped: number
}

const words = process.argv.slice(2)
const tally: Tally = { passed: 0, failed: 0, skipped: 0 }
const failures: string[] = []
const began = performance.now()

const hasRedis = spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0
const files = testFiles(root).filter(file => words.length === 0 || words.some(word => file.includes(word)))
const runnable = files.filter(file => hasRedis || !file.endsWith('.redis.test.ts'))
for (const file of files.filter(f => !runnable.includes(f))) {
  console.log(`skipped ${file}: redis-server is not installed`)
  tally.skipped++
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
} finally {
  await postgres?.stop()
}

for (const failure of failures) console.log(`\n${failure}`)
const { passed, failed, skipped } = tally
console.log(`\n${Math.round((performance.now() - began) / 1000)} s`)
console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
process.exit(failed > 0 || passed === 0 || interrupted ? 1 : 0)

async function runFile(file: string): Promise<void> {
  const full = path.join(root, file)
  const abort = new AbortController()
  const fileBegan = performance.now()
  let idle: NodeJS.Timeout | undefined
  let output = ''
  const mine: string[] = []
  const fail = (name: string, text: string) => {
    tally.failed++
    mine.push(`FAILED ${file}\n  ${name}\n${text.replace(/^/gm, '    ')}`)
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
          tally.skipped++
          console.log(`skipped ${file}: ${data.name}${typeof data.skip === 'string' ? ` (${data.skip})` : ''}`)
        } else tally.passed++
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
  console.log(`${mine.length === 0 ? 'ok     ' : 'FAILED '} ${file} (${seconds} s)`)
  if (mine.length === 0) return
  failures.push(...mine)
  if (output.trim() !== '') failures.push(`OUTPUT ${file}\n${output.trimEnd()}`)
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
