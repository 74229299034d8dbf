/** Two planted bugs, each in a process of its own: what the simulation is for. bugs-run.ts plants all of them. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

const run = path.join(import.meta.dirname, 'run.ts')

for (const bug of ['ack-early', 'no-look-up']) {
  test(`[SIM4] the planted bug ${bug} is found`, async () => {
    const args = [run, '--seeds', '500', '--seconds', '25', '--bug', bug]
    const failed = await promisify(execFile)(process.execPath, args, { maxBuffer: 1e8 }).then(
      () => undefined,
      (error: { code: number; stdout: string }) => error,
    )
    assert.equal(failed?.code, 1, 'no seed failed')
    assert.match(failed.stdout, /^seed \d+ fails/m)
  })
}
