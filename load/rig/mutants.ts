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
import { type Mutant, mutants, patchOf } from './mutant-list.ts'

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
  const { tests, caughtBy } = mutants[name]!
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
    const output = await run(commandOf(mutants[name]!, scratch), scratch)
    if (!/\d+ passed, \d+ failed/.test(output)) throw new Error(`${name}: the run broke off:\n${output.slice(-3000)}`)
    const found = tests ? output.matchAll(/^FAILED \S+\n {2}(\S+?),?\s/gm) : output.matchAll(/^FAIL (C\d+|.*)/gm)
    const noticed = [...new Set([...found].map(m => m[1]!))]
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

/** The rigs are those of this checkout, against the copy; tests are the copy's own. */
function commandOf({ faults, slotS, streams, tests }: Mutant, scratch: string): string[] {
  if (tests) return [path.join(scratch, 'load/test.ts'), ...tests]
  const rig = path.join(import.meta.dirname, 'run.ts')
  const common = ['--root', scratch, '--seed', '1']
  if (streams) return [rig, 'streams', '--runs', '60', '--parallel', '12', '--faults', streams.join(','), ...common]
  const slot = slotS ? ['--slot', String(slotS)] : []
  return [rig, 'short', '--faults', (faults ?? []).join(','), ...common, ...slot]
}

function run(command: string[], scratch: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, command, {
      cwd: command[0]!.startsWith(scratch) ? scratch : root,
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
