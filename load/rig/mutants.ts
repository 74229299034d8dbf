/**
 * `node load/rig/mutants.ts [name …]`: plants each bug in a scratch copy of the last commit (MUTANT_REF: of another), runs the rig against it and says
 * which checker noticed, after how long. All of them unless named. Ends with `N passed, N failed`; a whole run is written into
 * load/RESULTS.md. Refuses to touch this checkout.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { writeSection } from '#load/kit/results.ts'
import { sayCounts } from './crowd.ts'
import { mutants, patchOf } from './mutant-list.ts'

const root = path.resolve(import.meta.dirname, '../..')
/** A cluster that does not even start is no proof of anything. */
const runMsMax = 300_000

interface Result {
  name: string
  noticed: string[]
  isCaught: boolean
  seconds: number
}

async function main(): Promise<number> {
  const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(mutants)
  const results: Result[] = []
  for (const name of names) {
    if (!mutants[name]) throw new Error(`no such mutant: ${name}; known: ${Object.keys(mutants).join(', ')}`)
    const result = await runMutant(name)
    results.push(result)
    console.log(line(result))
  }
  if (process.argv.length === 2) {
    const text = [
      `Each planted bug runs under its faults with a short profile, ${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores, Node ${process.version}.`,
      '',
      '| mutant | noticed by | s |',
      '| --- | --- | ---: |',
      ...results.map(line),
    ].join('\n')
    writeSection('Mutants', text)
  }
  const failed = results.filter(r => !r.isCaught).length
  return sayCounts({ passed: results.length - failed, failed })
}

const line = ({ name, noticed, isCaught, seconds }: Result) =>
  `| ${name} | ${isCaught ? noticed.join(', ') : `NOT CAUGHT (${noticed.join(', ') || 'nothing failed'})`} | ${seconds} |`

async function runMutant(name: string): Promise<Result> {
  const { faults, caughtBy, slotS } = mutants[name]!
  const scratch = mkdtempSync(path.join(tmpdir(), `parley-mutant-${name}-`))
  const began = performance.now()
  try {
    const archive = execFileSync('git', ['archive', process.env['MUTANT_REF'] ?? 'HEAD'], {
      cwd: root,
      maxBuffer: 2 ** 28,
    })
    execFileSync('tar', ['-x', '-C', scratch], { input: archive })
    execFileSync('git', ['apply', patchOf(name)], { cwd: scratch, env: { ...process.env, GIT_DIR: '/nonexistent' } })
    symlinkSync(path.join(root, 'node_modules'), path.join(scratch, 'node_modules'))
    const args = ['short', '--faults', faults.join(','), '--root', scratch, '--seed', '1']
    const output = await run([...args, ...(slotS ? ['--slot', String(slotS)] : [])])
    if (!/\d+ passed, \d+ failed/.test(output)) throw new Error(`${name}: the run broke off:\n${output.slice(-3000)}`)
    const noticed = [...output.matchAll(/^FAIL (C\d+|.*)/gm)].map(m => m[1]!)
    return {
      name,
      noticed,
      isCaught: noticed.some(what => caughtBy.includes(what)),
      seconds: Math.round((performance.now() - began) / 1000),
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function run(args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, 'run.ts'), ...args], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', piece => {
      output += piece
      if (process.env['SHOW_OUTPUT']) process.stdout.write(piece)
    })
    const timer = setTimeout(() => child.kill('SIGTERM'), runMsMax)
    child.once('error', reject)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve(output)
    })
  })
}

process.exit((await main()) === 0 ? 0 : 1)
