/**
 * The one thread of an engine that speaks with further MCP servers: composes their clients, the pins of their tools and the
 * ports of the workers. What servers send is parsed here and nowhere else, so a hostile one can stall or end this thread only.
 * Refuses to decide what a tool may do.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { mcpRelistMs } from '#protos/limits.ts'
import type { FromHost, ToHost } from './assistant/foreign-link.ts'
import { type ForeignServer, keepServer } from './assistant/foreign-server.ts'
import { type ListedTool, type SeenTool, seenTools } from './assistant/foreign-tools.ts'
import { systemClock } from './ops/clock.ts'
import { readConfig } from './ops/config.ts'
import { openLog } from './ops/log.ts'
import { readMcpServers } from './ops/mcp-servers.ts'
import { openPool } from './storage/pool.ts'
import { openToolPins } from './storage/tool-pins.ts'

export interface HostData {
  nodeId: string
  env: Record<string, string | undefined>
}

/** Main thread → host. */
export type ToHostThread = { kind: 'worker'; port: MessagePort } | { kind: 'stop' }

/** Host → main thread. */
export type FromHostThread =
  | { kind: 'state'; servers: { name: string; isUp: boolean; accepted: number; waiting: number }[] }
  | { kind: 'stopped' }

const databaseWaitMs = 60_000

const { nodeId, env } = workerData as HostData
const config = readConfig(env)
const log = openLog(config.LOG_LEVEL, { node: nodeId })
const read = readMcpServers(config.MCP_SERVERS)
const servers = 'servers' in read ? read.servers : []
const workers = new Set<MessagePort>()
const clients = new Map<string, ForeignServer>()
const listed = new Map<string, SeenTool[]>()
const accepted = new Map<string, Map<string, string>>()
/** Tools that wait for the operator and of which the log has told, by their hash. */
const told = new Set<string>()
let shared = ''

function isAccepted({ server, tool, hash }: SeenTool): boolean {
  return accepted.get(server)?.get(tool) === hash
}

/** What workers may offer now. */
function available(): SeenTool[] {
  return servers.flatMap(({ name }) => (listed.get(name) ?? []).filter(isAccepted))
}

function share(): void {
  const tools = available()
  const state = servers.map(({ name }) => {
    const seen = listed.get(name)
    const good = seen?.filter(isAccepted).length ?? 0
    return { name, isUp: seen !== undefined, accepted: good, waiting: (seen?.length ?? 0) - good }
  })
  const now = JSON.stringify([tools.map(t => [t.name, t.hash]), state])
  if (now === shared) return
  shared = now
  const message: FromHost = { kind: 'tools', tools }
  for (const port of workers) port.postMessage(message)
  const report: FromHostThread = { kind: 'state', servers: state }
  parentPort!.postMessage(report)
}

function serve(port: MessagePort): void {
  workers.add(port)
  port.on('close', () => workers.delete(port))
  port.on('message', (ask: ToHost) => {
    const client = clients.get(ask.server)
    const call =
      client?.call(ask.tool, ask.arguments, ask.ms) ??
      Promise.resolve({ kind: 'not_made' as const, message: 'There is no such server.' })
    void call.then(outcome => {
      const message: FromHost = { kind: 'outcome', id: ask.id, outcome }
      port.postMessage(message)
    })
  })
  // The first word is said when there is something to say: a worker waits for it a moment.
  const message: FromHost = { kind: 'tools', tools: available() }
  if (listed.size > 0) port.postMessage(message)
}

const early: MessagePort[] = []
let isOpen = false
let stop: () => Promise<void> = async () => undefined

parentPort!.on('message', (message: ToHostThread) => {
  switch (message.kind) {
    case 'worker':
      if (isOpen) serve(message.port)
      else early.push(message.port)
      break
    case 'stop':
      void stop().finally(() => parentPort!.postMessage({ kind: 'stopped' } satisfies FromHostThread))
      break
    default:
      message satisfies never
  }
})

const database = await openPool({
  url: config.DATABASE_URL,
  role: 'parley_engine',
  poolMax: 2,
  name: 'parley-foreign-tools',
  pooler: config.DATABASE_POOLER,
  waitMs: databaseWaitMs,
  log,
})
const pins = openToolPins(database.pool)

/** A list that cannot be pinned is not offered: what is accepted is not known. */
async function pin(server: string, tools: SeenTool[]): Promise<void> {
  await pins.see(server, tools)
  accepted.set(server, await pins.accepted(server))
  for (const tool of tools) {
    if (isAccepted(tool) || told.has(tool.hash)) continue
    told.add(tool.hash)
    log.error('a tool is not what was accepted and is off; see parley mcp-servers', { code: tool.name })
  }
}

const lists = new Map<string, ListedTool[]>()
for (const server of servers) {
  const { name } = server
  clients.set(
    name,
    keepServer({
      server,
      clock: systemClock,
      log,
      onTools(tools) {
        listed.delete(name)
        if (tools) lists.set(name, tools)
        else lists.delete(name)
        share()
        if (tools) void look(name)
      },
    }),
  )
}

async function look(name: string): Promise<void> {
  const tools = lists.get(name)
  if (!tools) return
  const seen = seenTools(name, tools)
  try {
    await pin(name, seen)
  } catch (error) {
    // Tried again with the next reading.
    log.warn('the tools of a server could not be pinned', { code: name, err: error })
    return
  }
  if (lists.get(name) === tools) listed.set(name, seen)
  share()
}

/** What the operator has accepted meanwhile, and what could not be pinned. */
const reading = setInterval(async () => {
  try {
    for (const name of lists.keys()) {
      if (listed.has(name)) accepted.set(name, await pins.accepted(name))
      else await look(name)
    }
    share()
  } catch (error) {
    log.warn('accepted tools could not be read', { err: error })
  }
}, mcpRelistMs)

stop = async () => {
  clearInterval(reading)
  await Promise.all([...clients.values()].map(client => client.close()))
  await database.close()
}

isOpen = true
for (const port of early.splice(0)) serve(port)
