import assert from 'node:assert/strict'
import { test } from 'node:test'
import { partsOf, visible } from './values.ts'

test('V1 what could turn or hide text is spelled out, and nothing else changes', () => {
  assert.equal(visible('a\u202eb\u200bc\u2066d\u0000e'), 'a\\u{202e}b\\u{200b}c\\u{2066}d\\u{0}e')
  assert.equal(visible('\u{e0041}'), '\\u{e0041}')
  const plain = 'קניות\tחלב\nmilk – 牛乳 🥛'
  assert.equal(visible(plain), plain)
})

test('V2 every part of the arguments is there, whole', () => {
  const long = 'x'.repeat(5000)
  assert.deepEqual(partsOf({ title: long, n: 3, none: null, list: [1], 'a\u202eb': true }), [
    { name: 'title', text: long },
    { name: 'n', text: '3' },
    { name: 'none', text: 'null' },
    { name: 'list', text: '[\n  1\n]' },
    { name: 'a\\u{202e}b', text: 'true' },
  ])
  assert.deepEqual(partsOf('word'), [{ name: '', text: 'word' }])
  assert.deepEqual(partsOf([]), [{ name: '', text: '[]' }])
  assert.deepEqual(partsOf(undefined), [])
  assert.deepEqual(partsOf({}), [])
})
