import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { emptyDoc, grow } from './blocks.ts'
import { mend } from './mend.ts'

const sample = [
  '# Title',
  'A paragraph with **bold**, *emphasis*, `code` and a [link](https://example.org/a?b=c).',
  'Two\nlines of it.',
  '1. one\n2. two\n   - inner\n\n   still two',
  '| a | b |\n| --- | ---: |\n| 1 | 2 |',
  '```ts\nconst a = `x`\n\n# not a title\n```',
  '> quoted\n> text',
  '---',
  'The end, ünïcödé 決める 🚀.',
].join('\n\n')

test('M1 however a text is cut into deltas, its end is the same as when it came whole', t => {
  const seed = Date.now() & 0x7fff_ffff
  t.diagnostic(`seed ${seed}`)
  const whole = grow(emptyDoc('answer'), sample, true).blocks
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), sizes => {
      let doc = emptyDoc('answer')
      let at = 0
      for (let i = 0; at < sample.length; i++) {
        at += sizes[i % sizes.length]!
        doc = grow(doc, sample.slice(0, at), false)
      }
      const closed = doc.blocks.slice(0, doc.openFrom)
      assert.deepEqual(closed, whole.slice(0, closed.length), 'closed blocks are final')
      assert.deepEqual(grow(doc, sample, true).blocks, whole)
    }),
    { seed, numRuns: 60 },
  )
})

test('M2 a closed block stays the same object while the text grows, and keeps its key', () => {
  let doc = emptyDoc('answer')
  const seen = new Map<number, unknown>()
  for (let at = 1; at <= sample.length; at++) {
    doc = grow(doc, sample.slice(0, at), false)
    for (const block of doc.blocks.slice(0, doc.openFrom)) {
      const before = seen.get(block.offset)
      if (before) assert.equal(block, before)
      seen.set(block.offset, block)
    }
  }
  assert.ok(seen.size >= 7)
})

test('M3 marks that nothing closes yet are held back, and finished pairs stay', () => {
  const cases: [string, string][] = [
    ['some **bo', 'some bo'],
    ['some **bold** and *', 'some **bold** and '],
    ['some **bold*', 'some bold'],
    ['a `co', 'a co'],
    ['a `code` b', 'a `code` b'],
    ['see [the li', 'see the li'],
    ['see [the link](https://exa', 'see the link'],
    ['see [the link](https://example.org)', 'see [the link](https://example.org)'],
    ['text\n-', 'text\n'],
    ['text\n#', 'text\n'],
    ['```t', ''],
    ['```ts\nlet a\n``', '```ts\nlet a\n'],
    ['| a | b', ''],
    ['Hi\n\n| a | b |\n', 'Hi\n\n'],
    ['Hi\n\n| a | b |\n| -', 'Hi\n\n'],
    ['| a | b |\n| - | -', ''],
    ['| a |\n| - |\n', '| a |\n| - |\n'],
    ['| a |\n| - |\n| 1', '| a |\n| - |\n| 1'],
    ['| a |\nno table', '| a |\nno table'],
    ['| a |\n| b |\n', '| a |\n| b |\n'],
    ['snake_case_name', 'snake_case_name'],
    ['2 * 3 * 4', '2 * 3 * 4'],
  ]
  for (const [source, want] of cases) assert.equal(mend(source), want, JSON.stringify(source))
})

test('M4 no prefix of an answer shows a raw mark of bold, of a fence or of a table', () => {
  const text =
    'Say **bold words** and *this*.\n\n- a **b** c\n- `d`\n\n```js\nx\n```\n\n| e | f |\n| :-- | ---: |\n| 1 | **2** |\n\nAfter **that**.'
  let doc = emptyDoc('answer')
  for (let at = 1; at <= text.length; at++) {
    doc = grow(doc, text.slice(0, at), false)
    const shown = doc.blocks.map(b => b.html.replace(/<[^>]+>/g, '')).join('\n')
    assert.doesNotMatch(shown, /\*\*|```|\|/, JSON.stringify(text.slice(0, at)))
  }
})

test('M7 code that is shown stays code, and only grows', () => {
  const code = 'const a = `**b`\n\nif (_c) d ** e\n// `` ~~~'
  const text = `So:\n\n\`\`\`js\n${code}\n\`\`\`\n\nThen _this_.`
  let doc = emptyDoc('answer')
  let shown = ''
  for (let at = 1; at <= text.length; at++) {
    doc = grow(doc, text.slice(0, at), false)
    const html = doc.blocks.map(b => b.html).join('')
    const now = /<pre><code[^>]*>(.*)<\/code><\/pre>/s.exec(html)?.[1] ?? ''
    assert.ok(now.trimEnd().startsWith(shown.trimEnd()), JSON.stringify([text.slice(0, at), shown, now]))
    assert.ok(!shown || html.includes('<pre>'), JSON.stringify(text.slice(0, at)))
    shown = now
  }
  assert.equal(shown.trimEnd(), code)
})

test('M5 markup of the writer is text, pictures are links, and no style is inlined', () => {
  const html = (source: string) =>
    grow(emptyDoc('answer'), source, true)
      .blocks.map(b => b.html)
      .join('')
  assert.doesNotMatch(html('<img src=x onerror=alert(1)> <script>alert(1)</script>'), /<(?:img|script)/)
  assert.match(html('![me](https://evil.example/a.png)'), /<a href="https:\/\/evil\.example\/a\.png">me<\/a>/)
  assert.doesNotMatch(html('![me](https://evil.example/a.png)'), /<img/)
  assert.doesNotMatch(html('[x](javascript:alert(1))'), /href/)
  assert.doesNotMatch(html('| a |\n| --: |\n| 1 |'), /style=/)
})

test('M6 what people write keeps its lines and is no Markdown document', () => {
  const html = (source: string) =>
    grow(emptyDoc('person'), source, true)
      .blocks.map(b => b.html)
      .join('')
  assert.match(html('one\ntwo'), /one<br>\s*two/)
  assert.doesNotMatch(html('# not a title'), /<h1/)
  assert.doesNotMatch(html('1. not a list'), /<ol/)
  assert.match(html('see https://example.org/a'), /<a href="https:\/\/example\.org\/a">/)
})
