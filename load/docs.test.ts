import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { metricsPage } from './kit/metrics-page.ts'

const root = path.resolve(import.meta.dirname, '..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')
const pages = [
  ...readdirSync(root).filter(name => name.endsWith('.md')),
  ...readdirSync(path.join(root, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
]

test('[DOC8] docs/metrics.md is what the table of metrics gives', () => {
  assert.equal(read('docs/metrics.md'), metricsPage(), 'run: node load/kit/metrics-page.ts')
})

test('[DOC9] each dependency has one line that says what for and why not less, and no line is left over', () => {
  const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>>
  const wanted = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap(kind =>
    Object.keys(manifest[kind]!),
  )
  const lines = read('docs/dependencies.md')
    .split('\n')
    .filter(line => line.startsWith('| `'))
  const named = lines.flatMap(line => [...line.split(' | ')[0]!.matchAll(/`([^`]+)`/g)].map(m => m[1]!))
  assert.deepEqual(named.toSorted(), wanted.toSorted())
  for (const line of lines)
    assert.ok(
      line.split(' | ').every(cell => cell.replaceAll('|', '').trim().length > 3),
      line,
    )
})

test('[DOC10] links between the pages lead somewhere', () => {
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:|mailto:)([^)\s]+)\)/g)) {
      const [file, anchor] = target!.split('#') as [string, string | undefined]
      const at = file === '' ? page : path.join(path.dirname(page), file)
      assert.ok(existsSync(path.join(root, at)), `${page} links to ${target}`)
      if (anchor && at.endsWith('.md')) {
        const anchors = [...read(at).matchAll(/^#+ (.+)$/gm)].map(m =>
          m[1]!
            .toLowerCase()
            .replace(/[^\p{L}\p{N} _-]/gu, '')
            .replaceAll(' ', '-'),
        )
        assert.ok(anchors.includes(anchor), `${page} links to ${target}`)
      }
    }
  }
})

test('[DOC11] commands that the README names exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  for (const [, name] of read('README.md').matchAll(/npm (?:run )?([a-z:]+)/g)) {
    assert.ok(['ci', 'install'].includes(name!) || name! in scripts, `npm ${name}`)
  }
})
