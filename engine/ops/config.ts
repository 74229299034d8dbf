/**
 * Every setting, once: name, type, default, unit and a sentence. The environment is read here and nowhere else.
 * `NAME_FILE` may hold the path of a file with the value. `.env.example` and `parley --help` are made from this table.
 */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { systemPromptBytesMax } from '#protos/limits.ts'
import { parseToolPermission } from '#protos/tools.ts'
import { readMcpServers } from './mcp-servers.ts'
import { isSigningKey, signingKeyFrom } from './signing-key.ts'

interface Setting<T> {
  parse(text: string): T | undefined
  default: T
  unit?: string
  doc: string
  /** What is wrong with a value that cannot be used. */
  why?(text: string): string
  /** Never printed. */
  secret?: true
}

const text = (fallback: string, doc: string): Setting<string> => ({ parse: t => t, default: fallback, doc })
/** A setting whose value must pass a test before anything starts. */
const checked = <T>(setting: Setting<T>, isGood: (value: T) => boolean): Setting<T> => ({
  ...setting,
  parse: t => {
    const value = setting.parse(t)
    return value !== undefined && isGood(value) ? value : undefined
  },
})
const hasScheme = (url: string, ...schemes: string[]) => URL.canParse(url) && schemes.includes(new URL(url).protocol)
const isWebUrl = (url: string) => hasScheme(url, 'http:', 'https:')
const isOrigin = (url: string) => isWebUrl(url) && new URL(url).origin === url.replace(/\/$/, '').toLowerCase()
const isNetwork = (entry: string) => {
  const [address, bits, ...rest] = entry.split('/') as [string, string?, ...string[]]
  const family = isIP(address)
  return (
    family !== 0 &&
    rest.length === 0 &&
    (bits === undefined || (/^\d+$/.test(bits) && +bits <= (family === 4 ? 32 : 128)))
  )
}
const secret = (doc: string): Setting<string> => ({ parse: t => t, default: '', doc, secret: true })
const list = (doc: string): Setting<string[]> => ({
  parse: t =>
    t
      .split(',')
      .map(s => s.trim())
      .filter(Boolean),
  default: [],
  doc,
})
const listOf = (isEntry: (entry: string) => boolean, doc: string): Setting<string[]> => {
  const plain = list(doc)
  return {
    ...plain,
    parse(t) {
      const entries = plain.parse(t)
      return entries?.every(isEntry) ? entries : undefined
    },
  }
}
const flag = (fallback: boolean, doc: string): Setting<boolean> => ({
  parse: t => (['1', 'true', 'yes'].includes(t) ? true : ['0', 'false', 'no', ''].includes(t) ? false : undefined),
  default: fallback,
  doc,
})
const number = (fallback: number, min: number, max: number, unit: string, doc: string): Setting<number> => ({
  parse: t => {
    const n = Number(t)
    return t.trim() !== '' && Number.isFinite(n) && n >= min && n <= max ? n : undefined
  },
  default: fallback,
  unit,
  doc,
})
const whole = (fallback: number, min: number, max: number, unit: string, doc: string): Setting<number> =>
  checked(number(fallback, min, max, unit, doc), Number.isInteger)
const oneOf = <const T extends string>(fallback: T, words: readonly T[], doc: string): Setting<T> => ({
  parse: t => (words.includes(t as T) ? (t as T) : undefined),
  default: fallback,
  doc: `${doc} One of: ${words.join(', ')}.`,
})

