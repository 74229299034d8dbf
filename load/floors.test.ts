/** Reads the imports of the whole tree and keeps the floors: who may import whom, down only, no circles. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import test from 'node:test'

const root = path.resolve(import.meta.dirname, '..')

const belowLinks = [
  'protos',
  'conversation',
  'ops',
  'ports',
  'actor',
  'storage',
  'soft',
  'tools',
  'assistant',
  'cluster',
]

/** Rooms, most specific path first; each with the rooms that it may import beside itself. */
const rooms: { room: string; paths: string[]; mayImport: string[] }[] = [
  { room: 'protos', paths: ['protos/'], mayImport: [] },
  { room: 'conversation', paths: ['engine/conversation/'], mayImport: ['protos'] },
  { room: 'ops', paths: ['engine/ops/'], mayImport: ['protos'] },
  { room: 'ports', paths: ['engine/actor/ports.ts'], mayImport: ['protos', 'conversation', 'ops'] },
  { room: 'actor', paths: ['engine/actor/'], mayImport: ['protos', 'conversation', 'ops', 'ports'] },
  { room: 'storage', paths: ['engine/storage/', 'migrations/'], mayImport: ['protos', 'ops', 'ports'] },
  { room: 'soft', paths: ['engine/soft/'], mayImport: ['protos', 'ops', 'ports'] },
  // One implementation of the tools behind four doors: the loop's, the gateway's, and the two of MCP.
  {
    room: 'tools',
    paths: [
      'engine/assistant/tools.ts',
      'engine/assistant/tasks.ts',
      'engine/assistant/similar.ts',
      'engine/assistant/mcp-server.ts',
    ],
    mayImport: ['protos', 'ops'],
  },
  { room: 'assistant', paths: ['engine/assistant/'], mayImport: ['protos', 'ops', 'ports', 'tools'] },
  { room: 'cluster', paths: ['engine/cluster/'], mayImport: ['protos', 'ops', 'storage'] },
  { room: 'server', paths: ['engine/server/'], mayImport: belowLinks },
  { room: 'client', paths: ['engine/client/'], mayImport: belowLinks },
  {
    room: 'engine',
    paths: ['engine/main.ts', 'engine/worker.ts', 'engine/control.ts', 'engine/foreign.ts', 'engine/foreign-host.ts'],
    mayImport: [...belowLinks, 'server', 'client'],
  },
  // The command and the parent of the processes: they spawn by path.
  { room: 'process', paths: ['engine/process/', 'engine/cli.ts'], mayImport: ['protos', 'ops', 'storage', 'cluster'] },
  { room: 'gateway', paths: ['gateway/'], mayImport: ['protos', 'ops', 'client', 'storage', 'soft', 'tools'] },
  { room: 'web', paths: ['web/'], mayImport: ['protos'] },
  { room: 'load', paths: ['load/'], mayImport: ['*'] },
]

interface Import {
  from: string
  to: string
  line: number
}

const files = sources(root)
const imports = files.flatMap(importsOf)

test('[FLOOR1] every source file belongs to one room', () => {
  assert.deepEqual(
    files.filter(file => !isTest(file) && roomOf(file) === undefined),
    [],
  )
})

test('[FLOOR2] every import goes to a room that its own room may import', () => {
  const wrong = imports
    .filter(({ from, to }) => {
      // Tests and their fixtures may reach for anything that helps them.
      if (isTest(from)) return false
      const [mine, theirs] = [roomOf(from)!, roomOf(to)]
      if (mine === undefined || theirs === undefined || mine.room === theirs.room) return false
      return !mine.mayImport.includes('*') && !mine.mayImport.includes(theirs.room)
    })
    .map(({ from, to, line }) => `${from}:${line} imports ${to}`)
  assert.deepEqual(wrong, [])
})

