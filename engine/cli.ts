#!/usr/bin/env node
/**
 * The `parley` command: reads arguments, settings and .env, then starts, migrates or asks. Spawns by path and imports
 * neither the gateway nor the workers. Says in one sentence what is wrong and ends with a code other than 0.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { Writable } from 'node:stream'
import { systemClock } from './ops/clock.ts'
import { type Config, ConfigError, helpLines, readConfig } from './ops/config.ts'
import { type Log, openLog } from './ops/log.ts'
import { whyUnwritable } from './ops/target-file.ts'
import { StartError } from './process/start-error.ts'

/** The command itself cannot be carried out as it was given. */
const exitUsage = 2
const root = path.resolve(import.meta.dirname, '..')

const usage = `parley: people and AI assistants in the same conversations

  parley start                                   everything on this machine (default)
  parley cluster                                 2 gateways, 2 engines, Postgres, Redis on this machine
  parley serve --role all|gateway|engine         with DATABASE_URL, for servers
  parley migrate up|down|status                  the database schema
  parley token <email> [--ttl 1h] [--create]     prints an access token and the user's id
  parley seed --users n --tokens FILE            makes users, writes one token a line
  parley mcp --token TOKEN                       one's own tasks as tools over stdin and stdout
  parley mcp-servers [accept SERVER HASH …]      further MCP servers: tools, hashes, policies; accepts changes
  parley model                                   the built-in model server by itself
  parley certs [--out DIR] [--days n]            certificates for links between hosts (by openssl)
  parley config check                            whether all settings can be used
  parley --help

With npm: npm start, npm run parley -- token …

Settings, from the environment or a .env file (NAME_FILE may name a file with the value):
`

async function main(args: string[]): Promise<void> {
  const [command = 'start', ...rest] = args
  if (['--help', '-h', 'help'].includes(command) || rest.includes('--help')) {
    console.log([usage.trimEnd(), ...helpLines()].join('\n'))
    return
  }
  readEnvFile()
  const config = readConfig()
  switch (command) {
    case 'start':
      return run(config, ['gateway', 'engine'], true)
    case 'serve':
      return run(config, rolesOf(rest, config), false)
    case 'migrate':
      return migrateSchema(config, rest[0])
    case 'token':
    case 'seed':
      return account(config, args)
    case 'mcp':
      return tools(config, rest)
    case 'mcp-servers':
      return foreignTools(config, rest)
    case 'model':
      return passOn('engine/assistant/dev-model.ts', [], {})
    case 'certs':
      return certs(rest, config)
    case 'config':
      if (rest[0] !== 'check') throw new StartError('parley config knows one word: check.')
      console.log('All settings can be used.')
      return
    case 'cluster':
      return cluster(config)
    default:
      throw new StartError(`parley does not know the command "${command}". See parley --help.`)
  }
}

function readEnvFile(): void {
  if (!existsSync('.env')) return
  try {
    process.loadEnvFile('.env')
  } catch (error) {
    throw new StartError(`.env is there and cannot be read (${(error as NodeJS.ErrnoException).code}).`)
  }
}

interface Stoppable {
  stop(): Promise<void>
  force(): Promise<void>
}

type Show = (name: string, line: string) => void

/** A second signal within this time is the same wish. */
const samePressMs = 300

