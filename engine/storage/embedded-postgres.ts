/**
 * Runs a real Postgres beside us: initdb, pg_ctl start and stop, adoption of a server that outlived its parent.
 * Hooks no signal: the caller stops it, as the last step of its own shutdown. Listens on a unix socket only.
 */
import { spawn } from 'node:child_process'
import {
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import type { Log } from '#engine/ops/log.ts'
import {
  databaseUser,
  EmbeddedPostgresError,
  type SystemUser,
  settleBinaries,
  settleDataDir,
  settleSocketDir,
} from './embedded-place.ts'

export interface EmbeddedPostgres {
  /** For pg, MikroORM and DATABASE_URL alike: postgresql://app@/parley?host=<socket folder>. */
  url: string
  /** The same server's maintenance database. */
  adminUrl: string
  /** Names its socket; over TCP only where `listen_addresses` was given. */
  port: number
  pid: number
  version: string
  /** Where the node's data lies: the folder asked for, or its stand-in when the database user cannot reach that. */
  dataDir: string
  /** The folder asked for could not be used. */
  moved: boolean
  /** The server was already running. */
  adopted: boolean
  /** Fast stop: open transactions are rolled back, everything committed is on disk when this returns. */
  stop(): Promise<void>
}

/** How long a server that is starting, stopping or freshly killed is waited for. */
const settleMs = 15_000
const userName = 'app'
const databaseName = 'parley'
const defaultPort = 5432

/** What a Postgres for one machine needs; durability is never traded here. */
const serverSettings: Record<string, string | number> = {
  max_connections: 100,
  shared_buffers: '128MB',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  jit: 'off',
  // A backend left inside a transaction holds the fence of its shards.
  idle_in_transaction_session_timeout: 1500,
  // A statement whose client has gone must not hold the fence either.
  client_connection_check_interval: 1000,
  tcp_user_timeout: 10_000,
  tcp_keepalives_idle: 5,
  tcp_keepalives_interval: 5,
  tcp_keepalives_count: 3,
  log_checkpoints: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
}

/**
 * A running server with an empty or known database `parley`. `extra`: server settings on top, for tests; `env`: environment
 * of the server, for benches. Throws EmbeddedPostgresError with one sentence for a person.
 */
export async function startEmbedded(
  dataDir: string,
  log: Log,
  extra: Record<string, string | number> = {},
  env: Record<string, string> = {},
): Promise<EmbeddedPostgres> {
  const user = databaseUser()
  const home = settleDataDir(dataDir, user)
  const native = settleBinaries(user)
  const cluster = path.join(home, 'postgres')
  const run = (tool: string, args: string[]) => runTool(path.join(native, 'bin', tool), args, user, env)

  if (!isThere(cluster, user)) await initialise(cluster, user, run)
  const running = await findRunning(cluster)
  const adopted = running !== undefined
  const ownDir = running?.socketDir ?? settleSocketDir(home, user)
  if (!adopted) {
    const options = Object.entries({ ...serverSettings, ...extra }).map(([name, value]) => `-c ${name}='${value}'`)
    const serverLog = path.join(home, 'postgres.log')
    makeFor(serverLog, user)
    const start = () =>
      run('pg_ctl', [
        '-D',
        cluster,
        '-w',
        '-t',
        '60',
        '-l',
        serverLog,
        '-o',
        `-k '${ownDir}' -c listen_addresses='' ${options.join(' ')}`,
        'start',
      ])
    // After a kill of the server its children hold its shared memory for a moment.
    const until = performance.now() + settleMs
    while ((await start()).code !== 0) {
      if (performance.now() > until) {
        throw new EmbeddedPostgresError(
          `DATA_DIR ${home}: its database did not start: ${lastLine(serverLog) ?? 'no reason given'}`,
        )
      }
      await sleep(200)
    }
  }
  const { pid, port } = readPidFile(cluster) ?? { pid: 0, port: defaultPort }
  const portPart = port === defaultPort ? '' : `&port=${port}`
  const urlOf = (database: string) =>
    `postgresql://${userName}@/${database}?host=${encodeURIComponent(ownDir)}${portPart}`
  const version = await ensureDatabase(urlOf('postgres'))
  log.info(adopted ? 'embedded Postgres was running and is ours again' : 'embedded Postgres started')
  return {
    url: urlOf(databaseName),
    adminUrl: urlOf('postgres'),
    port,
    pid,
    version,
    dataDir: home,
    moved: home !== path.resolve(dataDir),
    adopted,
    stop: async () => {
      const stopped = await run('pg_ctl', ['-D', cluster, '-m', 'fast', '-w', '-t', '30', 'stop'])
      if (stopped.code !== 0 && readPidFile(cluster)) {
        log.warn('embedded Postgres did not stop in time and is stopped at once')
        await run('pg_ctl', ['-D', cluster, '-m', 'immediate', '-w', 'stop'])
      }
      // Made anew at each start; a crash may leave it behind.
      rmSync(ownDir, { recursive: true, force: true })
    },
  }
}

/** Whether the folder holds a cluster. One that its user could not open is no empty place. */
function isThere(cluster: string, user: SystemUser | undefined): boolean {
  const folder = path.dirname(cluster)
  const owner = user?.uid ?? process.getuid?.()
  try {
    const stat = statSync(cluster)
    statSync(path.join(cluster, 'PG_VERSION'))
    if (owner === undefined || stat.uid === owner) return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    throw new EmbeddedPostgresError(`DATA_DIR ${folder}: its database cannot be read (${code}).`)
  }
  throw new EmbeddedPostgresError(
    `DATA_DIR ${folder} holds the database of another user. Start as that user or set DATA_DIR to another folder.`,
  )
}

type RunTool = (tool: string, args: string[]) => Promise<{ code: number; output: string }>

/** A half-made cluster is never taken for a whole one: it is made beside its place and moved there. */
async function initialise(cluster: string, user: SystemUser | undefined, run: RunTool): Promise<void> {
  const fresh = `${cluster}.new`
  try {
    rmSync(fresh, { recursive: true, force: true })
    mkdirSync(fresh, { mode: 0o700 })
    if (user) chownSync(fresh, user.uid, user.gid)
  } catch (error) {
    throw new EmbeddedPostgresError(
      `DATA_DIR ${path.dirname(cluster)} cannot be written: ${(error as NodeJS.ErrnoException).code}.`,
    )
  }
  const made = await run('initdb', [
    '-D',
    fresh,
    '-U',
    userName,
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--no-sync',
    '--data-checksums',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
  ])
  if (made.code !== 0)
    throw new EmbeddedPostgresError(
      `DATA_DIR ${path.dirname(cluster)}: initdb failed: ${made.output.split('\n').at(-1)}`,
    )
  renameSync(fresh, cluster)
}

/**
 * The place of a server that already runs on this folder and answers. One that is starting or stopping is waited
 * for; what a dead one left behind is taken away.
 */
async function findRunning(cluster: string): Promise<{ socketDir: string; port: number } | undefined> {
  const until = performance.now() + settleMs
  for (let found = readPidFile(cluster); found; found = readPidFile(cluster)) {
    if (!isPostgres(found.pid, cluster)) {
      rmSync(path.join(cluster, 'postmaster.pid'), { force: true })
      return undefined
    }
    const client = new Client({ host: found.socketDir, port: found.port, user: userName, database: 'postgres' })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.end()
      return found
    } catch (error) {
      if (performance.now() > until) {
        throw new EmbeddedPostgresError(
          `DATA_DIR ${path.dirname(cluster)} is held by a Postgres (process ${found.pid}) that does not answer: ${(error as Error).message}`,
        )
      }
      await sleep(100)
    }
  }
  return undefined
}

