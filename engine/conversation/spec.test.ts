/** SPEC.md and the tests name the same rules. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'

const here = import.meta.dirname

test('[SPEC1] every rule is named by a test, and every test names a rule', () => {
  const spec = readFileSync(path.join(here, 'SPEC.md'), 'utf8')
  const rules = [...spec.matchAll(/^- \*\*([A-Z]\d+)\*\*/gm)].map(m => m[1]!)
  assert.equal(new Set(rules).size, rules.length, 'a rule is there twice')
  const named = new Set<string>()
  for (const folder of [here, path.join(here, '../actor')]) {
    for (const file of readdirSync(folder).filter(f => f.endsWith('.test.ts') && f !== 'spec.test.ts')) {
      const text = readFileSync(path.join(folder, file), 'utf8')
      for (const [title] of text.matchAll(/test\(\s*(['"`])\[.*?\1/g)) {
        for (const [, rule] of title.matchAll(/\[([A-Z]\d+)\]/g)) named.add(rule!)
      }
    }
  }
  assert.deepEqual(
    rules.filter(r => !named.has(r)),
    [],
    'rules without a test',
  )
  assert.deepEqual(
    [...named].filter(r => !rules.includes(r)),
    [],
    'tests without a rule',
  )
})
