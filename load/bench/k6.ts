/**
 * `node load/bench/k6.ts [--full] [scenario …]`: runs the scenarios of load/k6 one after another against a product of its own,
 * small unless --full, with k6 from K6 or PATH, or built once with Go into the user's cache. Without either it says so and counts
 * nothing. Ends with `N passed, N failed`; a full run of all is written into load/RESULTS.md.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, homedir, tmpdir } from 'node:os'
import path from 'node:path'
import { startProduct } from '#load/kit/product.ts'
import { writeSection } from '#load/kit/results.ts'
import { freePorts } from '#load/rig/redis-server.ts'

const version = 'v2.2.0'
const folder = path.resolve(import.meta.dirname, '../k6')
const scenarios = ['smoke', 'ramp', 'rooms', 'crowd', 'streams', 'storm', 'slow', 'rest', 'health']
const given = process.argv.slice(2)
const isFull = given.includes('--full')
const chosen = given.filter(name => !name.startsWith('-'))
const unknown = chosen.filter(name => !scenarios.includes(name))
if (unknown.length > 0) {
  console.error(`no such scenario: ${unknown.join(', ')}; known: ${scenarios.join(', ')}`)
  process.exit(2)
}

const k6 = findK6() ?? buildK6()
if (!k6) {
  console.log('skipped: neither k6 nor Go is installed')
  console.log('0 passed, 0 failed')
  process.exit(0)
}

interface Trend {
  'p(95)'?: number
  med?: number
  count?: number
}
interface Summary {
  metrics: Record<string, Trend>
}

const home = mkdtempSync(path.join(tmpdir(), 'parley-k6-run-'))
const grpcPort = await freePorts(4)
const product = await startProduct({ ENGINE_PORT: String(grpcPort), GROUP_MEMBERS_MAX: '1000' })
const rows: string[] = []
const counts = { passed: 0, failed: 0 }
try {
  const tokens = path.join(home, 'tokens')
  writeFileSync(tokens, (await product.seed(isFull ? 1000 : 100)).join('\n'))
  for (const name of chosen.length > 0 ? chosen : scenarios) run(k6, name, tokens)
} finally {
  await product.stop()
  rmSync(home, { recursive: true, force: true })
}
if (isFull && chosen.length === 0) {
  const text = [
    `Each scenario of load/k6 at its full size, one product with its own database, ${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores shared with k6 ${version}. Every received seq is audited.`,
    '',
    '| scenario | held | acks | ack p95 ms | deliveries | delivery p95 ms | first token p95 ms |',
    '| --- | --- | ---: | ---: | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
  writeSection('k6', text)
}
console.log(`${counts.passed} passed, ${counts.failed} failed`)
process.exit(counts.failed === 0 ? 0 : 1)

function run(tool: string, name: string, tokens: string): void {
  const summary = path.join(home, `${name}.json`)
  const settings = { URL: product.url, TOKENS: tokens, GRPC: `127.0.0.1:${grpcPort}`, SMOKE: isFull ? '' : '1' }
  const env = Object.entries(settings).flatMap(([key, value]) => ['-e', `${key}=${value}`])
  const began = performance.now()
  const args = [
    'run',
    '--quiet',
    '--no-usage-report',
    '--summary-export',
    summary,
    ...env,
    path.join(folder, `${name}.ts`),
  ]
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 1e8 })
  const held = status === 0
  counts[held ? 'passed' : 'failed']++
  console.log(`${held ? 'ok  ' : 'FAIL'} ${name}, ${((performance.now() - began) / 1000).toFixed(1)} s`)
  if (!held) console.log(`${stdout.slice(-4000)}\n${stderr.slice(-3000)}`)
  const { metrics } = existsSync(summary) ? (JSON.parse(readFileSync(summary, 'utf8')) as Summary) : { metrics: {} }
  const p95 = (metric: string) => metrics[metric]?.['p(95)']?.toFixed(0) ?? ''
  const count = (metric: string) => metrics[metric]?.count ?? ''
  rows.push(
    `| ${name} | ${held ? 'yes' : 'no'} | ${count('parley_acked')} | ${p95('parley_ack_ms')} | ${count('parley_delivered')} | ${p95('parley_delivery_ms')} | ${p95('parley_first_token_ms')} |`,
  )
}

function findK6(): string | undefined {
  const own = process.env['K6']
  if (own) return own
  const places = (process.env['PATH'] ?? '').split(path.delimiter)
  // The npm package of the same name is an empty stub for editors.
  return [...places.map(place => path.join(place, 'k6')), cached()].find(
    file => existsSync(file) && !file.includes('node_modules'),
  )
}

function cached(): string {
  return path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'parley', `k6-${version}`)
}

/** A module of two lines: `go install` asks the module's web page as well, which a closed network may not have. */
function buildK6(): string | undefined {
  if (spawnSync('go', ['version'], { stdio: 'ignore' }).status !== 0) return undefined
  console.log(`building k6 ${version} with Go, once; this takes some minutes`)
  const work = mkdtempSync(path.join(tmpdir(), 'parley-k6-'))
  try {
    writeFileSync(path.join(work, 'go.mod'), `module build\n\ngo 1.25\n\nrequire go.k6.io/k6/v2 ${version}\n`)
    writeFileSync(
      path.join(work, 'main.go'),
      'package main\n\nimport "go.k6.io/k6/v2/cmd"\n\nfunc main() { cmd.Execute() }\n',
    )
    const out = path.join(work, 'k6')
    const env = { ...process.env, GOFLAGS: '-mod=mod' }
    if (spawnSync('go', ['build', '-o', out, '.'], { cwd: work, env, stdio: 'inherit' }).status !== 0) return undefined
    mkdirSync(path.dirname(cached()), { recursive: true })
    renameSync(out, cached())
    return cached()
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
