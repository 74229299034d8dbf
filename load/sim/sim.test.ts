/** The seeds that once failed and a few others, on the very code that runs in production; and that planted bugs still apply. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { bugs } from './bugs.ts'
import { hook, planted } from './hooks.ts'
import { planOf } from './plan.ts'
import seeds from './seeds.json' with { type: 'json' }

hook()
const { simulate } = await import('./world.ts')
const root = path.resolve(import.meta.dirname, '../..')
const eventsMin = 300

const all = [...seeds.fixed.map(seed => ({ seed, found: '' })), ...seeds.kept]
for (const { seed, found } of all) {
  test(`[SIM1] seed ${seed} keeps every promise${found === '' ? '' : `: ${found}`}`, async () => {
    const plan = planOf(seed)
    assert.ok(plan.engines >= 3 && plan.gateways >= 3 && plan.people >= 3)
    const { problems, events, trace } = await simulate(plan)
    assert.deepEqual(problems, [], `seed ${seed}\n${JSON.stringify(plan)}\n${trace.slice(-200).join('\n')}`)
    assert.ok(events >= eventsMin, `${events} events`)
  })
}

test('[SIM2] the same seed is the same run, to the last line of its trace', async () => {
  const plan = planOf(seeds.fixed[0]!)
  const [a, b] = [await simulate(plan), await simulate(plan)]
  assert.deepEqual(a.trace, b.trace)
  assert.equal(a.turns, b.turns)
})

test('[SIM3] every planted bug still applies to the text that it changes', () => {
  for (const bug of bugs) {
    const texts = new Map<string, string>()
    for (const patch of bug.patches) {
      const text = texts.get(patch.file) ?? readFileSync(path.join(root, patch.file), 'utf8')
      texts.set(patch.file, planted(text, patch))
    }
  }
})
