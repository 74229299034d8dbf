/**
 * The operator's list of further MCP servers, read from the JSON of one setting: how each is reached and what its tools may
 * do. Pure; every mistake is one sentence that names the server. Refuses to reach anything.
 */
import { BlockList, isIP } from 'node:net'
import { mcpServersMax } from '#protos/limits.ts'
import { type ToolPermission, toolPermissions } from '#protos/tools.ts'

export interface McpServer {
  /** Goes before the names of its tools: `name__tool`. */
  name: string
  reach:
    | { kind: 'stdio'; command: string; args: string[]; env: Record<string, string> }
    | {
        kind: 'http'
        url: string
        headers: Record<string, string>
        /** Networks that may be reached though they are not public. */
        allow: string[]
      }
  /** By the server's own names; what is not here asks. */
  policies: Record<string, ToolPermission>
}

/** Between a server's name and a tool's; no server name holds it. */
export const nameSeparator = '__'

class Wrong extends Error {}

/** `text`: '' or a JSON object of servers by name. */
export function readMcpServers(text: string): { servers: McpServer[] } | { wrong: string } {
  if (text === '') return { servers: [] }
  try {
    const entries = Object.entries(objectOf(parsed(text), 'The whole'))
    if (entries.length > mcpServersMax) throw new Wrong(`At most ${mcpServersMax} servers.`)
    return { servers: entries.map(([name, entry]) => serverOf(name, entry)) }
  } catch (error) {
    if (error instanceof Wrong) return { wrong: error.message }
    throw error
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Wrong('It is no JSON.')
  }
}

function serverOf(name: string, entry: unknown): McpServer {
  if (!/^[a-z][a-z0-9-]{0,23}$/.test(name))
    throw new Wrong(`${JSON.stringify(name.slice(0, 40))}: a name has 1 to 24 of a-z, 0-9 and -, a letter first.`)
  const given = objectOf(entry, name)
  const isStdio = given['command'] !== undefined
  if (isStdio === (given['url'] !== undefined)) throw new Wrong(`${name}: give either command or url.`)
  const known = isStdio ? ['command', 'args', 'env', 'tools'] : ['url', 'headers', 'allow', 'plain', 'tools']
  const unknown = Object.keys(given).find(key => !known.includes(key))
  if (unknown !== undefined) throw new Wrong(`${name}: there is no ${JSON.stringify(unknown.slice(0, 40))} here.`)
  return { name, reach: isStdio ? stdioOf(name, given) : httpOf(name, given), policies: policiesOf(name, given) }
}

function stdioOf(name: string, given: Record<string, unknown>): McpServer['reach'] {
  const { command, args = [] } = given
  if (typeof command !== 'string' || command === '') throw new Wrong(`${name}: command is the path of a program.`)
  if (!Array.isArray(args) || !args.every(arg => typeof arg === 'string'))
    throw new Wrong(`${name}: args is a list of texts.`)
  return { kind: 'stdio', command, args, env: textsOf(name, 'env', given['env']) }
}

function httpOf(name: string, given: Record<string, unknown>): McpServer['reach'] {
  const { url, allow = [], plain = false } = given
  if (typeof url !== 'string' || !URL.canParse(url)) throw new Wrong(`${name}: url is no address.`)
  const { protocol, username, password } = new URL(url)
  if (username !== '' || password !== '') throw new Wrong(`${name}: put credentials into headers, not into the url.`)
  if (typeof plain !== 'boolean') throw new Wrong(`${name}: plain is true or false.`)
  if (protocol !== 'https:' && !(protocol === 'http:' && plain))
    throw new Wrong(`${name}: url begins with https://, or with http:// to this machine when plain is true.`)
  if (!Array.isArray(allow) || !allow.every(isNetwork))
    throw new Wrong(`${name}: allow is a list of networks like 10.1.0.0/16.`)
  return { kind: 'http', url, headers: textsOf(name, 'headers', given['headers']), allow: allow as string[] }
}

function policiesOf(name: string, given: Record<string, unknown>): Record<string, ToolPermission> {
  const policies: Record<string, ToolPermission> = Object.create(null)
  for (const [tool, permission] of Object.entries(objectOf(given['tools'] ?? {}, `${name}: tools`))) {
    if (!(toolPermissions as readonly unknown[]).includes(permission))
      throw new Wrong(`${name}: ${tool.slice(0, 40)} is one of ${toolPermissions.join(', ')}.`)
    policies[tool] = permission as ToolPermission
  }
  return policies
}

function textsOf(name: string, field: string, value: unknown): Record<string, string> {
  const given = objectOf(value ?? {}, `${name}: ${field}`)
  for (const [key, text] of Object.entries(given)) {
    if (typeof text !== 'string' || /[\0\r\n]/.test(key + text))
      throw new Wrong(`${name}: ${field} holds texts without line ends.`)
  }
  return given as Record<string, string>
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Wrong(`${what} is no object.`)
  return value as Record<string, unknown>
}

function isNetwork(entry: unknown): boolean {
  if (typeof entry !== 'string') return false
  try {
    addNetwork(new BlockList(), entry)
    return true
  } catch {
    return false
  }
}

/** An address or a network with its length. Throws when it is neither. */
export function addNetwork(list: BlockList, entry: string): void {
  const [address = '', bits, ...rest] = entry.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0 || (bits !== undefined && !/^\d{1,3}$/.test(bits)))
    throw new TypeError(`no network: ${entry}`)
  list.addSubnet(address, bits === undefined ? (family === 4 ? 32 : 128) : Number(bits), family === 4 ? 'ipv4' : 'ipv6')
}
