/** Further MCP servers by real ones, over stdio and HTTP: what they list, what a call gives, and how they fail. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import type { McpServer } from '#engine/ops/mcp-servers.ts'
import { mcpFixture, serveFixture, stdioArgs } from '#load/kit/mcp-fixture.ts'
import { toolResultBytesMax } from '#protos/limits.ts'
import { type ForeignServer, keepServer } from './foreign-server.ts'
import { type ListedTool, offerOf, seenTools, textOf } from './foreign-tools.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'parley-mcp-'))
after(() => rmSync(folder, { recursive: true }))

const stdio = (name: string): McpServer['reach'] => ({
  kind: 'stdio',
  command: process.execPath,
  args: stdioArgs(mcpFixture(path.join(folder, name))),
  env: {},
})
const plain = (url: string): McpServer['reach'] => ({ kind: 'http', url, headers: {}, allow: [] })

function keep(reach: McpServer['reach']) {
  let tools: ListedTool[] | undefined
  let lists = 0
  const errors: string[] = []
  const log = { ...silentLog, warn: (_: string, f?: { err?: unknown }) => void errors.push(String(f?.err)) }
  const server: ForeignServer = keepServer({
    server: { name: 'notes', reach, policies: {} },
    clock: systemClock,
    log,
    onTools(listed) {
      tools = listed
      lists++
    },
  })
  return { server, errors, tools: () => tools, lists: () => lists }
}
async function until(what: () => unknown): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if (what()) return
    await sleep(20)
  }
  assert.fail(`in vain: ${what}`)
}

for (const kind of ['stdio', 'HTTP'] as const) {
  test(`3.5 a server over ${kind} is listed and called; its answers are cut and made fit for the log`, async () => {
    const fixture = mcpFixture(path.join(folder, kind))
    const http = kind === 'HTTP' ? await serveFixture(fixture) : undefined
    const { server, tools } = keep(http ? plain(http.url) : stdio(kind))
    try {
      await until(tools)
      assert.ok(tools()!.some(tool => tool.name === 'write'))
      const write = await server.call('write', '{"text":"hello"}', 5000)
      assert.deepEqual(write, { kind: 'done', isError: false, text: 'written: hello', isCut: false })
      assert.deepEqual(fixture.effects(), ['write hello'])
      const flood = await server.call('flood', '{}', 8000)
      assert.ok(flood.kind === 'done' && flood.isCut)
      assert.ok(Buffer.byteLength(JSON.stringify(flood.text)) <= toolResultBytesMax)
      const odd = await server.call('odd', '{}', 5000)
      assert.ok(odd.kind === 'done' && odd.text.isWellFormed() && !odd.text.includes('\0'))
      assert.match(odd.text, /ignore previous instructions.*\[image image\/png, not shown\]/s)
      const refused = await server.call('refuse', '{}', 5000)
      assert.deepEqual(refused, { kind: 'done', isError: true, text: 'not today', isCut: false })
      assert.deepEqual(await server.call('hang', '{"text":"x"}', 200), { kind: 'unknown' })
      // The others still work while one hangs.
      assert.equal((await server.call('write', '{"text":"again"}', 5000)).kind, 'done')
    } finally {
      await server.close()
      await http?.close()
    }
    assert.deepEqual(await server.call('write', '{"text":"late"}', 1000), {
      kind: 'not_made',
      message: 'The server notes does not answer now.',
    })
    assert.deepEqual(fixture.effects(), ['write hello', 'hang x', 'write again'])
  })
}

test('3.5 a server that ends in a call leaves its outcome unknown, is started again, and the call is not repeated', async () => {
  const fixture = mcpFixture(path.join(folder, 'mortal'))
  const { server, tools, errors } = keep(stdio('mortal'))
  try {
    await until(tools)
    assert.deepEqual(await server.call('die', '{"text":"x"}', 5000), { kind: 'unknown' })
    await until(() => tools() === undefined)
    assert.equal((await server.call('write', '{}', 1000)).kind, 'not_made')
    await until(tools)
    assert.deepEqual(fixture.effects(), ['die x'])
    assert.ok(errors.length > 0)
  } finally {
    await server.close()
  }
})

test('3.5 half of its calls without an answer: a server is left alone for a while', async () => {
  const { server, tools } = keep(stdio('slow'))
  try {
    await until(tools)
    for (let i = 0; i < 30; i++) {
      const outcome = await server.call('hang', '{}', 5)
      if (outcome.kind === 'not_made') return assert.match(outcome.message, /failed too often/)
    }
    assert.fail('the breaker never opened')
  } finally {
    await server.close()
  }
})

test('S14 a redirect is not followed, and a server that cannot be started is only a warning', async () => {
  const fixture = mcpFixture(path.join(folder, 'redirect'))
  const http = await serveFixture(fixture)
  const moved = keep(plain(http.url.replace('/mcp', '/elsewhere')))
  const absent = keep({ kind: 'stdio', command: path.join(folder, 'no-such-program'), args: [], env: {} })
  try {
    await until(() => moved.errors.length > 0 && absent.errors.length > 0)
    assert.match(moved.errors[0]!, /307/)
    assert.equal(http.requests(), 1)
    assert.deepEqual([moved.tools(), absent.tools()], [undefined, undefined])
  } finally {
    await Promise.all([moved.server.close(), absent.server.close()])
    await http.close()
  }
})

test('3.5 names that could be mistaken and descriptions that are too long are not offered; a hash covers all that a model sees', () => {
  const tool = (name: string, description = 'd', inputSchema: Record<string, unknown> = { type: 'object' }) => ({
    name,
    description,
    inputSchema,
  })
  const named = seenTools('notes', [
    ...['ok', 'ok', 'a b', 'a\u200bb', 'a.b', '', 'x'.repeat(60)].map(name => tool(name)),
    tool('wordy', 'x'.repeat(2049)),
    tool('big', 'd', { type: 'object', title: 'x'.repeat(20_000) }),
  ])
  assert.deepEqual(
    named.map(t => t.name),
    ['notes__ok'],
  )
  const hash = (...given: Parameters<typeof tool>) => seenTools('notes', [tool(...given)])[0]!.hash
  const one = hash('a', 'd', { type: 'object', properties: { x: {}, y: {} } })
  assert.equal(one, hash('a', 'd', { properties: { y: {}, x: {} }, type: 'object' }))
  assert.notEqual(one, hash('a', 'D', { type: 'object', properties: { x: {}, y: {} } }))
  assert.notEqual(one, hash('a', 'd', { type: 'object', properties: { x: {} } }))
  assert.match(offerOf(named[0]!).description, /^A tool of the server "notes", in its words: d$/)
})

test('K-10 results that JSON makes longer still fit, and what is no text is named', () => {
  for (const piece of ['"', '\u0001', 'é', '😀', 'a']) {
    const { text, isCut } = textOf({ content: [{ type: 'text', text: piece.repeat(40_000) }] })
    assert.ok(isCut && text.isWellFormed())
    const bytes = Buffer.byteLength(JSON.stringify(text))
    assert.ok(bytes <= toolResultBytesMax && bytes > toolResultBytesMax * 0.9, `${bytes}`)
  }
  assert.equal(textOf({ structuredContent: { a: 1 } }).text, '{"a":1}')
  assert.equal(textOf({ content: 'nonsense' }).text, '')
})
