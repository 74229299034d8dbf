/**
 * `node load/bench/k6.ts [scenario]`: runs a scenario of load/k6 against a product of its own, with k6 from K6 or PATH, or
 * built once with Go into the user's cache. Without either it says so and counts nothing. Ends with `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import { startProduct } from '#load/kit/product.ts'

const version = 'v2.2.0'
const scenario = path.resolve(import.meta.dirname, '../k6', `${process.argv[2] ?? 'smoke'}.ts`)

const k6 = findK6() ?? buildK6()
if (!k6) {
  console.log('skipped: neither k6 nor Go is installed')
  console.log('0 passed, 0 failed')
  process.exit(0)
}
const product = await startProduct()
const { status } = spawnSync(k6, ['run', '--quiet', '-e', `URL=${product.url}`, scenario], { stdio: 'inherit' })
await product.stop()
console.log(status === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
process.exit(status === 0 ? 0 : 1)

function findK6(): string | undefined {
  const given = process.env['K6']
  if (given) return given
  const places = (process.env['PATH'] ?? '').split(path.delimiter)
  // The npm package of the same name is an empty stub for editors.
  return [...places.map(folder => path.join(folder, 'k6')), cached()].find(
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
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-k6-'))
  try {
    writeFileSync(path.join(folder, 'go.mod'), `module build\n\ngo 1.25\n\nrequire go.k6.io/k6/v2 ${version}\n`)
    writeFileSync(
      path.join(folder, 'main.go'),
      'package main\n\nimport "go.k6.io/k6/v2/cmd"\n\nfunc main() { cmd.Execute() }\n',
    )
    const out = path.join(folder, 'k6')
    const env = { ...process.env, GOFLAGS: '-mod=mod' }
    if (spawnSync('go', ['build', '-o', out, '.'], { cwd: folder, env, stdio: 'inherit' }).status !== 0)
      return undefined
    mkdirSync(path.dirname(cached()), { recursive: true })
    renameSync(out, cached())
    return cached()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
