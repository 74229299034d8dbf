import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import { mutants, patchNames, patchOf } from './mutant-list.ts'
import { faults } from './plan.ts'
import { ownFaults } from './streams.ts'

const isOwn = (name: string) => (ownFaults as readonly string[]).includes(name)
const root = path.resolve(import.meta.dirname, '../..')

test('[C0] every patch is in the list of planted bugs, and every fault of the list is known', () => {
  assert.deepEqual(patchNames().sort(), Object.keys(mutants).sort())
  for (const [mutant, { faults: struck, streams, tests }] of Object.entries(mutants)) {
    assert.equal([struck, streams, tests].filter(Boolean).length, 1, `${mutant}: one thing to run`)
    for (const name of [...(struck ?? []), ...(streams ?? [])]) assert.ok(name in faults || isOwn(name), name)
  }
})

for (const name of Object.keys(mutants)) {
  test(`[C0] the planted bug ${name} still applies`, () => {
    const { status, stderr } = spawnSync('git', ['apply', '--check', patchOf(name)], { cwd: root, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  })
}