test('[FLOOR3] nothing but tests and load imports load or a test', () => {
  const wrong = imports
    .filter(({ from, to }) => !isTest(from) && !from.startsWith('load/') && (to.startsWith('load/') || isTest(to)))
    .map(({ from, to, line }) => `${from}:${line} imports ${to}`)
  assert.deepEqual(wrong, [])
})

test('[FLOOR4] protos and the conversation machine import no package and nothing of Node', () => {
  const wrong = files
    .filter(file => /^(protos|engine\/conversation)\//.test(file) && !isTest(file))
    .flatMap(file => packagesOf(file).map(name => `${file} imports ${name}`))
    // The link's service is defined with the runtime of its protocol.
    .filter(line => !/^protos\/link\.ts imports @grpc\/grpc-js$/.test(line))
  assert.deepEqual(wrong, [])
})

test('[FLOOR5] imports run in no circle', () => {
  const targets = new Map<string, string[]>()
  for (const { from, to } of imports) targets.set(from, [...(targets.get(from) ?? []), to])
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (file: string, trail: string[]) => {
    const at = trail.indexOf(file)
    if (at >= 0) {
      circles.push([...trail.slice(at), file].join(' → '))
      return
    }
    if (done.has(file)) return
    for (const next of targets.get(file) ?? []) visit(next, [...trail, file])
    done.add(file)
  }
  for (const file of targets.keys()) visit(file, [])
  assert.deepEqual(circles, [])
})

test('[FLOOR6] the web app imports types, the fold and plain tables of protos only', () => {
  const allowed = /^protos\/(catalogue|timeline|errors|limits|ids|field)\.ts$/
  const wrong = imports
    .filter(({ from, to }) => from.startsWith('web/') && to.startsWith('protos/') && !allowed.test(to))
    .map(({ from, to }) => `${from} imports ${to}`)
  assert.deepEqual(wrong, [])
})

function roomOf(file: string) {
  let best: (typeof rooms)[number] | undefined
  let length = 0
  for (const room of rooms) {
    for (const prefix of room.paths) {
      if (file.startsWith(prefix) && prefix.length > length) {
        best = room
        length = prefix.length
      }
    }
  }
  return best
}

function isTest(file: string): boolean {
  return /\.(test|contract)\.ts$|\/fixtures\/|^load\/(kit|browser)\//.test(file)
}

function sources(folder: string): string[] {
  const found: string[] = []
  const visit = (at: string) => {
    for (const entry of readdirSync(path.join(folder, at), { withFileTypes: true })) {
      const name = at === '' ? entry.name : `${at}/${entry.name}`
      if (entry.isDirectory()) {
        if (!['dist', 'node_modules'].includes(entry.name)) visit(name)
      } else if (/\.(ts|svelte)$/.test(entry.name)) found.push(name)
    }
  }
  for (const top of ['protos', 'engine', 'gateway', 'web', 'load', 'migrations']) visit(top)
  return found
}

/** Specifiers of static and dynamic imports and re-exports, with their line. */
function specifiersOf(file: string): { specifier: string; line: number }[] {
  const text = readFileSync(path.join(root, file), 'utf8')
  const form =
    /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g
  return [...text.matchAll(form)].map(match => ({
    specifier: (match[1] ?? match[2] ?? match[3])!,
    line: text.slice(0, match.index + 1).split('\n').length,
  }))
}

function importsOf(file: string): Import[] {
  return specifiersOf(file).flatMap(({ specifier, line }) => {
    if (specifier.startsWith('.'))
      return [{ from: file, to: path.posix.join(path.posix.dirname(file), specifier.replace(/\?.*$/, '')), line }]
    const inside = /^#(protos|engine|gateway|load)\/(.+)$/.exec(specifier)
    return inside ? [{ from: file, to: `${inside[1]}/${inside[2]}`, line }] : []
  })
}

function packagesOf(file: string): string[] {
  return specifiersOf(file)
    .map(s => s.specifier)
    .filter(specifier => !specifier.startsWith('.') && !specifier.startsWith('#'))
}