/**
 * Whether the process lives and is the Postgres of this cluster; a zombie that nobody reaps is none. After a boot the number may
 * be that of a Postgres elsewhere: each stands in its own folder.
 */
function isPostgres(pid: number, cluster: string): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  if (process.platform !== 'linux') return true
  try {
    const [name, state] = /\((.*)\) (.)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.slice(1) ?? []
    if (name !== 'postgres' || state === 'Z') return false
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(cluster)
  } catch {
    return false
  }
}

async function ensureDatabase(adminUrl: string): Promise<string> {
  const client = new Client({ connectionString: adminUrl })
  client.on('error', () => {})
  await client.connect()
  try {
    const found = await client.query<{ version: string; there: boolean }>(
      `select current_setting('server_version') as version,
              exists (select 1 from pg_database where datname = $1) as there`,
      [databaseName],
    )
    if (!found.rows[0]!.there) await client.query(`create database ${databaseName}`)
    return found.rows[0]!.version
  } finally {
    await client.end()
  }
}

/** postmaster.pid: pid, data folder, start time, port, socket folder, … */
function readPidFile(cluster: string): { pid: number; port: number; socketDir: string } | undefined {
  try {
    const lines = readFileSync(path.join(cluster, 'postmaster.pid'), 'utf8').split('\n')
    return { pid: Number(lines[0]), port: Number(lines[3]) || defaultPort, socketDir: lines[4] ?? '' }
  } catch {
    return undefined
  }
}

function makeFor(file: string, user: SystemUser | undefined): void {
  try {
    closeSync(openSync(file, 'a', 0o600))
    if (user) chownSync(file, user.uid, user.gid)
  } catch (error) {
    throw new EmbeddedPostgresError(
      `DATA_DIR ${path.dirname(file)} cannot be written: ${(error as NodeJS.ErrnoException).code}.`,
    )
  }
}

function lastLine(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').at(-1)
  } catch {
    return undefined
  }
}

/** The server inherits pg_ctl's descriptors, so nothing may wait for them to close: exit, not close, ends the wait. */
function runTool(
  file: string,
  args: string[],
  user: SystemUser | undefined,
  env: Record<string, string>,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const keepsOutput = args.at(-1) !== 'start'
    const child = spawn(file, args, {
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', TZ: 'UTC', ...env },
      stdio: ['ignore', keepsOutput ? 'pipe' : 'ignore', keepsOutput ? 'pipe' : 'ignore'],
      ...user,
    })
    let output = ''
    child.stdout?.on('data', chunk => {
      output += chunk
    })
    child.stderr?.on('data', chunk => {
      output += chunk
    })
    child.once('error', reject)
    child.once(keepsOutput ? 'close' : 'exit', code => resolve({ code: code ?? 1, output: output.trim().slice(-500) }))
  })
}