/** Starts, says what `begin` answers, and stops in order at a signal; a second one stops at once. */
async function keepUp<R extends Stoppable>(
  begin: (log: Log, onLine: Show | undefined) => Promise<R>,
  banner: (running: R) => string,
): Promise<void> {
  const isTerminal = process.stdout.isTTY === true
  // Imported here: a help text needs no database driver.
  const { shortLine } = await import('./process/banner.ts')
  if (isTerminal && !process.env['LOG_LEVEL']) process.env['LOG_LEVEL'] = 'warn'
  const show: Show = (name, line) => {
    const short = shortLine(name, line)
    if (short !== undefined) console.log(short)
  }
  const log = parentLog(isTerminal, show)
  let running: R | undefined
  let signals = 0
  let firstAt = 0
  const stop = (started: R) =>
    started.stop().then(
      () => process.exit(0),
      error => {
        log.error('the stop failed', { err: error })
        process.exit(1)
      },
    )
  const onSignal = () => {
    // Under npm one Ctrl-C comes twice: from the terminal, and passed on by npm.
    if (signals > 0 && performance.now() - firstAt < samePressMs) return
    if (signals === 0) firstAt = performance.now()
    signals++
    if (signals === 1) {
      console.log('\n  Stopping … (Ctrl-C again to stop at once)')
      // A start under way is finished first: half of it could not be stopped in order.
      if (running) void stop(running)
    } else if (signals === 2 && running) void running.force().finally(() => process.exit(1))
    else process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
  running = await begin(log, isTerminal ? show : undefined)
  if (signals > 0) return stop(running)
  console.log(banner(running))
}

async function run(config: Config, roles: ('gateway' | 'engine')[], isStart: boolean): Promise<void> {
  const { startParent } = await import('./process/parent.ts')
  const { banner } = await import('./process/banner.ts')
  const isModelOurs = config.OPENAI_BASE_URL === '' && config.OPENAI_API_KEY === ''
  await keepUp(
    (log, onLine) => startParent({ config, log, root, roles, prepares: isStart, say, onLine }),
    running => banner(running, { model: isModelOurs, soft: config.REDIS_URL === '' }),
  )
}

async function cluster(config: Config): Promise<void> {
  const { startCluster } = await import('./process/cluster.ts')
  const { clusterBanner } = await import('./process/banner.ts')
  await keepUp(
    (log, onLine) => startCluster({ config, env: process.env, log, root, random: systemClock.random, say, onLine }),
    clusterBanner,
  )
}

const say = (line: string) => console.log(`  ${line}`)

function rolesOf(args: string[], config: Config): ('gateway' | 'engine')[] {
  const role = option(args, '--role') ?? 'all'
  if (config.DATABASE_URL === '') throw new StartError('parley serve needs DATABASE_URL. For one machine: npm start.')
  if (role === 'all') return ['gateway', 'engine']
  if (role === 'gateway' || role === 'engine') return [role]
  throw new StartError(`--role ${role} is not one of all, gateway, engine.`)
}

async function migrateSchema(config: Config, action: string | undefined): Promise<void> {
  if (action !== 'up' && action !== 'down' && action !== 'status')
    throw new StartError('parley migrate needs one word: up, down or status.')
  const { withDatabase } = await import('./process/database.ts')
  const { migrate } = await import('./storage/migrate.ts')
  const log = openLog('warn')
  const status = await withDatabase(config, dataDirOf(config), log, url => migrate(url, action, log), false)
  for (const name of status.applied) console.log(`applied  ${name}`)
  for (const name of status.pending) console.log(`pending  ${name}`)
}

/** Accounts belong to the gateway: its own command runs as a process, with the database found here. */
async function account(config: Config, args: string[]): Promise<void> {
  const tokens = args[0] === 'seed' ? option(args, '--tokens') : undefined
  const why = tokens && whyUnwritable('--tokens', tokens)
  if (why) throw new StartError(why, exitUsage)
  const { withDatabase } = await import('./process/database.ts')
  await withDatabase(config, dataDirOf(config), openLog('warn'), url =>
    passOn('gateway/auth/cli.ts', args, { DATABASE_URL: url }),
  )
}

/** Nothing of ours may reach stdout: it speaks JSON-RPC there. */
async function tools(config: Config, args: string[]): Promise<void> {
  const { withDatabase } = await import('./process/database.ts')
  const log = openLog('warn', { node: 'mcp' }, process.stderr)
  await withDatabase(config, dataDirOf(config), log, url => passOn('gateway/mcp-stdio.ts', args, { DATABASE_URL: url }))
}

async function foreignTools(config: Config, args: string[]): Promise<void> {
  const { withDatabase } = await import('./process/database.ts')
  const { mcpServers } = await import('./process/mcp-servers.ts')
  await withDatabase(config, dataDirOf(config), openLog('warn'), async url => {
    for (const line of await mcpServers(config.MCP_SERVERS, url, args)) console.log(line)
  })
}

async function certs(args: string[], config: Config): Promise<void> {
  const { makeCertificates } = await import('./process/certs.ts')
  const folder = path.resolve(option(args, '--out') ?? (config.INTERNAL_TLS_DIR || path.join(config.DATA_DIR, 'certs')))
  const days = Number(option(args, '--days') ?? 90)
  if (!Number.isInteger(days) || days < 1 || days > 825) throw new StartError('--days is a number from 1 to 825.')
  const made = await makeCertificates(folder, days)
  console.log(`Made in ${folder}: ${made.join(', ')}.`)
  console.log(`Give each host INTERNAL_TLS_DIR with ca.pem and the two files of its role; ca.key stays here.`)
}

function passOn(script: string, args: string[], env: Record<string, string>): Promise<void> {
  const child = spawn(process.execPath, [path.join(root, script), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  // The terminal sends Ctrl-C to both; this one waits for the other.
  const ignore = () => undefined
  process.on('SIGINT', ignore)
  const forward = () => child.kill('SIGTERM')
  process.on('SIGTERM', forward)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      process.off('SIGINT', ignore)
      process.off('SIGTERM', forward)
      process.exitCode = code ?? (signal ? 130 : 1)
      resolve()
    })
  })
}

const dataDirOf = (config: Config) => path.resolve(config.DATA_DIR)

function option(args: string[], name: string): string | undefined {
  const at = args.findIndex(arg => arg === name || arg.startsWith(`${name}=`))
  if (at < 0) return undefined
  return args[at]!.includes('=') ? args[at]!.slice(name.length + 1) : args[at + 1]
}

/** On a terminal warnings in short, elsewhere JSON lines like everybody's. */
function parentLog(isTerminal: boolean, show: (name: string, line: string) => void): Log {
  const level = process.env['LOG_LEVEL'] || 'info'
  if (!isTerminal) return openLog(level, { node: 'parent' })
  return openLog(
    level,
    {},
    new Writable({
      write(chunk, _encoding, done) {
        show('parley', String(chunk))
        done()
      },
    }),
  )
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const isForPeople = error instanceof StartError || error instanceof ConfigError
  console.error(isForPeople ? error.message : error)
  process.exit(error instanceof StartError ? error.exitCode : 1)
})
