/** The operator's list of further servers: what is read, and one sentence for each mistake. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, readConfig } from './config.ts'
import { readMcpServers } from './mcp-servers.ts'

test('[MCP1] servers are read by name, over stdio and https, with a policy for each tool', () => {
  const given = {
    notes: { command: 'notes', args: ['-x'], env: { DIR: '/srv' }, tools: { search: 'auto', wipe: 'off' } },
    tickets: { url: 'https://mcp.example.org/mcp', headers: { authorization: 'Bearer x' }, allow: ['10.1.0.0/16'] },
    local: { url: 'http://localhost:8000/mcp', plain: true },
  }
  const read = readMcpServers(JSON.stringify(given))
  assert.ok('servers' in read)
  assert.deepEqual(
    read.servers.map(s => [s.name, s.reach.kind]),
    [
      ['notes', 'stdio'],
      ['tickets', 'http'],
      ['local', 'http'],
    ],
  )
  assert.deepEqual({ ...read.servers[0]!.policies }, { search: 'auto', wipe: 'off' })
  // A tool may have any name, that of an object's own methods too.
  assert.equal(read.servers[0]!.policies['toString'], undefined)
  assert.deepEqual(readMcpServers(''), { servers: [] })
})

test('[MCP2] each mistake is one sentence that names the server, and the value itself is not printed', () => {
  const wrong: [entry: unknown, sentence: RegExp][] = [
    [{ Notes: { command: 'x' } }, /"Notes": a name has/],
    [{ a__b: { command: 'x' } }, /"a__b": a name has/],
    [{ notes: {} }, /notes: give either command or url/],
    [{ notes: { command: 'x', url: 'https://a.example' } }, /notes: give either/],
    [{ notes: { command: '' } }, /notes: command is the path/],
    [{ notes: { command: 'x', args: 'y' } }, /notes: args is a list/],
    [{ notes: { command: 'x', env: { A: 1 } } }, /notes: env holds texts/],
    [{ notes: { command: 'x', shell: true } }, /notes: there is no "shell"/],
    [{ notes: { url: 'http://a.example' } }, /notes: url begins with https/],
    [{ notes: { url: 'ftp://a.example', plain: true } }, /notes: url begins with https/],
    [{ notes: { url: 'https://u:p@a.example' } }, /notes: put credentials into headers/],
    [{ notes: { url: 'nonsense' } }, /notes: url is no address/],
    [{ notes: { url: 'https://a.example', headers: { a: 'x\r\ny: z' } } }, /notes: headers holds texts/],
    [{ notes: { url: 'https://a.example', allow: ['10.0.0.0/99'] } }, /notes: allow is a list/],
    [{ notes: { url: 'https://a.example', allow: ['example.org'] } }, /notes: allow is a list/],
    [{ notes: { command: 'x', tools: { a: 'maybe' } } }, /notes: a is one of auto, ask, off/],
    [[], /no object/],
    [Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`s${i}`, { command: 'x' }])), /At most 16/],
  ]
  for (const [entry, sentence] of wrong) {
    const read = readMcpServers(JSON.stringify(entry))
    assert.match('wrong' in read ? read.wrong : 'read', sentence, JSON.stringify(entry))
  }
  assert.throws(
    () => readConfig({ MCP_SERVERS: '{"notes": {"command": "x", "env": {"TOKEN": 5, "B": "hunter2"}}}' }),
    (error: Error) =>
      error instanceof ConfigError && /notes: env/.test(error.message) && !/hunter2/.test(error.message),
  )
  assert.throws(() => readConfig({ MCP_SERVERS: '{' }), /It is no JSON/)
})
