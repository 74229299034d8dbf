/** How the processes that serve are started. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { nodeArgs } from './node-args.ts'

test('V8 has a helper for each core but one, at least one and at most four', () => {
  for (const [cores, helpers] of [
    [1, 1],
    [2, 1],
    [4, 3],
    [64, 4],
  ] as const) {
    for (const script of ['gateway', 'engine'] as const)
      assert.equal(nodeArgs(script, cores)[0], `--v8-pool-size=${helpers}`)
  }
  assert.deepEqual(nodeArgs('model'), [])
})

test('Node takes the arguments', () => {
  for (const script of ['gateway', 'engine'] as const) {
    const said = execFileSync(process.execPath, [...nodeArgs(script), '-p', 'process.execArgv.length'])
    assert.equal(Number(said), nodeArgs(script).length + 2)
  }
})