export const settings = {
  // Where it listens
  HOST: text('0.0.0.0', 'Address the public listener binds to.'),
  PORT: whole(3000, 0, 65_535, '', 'Public port: web app, REST, WebSocket. 0 takes any free port.'),
  METRICS_HOST: text('127.0.0.1', 'Address of the internal listener (health, metrics).'),
  METRICS_PORT: whole(9464, 0, 65_535, '', 'Port of the gateway’s internal listener. 0 takes any free port.'),
  ENGINE_METRICS_PORT: whole(9465, 0, 65_535, '', 'Port of the engine’s internal listener. 0 takes any free port.'),
  ENGINE_HOST: text('127.0.0.1', 'Address the engine’s worker threads listen on for gateways.'),
  ENGINE_PORT: whole(0, 0, 65_535, '', 'First gRPC port of an engine; worker n takes this plus n. 0: any free port.'),
  INTERNAL_TLS_DIR: text(
    '',
    'Folder of certificates for links between gateways and engines (parley certs). Needed when ENGINE_HOST is not loopback.',
  ),
  APP_BASE_URL: checked(
    text('', 'The address people use, for example https://chat.example.org. Absent: scheme and Host of the request.'),
    isWebUrl,
  ),
  API_BASE_URL: checked(
    text('', 'The address of the API, where it is not APP_BASE_URL; its document names it.'),
    isWebUrl,
  ),
  CORS_ALLOWED_ORIGINS: checked(
    list('Other web origins that may call the API and open sockets, comma separated.'),
    all => all.every(isOrigin),
  ),
  TRUSTED_PROXIES: checked(list('Addresses whose X-Forwarded-* headers are believed, comma separated.'), all =>
    all.every(isNetwork),
  ),
  // Where it keeps things
  DATA_DIR: text('./.parley', 'Folder of the embedded database and of what the node keeps.'),
  DATABASE_URL: checked({ ...secret('Postgres to use instead of the embedded one.') }, url =>
    /^postgres(ql)?:\/\//.test(url),
  ),
  DATABASE_POOL_MAX: whole(10, 2, 90, 'connections', 'Most connections of one process to Postgres.'),
  DATABASE_POOLER: oneOf('session', ['session', 'transaction'] as const, 'Kind of pooler between Parley and Postgres.'),
  REDIS_URL: checked(
    { ...secret('Redis for presence, rate leases and receipts. Absent: kept in the one gateway’s memory.') },
    url => hasScheme(url, 'redis:', 'rediss:'),
  ),
  // Accounts
  JWT_SIGNING_KEY: checked(
    {
      ...secret('Private key (PEM, Ed25519) that signs access tokens. Absent: made once and kept in the database.'),
    },
    isSigningKey,
  ),
  BETTER_AUTH_SECRET: checked(
    { ...secret('In place of JWT_SIGNING_KEY: a text of at least 32 characters that the key is made from.') },
    given => given.length >= 32,
  ),
  ACCESS_TOKEN_TTL_S: whole(900, 1, 86_400, 's', 'Life of an access token.'),
  REFRESH_TOKEN_TTL_S: whole(30 * 86_400, 60, 366 * 86_400, 's', 'Absolute life of a session.'),
  REFRESH_IDLE_TTL_S: whole(14 * 86_400, 60, 366 * 86_400, 's', 'Life of a session that is not refreshed.'),
  BCRYPT_COST: whole(12, 4, 16, '', 'Cost of a password hash; each step doubles it.'),
  GUEST_ENABLED: flag(false, 'Whether people may chat as guests.'),
  MODERATOR_EMAILS: checked(list('E-mail addresses of moderators, comma separated.'), all =>
    all.every(e => e.includes('@')),
  ),
  // Limits
  RATE_LIMIT_SCALE: number(1, 0.001, 1_000_000, '×', 'Multiplies every rate with its burst; no size.'),
  SOCKETS_PER_ADDRESS: whole(100, 0, 1_000_000, 'sockets', 'Most open sockets of one address. 0: no limit.'),
  GROUP_MEMBERS_MAX: whole(500, 2, 10_000, 'members', 'Most members of a group.'),
  IDEMPOTENCY_DAYS: whole(30, 1, 3650, 'days', 'Age at which an unknown clientMessageId (v7) is refused.'),
  DRAIN_SPREAD_MS: whole(
    5000,
    0,
    600_000,
    'ms',
    'Over how long clients are asked to come back when a gateway restarts.',
  ),
  // Assistant
  OPENAI_BASE_URL: checked(
    text('', 'OpenAI-compatible API of the assistant. Absent with no key: the built-in model.'),
    isWebUrl,
  ),
  OPENAI_API_KEY: { ...secret('Key for that API.') },
  OPENAI_MODEL: text('parley-small', 'Model of the assistant.'),
  MODEL_PORT: whole(3100, 0, 65_535, '', 'Port of the built-in model server, on 127.0.0.1. 0: any free port.'),
  SYSTEM_PROMPT: checked(
    { ...secret('What the assistant is told before each turn, at most 16 KiB. Absent: the built-in prompt.') },
    given => Buffer.byteLength(given) <= systemPromptBytesMax,
  ),
  TOOL_POLICIES: listOf(
    entry => parseToolPermission(entry) !== undefined,
    'What the assistant’s tools may do, as name=auto|ask|off, comma separated. delete_task asks, the others act at once.',
  ),
  AI_TITLES: flag(true, 'Whether the model gives conversations with the assistant a title after their first answer.'),
  AI_TOKENS_PER_DAY: whole(
    500_000,
    0,
    1e12,
    'tokens',
    'Tokens of one user’s turns in a UTC day, times RATE_LIMIT_SCALE. 0: no limit.',
  ),
  AI_TOKENS_PER_DAY_ALL: whole(
    50_000_000,
    0,
    1e15,
    'tokens',
    'Tokens of all turns together in a UTC day, times RATE_LIMIT_SCALE. 0: no limit.',
  ),
  MCP_SERVERS: {
    ...checked(
      text('', 'Further MCP servers whose tools the assistant may use: JSON, see docs/foreign-tools.md.'),
      value => 'servers' in readMcpServers(value),
    ),
    secret: true,
    why(value) {
      const read = readMcpServers(value)
      return 'wrong' in read ? read.wrong : ''
    },
  },
  // Engine
  ENGINE_THREADS: whole(0, 0, 64, 'threads', 'Worker threads of an engine. 0: cores − 1, at least 1.'),
  ENGINE_HEAP_MB: whole(1024, 64, 65_536, 'MB', 'Heap limit of one worker thread.'),
  NODE_ID: text('', 'Name of this node among others. Absent: host name and role.'),
  // Seeing it
  LOG_LEVEL: oneOf(
    'info',
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const,
    'Least level that is logged.',
  ),
} as const satisfies Record<
  string,
  Setting<never> | Setting<string> | Setting<number> | Setting<boolean> | Setting<string[]>
