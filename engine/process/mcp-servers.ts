/**
 * `parley mcp-servers`: what the operator sees of further MCP servers and accepts of their tools. Reads settings and the
 * database, reaches no server. Whatever a server wrote is shown escaped, so that it cannot speak to the terminal.
 */
import pg from 'pg'
import { type McpServer, nameSeparator, readMcpServers } from '#engine/ops/mcp-servers.ts'
import { openToolPins, type PinnedTool } from '#engine/storage/tool-pins.ts'
import { StartError } from './start-error.ts'

/** Enough of a hash that nobody finds another text with the same beginning. */
const hashShown = 32

/** Answers the lines to print. */
export async function mcpServers(setting: string, url: string, args: readonly string[]): Promise<string[]> {
  const read = readMcpServers(setting)
  if ('wrong' in read) throw new StartError(`MCP_SERVERS: ${read.wrong}`)
  const [action, server, ...hashes] = args
  const pool = new pg.Pool({ connectionString: url, max: 1, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  try {
    const pins = openToolPins(pool)
    if (action === undefined) return linesOf(read.servers, await pins.all())
    if (action !== 'accept' || server === undefined || hashes.length === 0)
      throw new StartError('parley mcp-servers knows: accept <server> <hash> …; without words it lists.')
    const lines: string[] = []
    for (const hash of hashes) {
      if (!/^[0-9a-f]{32,64}$/.test(hash))
        throw new StartError(`${printable(hash)}: a hash has ${hashShown} to 64 of 0-9 and a-f, as the list shows it.`)
      const tools = await pins.accept(server, hash)
      if (tools.length === 0) throw new StartError(`${printable(server)} has no tool that waits under ${hash}.`)
      lines.push(...tools.map(tool => `Accepted: ${server}${nameSeparator}${tool}. Engines offer it within 5 s.`))
    }
    return lines
  } finally {
    await pool.end()
  }
}

export function linesOf(servers: readonly McpServer[], pinned: readonly PinnedTool[]): string[] {
  if (servers.length === 0) return ['No further MCP servers: MCP_SERVERS is empty.']
  return servers.flatMap(({ name, reach, policies }) => {
    const where = reach.kind === 'stdio' ? reach.command : new URL(reach.url).origin
    const mine = pinned.filter(tool => tool.server === name)
    const tools = mine.flatMap(tool => linesOfTool(tool, policies[tool.tool] ?? 'ask'))
    return [`${name}  ${reach.kind}  ${printable(where)}`, ...(mine.length === 0 ? ['  never seen yet'] : tools)]
  })
}

function linesOfTool({ server, tool, hash, seenHash, spec, seenSpec }: PinnedTool, policy: string): string[] {
  const state =
    hash === seenHash ? 'accepted' : hash === null ? 'new: off until accepted' : 'changed: off until accepted'
  const head = `  ${server}${nameSeparator}${tool}  ${policy}  ${state}  ${seenHash.slice(0, hashShown)}`
  if (hash === seenHash) return [head]
  return [head, ...(spec === null ? [] : [`    was ${printable(spec)}`]), `    now ${printable(seenSpec)}`]
}

/** Visible ASCII; all else as escapes. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
