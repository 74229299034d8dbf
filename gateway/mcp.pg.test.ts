/** A stock client of the protocol lists and calls the tools over both transports; what is not a call is refused as HTTP. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { type Person, type TestHttp, testHttp } from '#load/kit/http.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'

const script = new URL('./mcp-stdio.ts', import.meta.url).pathname
const names = ['add_task', 'list_tasks', 'complete_task', 'delete_task', 'update_task']
let database: TestDatabase
let http: TestHttp
let ana: Person
let ben: Person
let url: URL

before(async () => {
  database = await testDatabase()
  http = await testHttp({ database })
  ana = await http.person('ana')
  ben = await http.person('ben')
  await http.app.listen({ host: '127.0.0.1', port: 0 })
  url = new URL(`http://127.0.0.1:${(http.app.server.address() as AddressInfo).port}/mcp`)
})
after(async () => {
  await http.close()
  await database.drop()
})

type Transport = Parameters<Client['connect']>[0]
async function withClient(transport: unknown, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ name: 'test', version: '1.0.0' })
  await client.connect(transport as Transport)
  try {
    await work(client)
  } finally {
    await client.close()
  }
}
const overHttp = (token: string) =>
  new StreamableHTTPClientTransport(url, { requestInit: { headers: { authorization: `Bearer ${token}` } } })
const environment = () => ({ PATH: process.env['PATH'] ?? '', DATABASE_URL: database.url })
const overStdio = (token: string) =>
  new StdioClientTransport({
    command: process.execPath,
    args: [script, '--token', token],
    env: environment(),
    stderr: 'pipe',
  })

// biome-ignore lint/suspicious/noExplicitAny: results differ by tool
const structured = (result: unknown): any => (result as { structuredContent: unknown }).structuredContent

for (const [name, open] of [
  ['stdio', overStdio],
  ['Streamable HTTP', overHttp],
] as const) {
  test(`K-01 a stock client lists five tools and calls each over ${name}`, async () => {
    await withClient(open(ana.token), async client => {
      const { tools } = await client.listTools()
      assert.deepEqual(
        tools.map(tool => tool.name),
        names,
      )
      for (const { inputSchema } of tools) assert.ok(inputSchema.properties?.['user_id'])
      const call = (tool: string, args: object) => client.callTool({ name: tool, arguments: { ...args } })
      const added = await call('add_task', { title: `milk over ${name}`, user_id: ana.id })
      const { task_id } = structured(added)
      assert.match((added.content as { text: string }[])[0]!.text, /^Added: milk over/)
      assert.equal(structured(await call('update_task', { task_id, description: 'two' })).description, 'two')
      assert.equal(structured(await call('complete_task', { task_id })).completed, true)
      const listed = structured(await call('list_tasks', { status: 'completed', query: name }))
      assert.deepEqual([listed.total, listed.tasks[0].id], [1, task_id])
      assert.equal(structured(await call('delete_task', { task_id })).task_id, task_id)
      const again = await call('delete_task', { task_id })
      assert.deepEqual([again.isError, structured(again).error], [true, 'TaskNotFound'])
      const foreign = await call('add_task', { title: 'x', user_id: ben.id })
      assert.deepEqual([foreign.isError, structured(foreign).error], [true, 'Unauthorized'])
      assert.equal(structured(await call('add_task', { title: '', more: true })).error, 'InvalidInput')
      await assert.rejects(call('drop_tables', {}), /no such tool/)
    })
  })

  test(`K-09 a key makes a call over ${name} happen once`, async () => {
    await withClient(open(ben.token), async client => {
      const params = {
        name: 'add_task',
        arguments: { title: `once over ${name}` },
        _meta: { idempotencyKey: `key-${name.length}` },
      }
      const [one, two] = [await client.callTool(params), await client.callTool(params)]
      assert.equal(structured(one).task_id, structured(two).task_id)
    })
  })
}

const post = (body: unknown, headers: Record<string, string> = {}) =>
  http.call('POST', '/mcp', { token: ana.token, body, headers: { 'content-type': 'application/json', ...headers } })
const list = { jsonrpc: '2.0', id: 1, method: 'tools/list' }

test('3.3 /mcp wants the bearer, an own Origin and a known version; notifications are 202; there is nothing to GET', async () => {
  const bare = await http.call('POST', '/mcp', { body: list })
  assert.deepEqual([bare.status, bare.headers['www-authenticate']], [401, 'Bearer'])
  assert.equal((await post(list, { origin: 'https://evil.example' })).status, 403)
  assert.equal((await post(list, { 'mcp-protocol-version': '1999-01-01' })).status, 400)
  assert.equal((await post({ jsonrpc: '2.0', method: 'notifications/initialized' })).status, 202)
  assert.equal((await post({ hello: 1 })).status, 400)
  assert.equal((await post(list)).body.result.tools.length, 5)
  const get = await http.call('GET', '/mcp', { token: ana.token })
  assert.deepEqual([get.status, get.headers['allow']], [405, 'POST, OPTIONS'])
  assert.equal((await http.call('DELETE', '/mcp', { token: ana.token })).status, 405)
})

test('3.5 over HTTP there are no sessions: one that is named is 404 and stands for nobody', async () => {
  const session = { 'mcp-session-id': '0191c0de-0000-7000-8000-000000000000' }
  const named = await post(list, session)
  assert.deepEqual([named.status, named.body.error_code], [404, 'NOT_FOUND'])
  assert.equal((await http.call('POST', '/mcp', { body: list, headers: session })).status, 401)
  const begun = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'test', version: '1' } }
  const opened = await post({ jsonrpc: '2.0', id: 1, method: 'initialize', params: begun })
  assert.deepEqual([opened.status, opened.headers['mcp-session-id']], [200, undefined])
})

test('K-11 what came over each door is in the audit trail', async () => {
  const { rows } = await http.owner.pool.query(
    `select distinct detail ->> 'door' as door from audit where action like 'tool.%' order by 1`,
  )
  assert.deepEqual(
    rows.map(r => r.door),
    ['mcp', 'stdio'],
  )
})

async function stdio(token: string, input: string): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [script, '--token', token], { env: environment() })
  let [out, err] = ['', '']
  child.stdout.on('data', piece => (out += piece))
  child.stderr.on('data', piece => (err += piece))
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number]
  return { code, out, err }
}

test('4 parley mcp answers what was asked before its input ended, prints only JSON-RPC and exits', async () => {
  const calls = Array.from({ length: 3 }, (_, i) => ({
    jsonrpc: '2.0',
    id: i + 1,
    method: 'tools/call',
    params: { name: 'add_task', arguments: { title: `task ${i}` } },
  }))
  const { code, out, err } = await stdio(ana.token, calls.map(call => `${JSON.stringify(call)}\n`).join(''))
  assert.equal(code, 0, err)
  const answers = out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
  assert.deepEqual(new Set(answers.map(a => a.id)), new Set([1, 2, 3]))
  for (const answer of answers) assert.equal(answer.result.structuredContent.success, true)
})

test('4 parley mcp refuses a token that is not valid in one sentence on stderr', async () => {
  const { code, out, err } = await stdio('nonsense', '')
  assert.deepEqual([code, out, err], [1, '', '--token: TOKEN_INVALID\n'])
})