>

export type SettingName = keyof typeof settings
type ValueOf<S> = S extends { parse(text: string): infer T | undefined } ? Exclude<T, undefined> : never
export type Config = { readonly [K in SettingName]: ValueOf<(typeof settings)[K]> }

/** A setting that cannot be used; the message names it and says what it should be. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}

/** Reads all settings from an environment. Throws ConfigError naming every setting that is wrong, at once. */
export function readConfig(env: Record<string, string | undefined> = process.env): Config {
  const out: Record<string, unknown> = {}
  const wrong: string[] = []
  for (const [name, setting] of Object.entries(settings) as [SettingName, Setting<unknown>][]) {
    let given = env[name]
    const file = name.endsWith('_FILE') ? undefined : env[`${name}_FILE`]
    if (given === undefined && file) {
      try {
        given = readFileSync(file, 'utf8').trim()
        if (given === '') wrong.push(`${name}_FILE: ${file} is empty`)
      } catch (error) {
        wrong.push(`${name}_FILE: cannot read ${file} (${(error as NodeJS.ErrnoException).code})`)
        continue
      }
    }
    if (given === undefined || given === '') {
      out[name] = setting.default
      continue
    }
    const value = setting.parse(given)
    if (value === undefined)
      wrong.push(
        `${name}: ${setting.secret ? 'this value' : JSON.stringify(given)} cannot be used. ${setting.why?.(given) ?? setting.doc}`,
      )
    out[name] = value
  }
  if (wrong.length > 0) throw new ConfigError(wrong.join('\n'))
  const config = out as Config
  if (config.JWT_SIGNING_KEY !== '' || config.BETTER_AUTH_SECRET === '') return config
  return { ...config, JWT_SIGNING_KEY: signingKeyFrom(config.BETTER_AUTH_SECRET) }
}

/** The table as lines for `parley --help`. */
export function helpLines(): string[] {
  return (Object.entries(settings) as [SettingName, Setting<unknown>][]).map(([name, s]) => {
    const fallback = Array.isArray(s.default) ? s.default.join(',') : String(s.default)
    return `  ${name.padEnd(22)} ${s.doc}${fallback === '' ? '' : ` (default ${fallback}${s.unit ? ` ${s.unit}` : ''})`}`
  })
}

/** The text of `.env.example`; a test keeps the file equal to it. */
export function envExample(): string {
  const lines = [
    '# Every setting of Parley with its default. NAME_FILE may name a file that holds the value of NAME.',
    '',
  ]
  for (const [name, s] of Object.entries(settings) as [SettingName, Setting<unknown>][]) {
    lines.push(`# ${s.doc}${s.unit ? ` Unit: ${s.unit}.` : ''}`)
    lines.push(`#${name}=${Array.isArray(s.default) ? s.default.join(',') : String(s.default)}`, '')
  }
  return lines.join('\n')
}
