import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Groups } from './groups.ts'

test('[GR1] holds what a map of sets holds, whatever is added and taken', () => {
  const values = [{ id: 0 }, { id: 1 }, { id: 2 }]
  const step = fc.record({
    isAdd: fc.boolean(),
    key: fc.integer({ min: 0, max: 2 }),
    value: fc.constantFrom(...values),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), steps => {
      const groups = new Groups<number, { id: number }>()
      const model = new Map<number, Set<{ id: number }>>()
      for (const { isAdd, key, value } of steps) {
        if (isAdd) groups.add(key, value)
        else groups.delete(key, value)
        const set = model.get(key) ?? new Set()
        if (isAdd) set.add(value)
        else set.delete(value)
        if (set.size > 0) model.set(key, set)
        else model.delete(key)
        for (const k of [0, 1, 2]) {
          assert.deepEqual(groups.of(k), [...(model.get(k) ?? [])])
          assert.equal(groups.has(k), model.has(k))
        }
        assert.deepEqual(new Set(groups.keys()), new Set(model.keys()))
      }
    }),
  )
})
