import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { rates } from '#gateway/http/limiter.ts'
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

test('[DOC13] routes on the page of the protocol are served', () => {
  const { rows } = JSON.parse(read('load/authorization.json')) as {
    rows: { route: string; cells: Record<string, number> }[]
  }
  // Bodies and queries are the page's; names of parameters are not compared.
  const shape = (route: string) => route.replace(/\?.*$/, '').replace(/:\w+/g, ':').replace(' /api/', ' /').trim()
  // A route that serves nobody yet is not one that the page may promise.
  const served = rows.filter(row => Object.values(row.cells).some(status => status < 300 || status === 401))
  const known = new Set(served.map(row => shape(row.route)))
  const told = read('docs/protocol.md')
    .split('\n')
    .filter(line => /^\| `(GET|POST|PATCH|DELETE) /.test(line))
    .flatMap(line => [...line.split(' | ')[0]!.matchAll(/`((?:GET|POST|PATCH|DELETE) [^`]+)`/g)].map(m => shape(m[1]!)))
  assert.ok(told.length > 15)
  for (const route of told) assert.ok(known.has(route), `the page tells ${route}, which is no route`)
})

test('[DOC14] rates on the page of the protocol are the limiter’s', () => {
  const page = read('docs/protocol.md')
  const per = (name: keyof typeof rates, ms: number) => {
    assert.equal(rates[name].ms, ms, name)
    return rates[name].count.toLocaleString('en-US')
  }
  const [minute, hour] = [60_000, 3_600_000]
  const phrases = [
    `| sends | ${per('send', minute)}/min for a user, burst ${rates.send.burst} |`,
    `| REST requests | ${per('rest_user', minute)}/min for a user, ${per('rest_address', minute)}/min for an address |`,
    `| register, login | ${per('login_account', minute)}/min for an account, ${per('login_address', minute)}/min for an address, each on its own |`,
    `| questions to the assistant | ${per('ai_user', minute)}/min and ${per('ai_user_hour', hour)}/h for a user, ${per('ai_conversation', minute)}/min for a conversation |`,
    `| refresh | ${per('refresh', minute)}/min for a session |`,
    `| ${per('conversations', hour)}/h; ${per('members', hour)}/h; ${per('search', minute)}/min |`,
  ]
  for (const phrase of phrases) assert.ok(page.includes(phrase), phrase)
})
