import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endOf, gist } from './gist.ts'

test('G1 a message is one plain line: marks that mark go, the same signs elsewhere stay', () => {
  const cases: [string, string][] = [
    ['Added **milk**, *eggs* and `bread`.', 'Added milk, eggs and bread.'],
    ['#fault 500', '#fault 500'],
    ['# A title\n\ntext', 'A title text'],
    ['snake_case and 2 * 3 * 4', 'snake_case and 2 * 3 * 4'],
    ['> quoted\n- one\n- two', 'quoted one two'],
    ['Here:\n\n```ts\nconst a = 1\n```\n', 'Here: const a = 1'],
    ['| a | b |\n| - | - |\n| 1 | 2 |', 'a b 1 2'],
    ['see [the page](https://example.org/a) now', 'see the page now'],
    ['5 > 3', '5 > 3'],
    ['   ', ''],
  ]
  for (const [source, want] of cases) assert.equal(gist(source), want, JSON.stringify(source))
  assert.equal(gist('x'.repeat(1000)).length, 160)
})

test('G2 the end of a text is its last words, and says that more stood before', () => {
  assert.equal(endOf('It is short.\n'), 'It is short.')
  const end = endOf(`${'word '.repeat(60)}the last one`)
  assert.match(end, /^…word .*the last one$/)
  assert.ok([...end].length <= 81)
  assert.equal([...endOf('語'.repeat(200))].length, 81)
  assert.equal([...endOf('🚀'.repeat(200))].length, 81, 'never half a character')
})
