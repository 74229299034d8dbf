/**
 * Stock clients of the Model Context Protocol against the product: the Python SDK's and the inspector's command line list and
 * call the five tools over stdio (by the documented command) and over HTTP. Installs both into a folder for temporary files,
 * writes the result into load/RESULTS.md. Needs python3 with venv, and the network for the install.
 *
 *   node load/rig/mcp-clients.ts [--keep FOLDER]     FOLDER: installs once, used again
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { startTestPostgres } from '../kit/postgres.ts'
import { writeSection } from '../kit/results.ts'
import { startStack } from '../kit/stack.ts'

const execute = promisify(execFile)
const root = path.resolve(import.meta.dirname, '../..')
const names = ['add_task', 'list_tasks', 'complete_task', 'delete_task', 'update_task']

interface Row {
  client: string
  version: string
  transport: string
  protocol: string
  tools: number
  calls: number
}

const { values } = parseArgs({ options: { keep: { type: 'string' } } })
const home = path.resolve(values.keep ?? mkdtempSync(path.join(tmpdir(), 'parley-mcp-clients-')))
const python = path.join(home, 'venv/bin/python')
const inspector = path.join(home, 'inspector/node_modules/@modelcontextprotocol/inspector')
/** This Node for npm and for the clients: the inspector needs a newer one than systems have. */
const environment = { ...process.env, PATH: `${path.dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }
const postgres = await startTestPostgres()
process.env['PARLEY_TEST_PG'] = postgres.adminUrl
try {
  await install()
  const stack = await startStack()
  try {
    const { token } = await stack.user('ana')
    const http = { url: `${stack.url}/mcp`, token }
    // As docs/protocol.md has it.
    const stdio = {
      command: 'npm',
      args: ['run', 'parley', '--', 'mcp', '--token', token],
      env: { PATH: environment.PATH, HOME: home, DATABASE_URL: stack.databaseUrl },
      cwd: root,
    }
    // On its command line the inspector keeps the first -- for itself; a file says it whole.
    const config = path.join(home, 'mcp.json')
    writeFileSync(config, JSON.stringify({ mcpServers: { parley: { type: 'stdio', ...stdio } } }))
    const rows = [
      await byPython('stdio', stdio),
      await byPython('Streamable HTTP', http),
      await byInspector('stdio', ['--config', config, '--server', 'parley']),
      await byInspector('Streamable HTTP', [
        http.url,
        '--transport',
        'http',
        '--header',
        `Authorization: Bearer ${token}`,
      ]),
    ]
    report(rows)
  } finally {
    await stack.stop()
  }
} finally {
  await postgres.stop()
  if (values.keep === undefined) rmSync(home, { recursive: true, force: true })
}

async function install(): Promise<void> {
  mkdirSync(path.join(home, 'inspector'), { recursive: true })
  if (!existsSync(python)) {
    await execute('python3', ['-m', 'venv', path.join(home, 'venv')])
    await execute(python, ['-m', 'pip', 'install', '--quiet', 'mcp'])
  }
  if (!existsSync(inspector)) {
    const quiet = ['--no-audit', '--no-fund', '--loglevel=error', '--engine-strict']
    await execute('npm', ['install', ...quiet, '@modelcontextprotocol/inspector@latest'], {
      cwd: path.join(home, 'inspector'),
      env: environment,
    })
  }
}

async function byPython(transport: string, given: object): Promise<Row> {
  const script = path.join(import.meta.dirname, 'mcp-clients.py')
  const { stdout } = await execute(python, [script, JSON.stringify(given)], { timeout: 60_000 })
  return { client: 'Python SDK', transport, ...(JSON.parse(stdout) as Omit<Row, 'client' | 'transport'>) }
}

/** One process of the inspector for each request, as a person at a shell would. */
async function byInspector(transport: string, target: string[]): Promise<Row> {
  const cli = path.join(home, 'inspector/node_modules/.bin/mcp-inspector')
  const { version } = JSON.parse(readFileSync(path.join(inspector, 'package.json'), 'utf8')) as { version: string }
  let calls = 0
  // biome-ignore lint/suspicious/noExplicitAny: the inspector's own JSON
  const ask = async (...method: string[]): Promise<any> => {
    const { stdout } = await execute(process.execPath, [cli, '--cli', ...target, '--method', ...method], {
      timeout: 60_000,
      cwd: root,
      env: { ...environment, HOME: home },
    })
    return JSON.parse(stdout)
  }
  const call = async (tool: string, args: Record<string, string>) => {
    calls++
    const given = Object.entries(args).flatMap(([name, value]) => ['--tool-arg', `${name}=${value}`])
    return (await ask('tools/call', '--tool-name', tool, ...given)).structuredContent
  }
  const { tools } = await ask('tools/list')
  check(JSON.stringify(tools.map((tool: { name: string }) => tool.name)) === JSON.stringify(names), 'five tools')
  const { task_id } = await call('add_task', { title: 'from the inspector' })
  check((await call('update_task', { task_id, description: 'two' })).description === 'two', 'update_task')
  check((await call('complete_task', { task_id })).completed === true, 'complete_task')
  const found = await call('list_tasks', { status: 'completed', query: 'inspector' })
  check(found.total === 1 && found.tasks[0].id === task_id, 'list_tasks')
  check((await call('delete_task', { task_id })).task_id === task_id, 'delete_task')
  check((await call('list_tasks', {})).total === 0, 'nothing is left')
  return { client: 'inspector --cli', version, transport, protocol: '', tools: tools.length, calls }
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`the inspector saw something else: ${what}`)
}

function report(rows: Row[]): void {
  const lines = rows.map(
    r => `| ${r.client} ${r.version} | ${r.transport} | ${r.protocol || '–'} | ${r.tools} | ${r.calls} |`,
  )
  const text = `\`node load/rig/mcp-clients.ts\`, ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model ?? ''}, Node ${process.version}:
clients as their makers publish them list the five tools and call each; stdio by \`npm run parley -- mcp --token …\`.

| client | transport | protocol | tools listed | calls, as expected |
| --- | --- | --- | ---: | ---: |
${lines.join('\n')}
`
  console.log(text)
  writeSection('MCP clients', text)
}
