import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proseOf, queued, toSay } from './speech.ts'

/** What is said of a text that grows character by character, and then ends. */
function heard(text: string): string[] {
  const all: string[] = []
  let from = 0
  for (let n = 1; n <= text.length; n++) {
    const { said, upTo } = toSay(text.slice(0, n), from, n === text.length)
    all.push(...said)
    from = upTo
  }
  return all
}

test('S1 sentences are said whole, once and in order, without marks', () => {
  assert.deepEqual(heard('This is **bold**. See [the page](https://example.org)! And an end'), [
    'This is bold.',
    'See the page!',
    'And an end',
  ])
  assert.deepEqual(heard('- milk\n- eggs\n\nThat is all.'), ['milk', 'eggs', 'That is all.'])
})

test('S2 a sentence that has not ended is not said before the answer has', () => {
  assert.deepEqual(toSay('One. Two and', 0, false), { said: ['One.'], upTo: 5 })
  assert.deepEqual(toSay('One. Two and', 5, false), { said: [], upTo: 5 })
  assert.deepEqual(toSay('One. Two and', 5, true), { said: ['Two and'], upTo: 12 })
})

test('S3 code and tables are not read out', () => {
  const text = 'Before.\n```ts\nconst a = 1.\n```\nBetween.\n| a | b |\n| - | - |\n| 1. | 2. |\nAfter.'
  assert.equal(proseOf(text), 'Before.\nBetween.\nAfter.')
  assert.deepEqual(heard(text), ['Before.', 'Between.', 'After.'])
})

test('S4 of what waits the newest three are said', () => {
  assert.deepEqual(queued(['1', '2'], ['3', '4', '5']), ['3', '4', '5'])
  assert.deepEqual(queued([], ['1']), ['1'])
})
