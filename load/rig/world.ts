/**
 * The cluster that the rig breaks: gateways and engines as `parley serve` runs them, each with its supervisor, each behind a
 * Postgres proxy of its own, on one Postgres and one Redis that can be stopped, killed and started. Owns these processes and
 * ends exactly them. Refuses to help the product: nobody here buries, claims or routes.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { silentLog } from '#engine/ops/log.ts'
import { isAlive, type NodeFile, readNodeFile } from '#engine/process/node-file.ts'
import { type EmbeddedPostgres, startEmbedded } from '#engine/storage/embedded-postgres.ts'
import { endProcess } from '#load/kit/product.ts'
import { type Scraped, scrape } from '#load/kit/scrape.ts'
import { type Link, openLink } from './links.ts'
import { openPgProxy, type PgProxy, upstreamOf, urlThrough } from './proxy.ts'
import { freePorts, RedisServer } from './redis-server.ts'

export interface WorldOptions {
  gateways?: number
  engines?: number
  /** The checkout that is run; a mutant's is another. */
  root?: string
  /** Settings on top, for all nodes. */
  env?: Record<string, string>
  /** Links between everybody, that faults can cut; without, only the ways to Postgres have one. */
  links?: boolean
}

const ownRoot = path.resolve(import.meta.dirname, '../..')
const readyMsMax = 60_000
const linesKeptMax = 5000
const threads = 2

export class World {
  readonly home: string
  readonly root: string
  readonly gateways: Node[] = []
  readonly engines: Node[] = []
  postgres!: EmbeddedPostgres
  redis!: RedisServer
  readonly hasLinks: boolean
  /** `g1-e2` → one link a worker; `g1-rd`, `c-g1` → one. Empty without links. */
  readonly links = new Map<string, Link[]>()
  /** Tokens of members without a device, for faults that need sockets of their own. */
  idle: readonly string[] = []
  readonly #env: Record<string, string>

  private constructor(home: string, options: WorldOptions) {
    this.home = home
    this.root = options.root ?? ownRoot
    this.#env = options.env ?? {}
    this.hasLinks = options.links ?? false
  }

  /** Resolves when every node is ready. */
  static async start(options: WorldOptions = {}): Promise<World> {
    const home = mkdtempSync(path.join(tmpdir(), 'parley-rig-'))
    // As root the database runs as another user, who has to get here.
    chmodSync(home, 0o755)
    const world = new World(home, options)
    try {
      await world.#start(options.gateways ?? 2, options.engines ?? 2)
    } catch (error) {
      await world.stop()
      throw error
    }
    return world
  }

  async #start(gateways: number, engines: number): Promise<void> {
    this.postgres = await startEmbedded(this.home, silentLog)
    this.redis = await RedisServer.start(this.home)
    await this.command(['migrate', 'up'])
    for (let i = 1; i <= engines; i++) this.engines.push(await this.#node('engine', `e${i}`))
    for (let i = 1; i <= gateways; i++) this.gateways.push(await this.#node('gateway', `g${i}`))
    await Promise.all([...this.engines, ...this.gateways].map(node => node.ready(readyMsMax)))
  }

  async #node(role: 'engine' | 'gateway', name: string): Promise<Node> {
    const proxy = await openPgProxy(upstreamOf(this.postgres.url))
    const hooks = role === 'engine' ? ['faults.ts'] : ['faults.ts', 'links-hook.ts']
    const node = new Node(this, role, name, proxy, {
      ...this.settings(),
      DATABASE_URL: urlThrough(this.postgres.url, proxy.port),
      NODE_ID: name,
      NODE_OPTIONS: hooks.map(file => `--import ${path.join(this.root, 'load/rig', file)}`).join(' '),
      ...(this.hasLinks && (role === 'engine' ? await this.#enginePort(name) : await this.#gatewayLinks(name))),
    })
    if (this.hasLinks && role === 'gateway') {
      const url = () => node.file()?.url
      const front = await openLink(() => {
        const at = url()
        return at && node.pid() ? { host: '127.0.0.1', port: Number(new URL(at).port) } : undefined
      })
      this.links.set(`c-${name}`, [front])
    }
    node.start()
    return node
  }

  readonly #enginePorts = new Map<string, number>()

  /** Known beforehand, so that links can lead there. */
  async #enginePort(name: string): Promise<NodeJS.ProcessEnv> {
    const port = await freePorts(threads)
    this.#enginePorts.set(name, port)
    return { ENGINE_PORT: String(port) }
  }

  async #gatewayLinks(name: string): Promise<NodeJS.ProcessEnv> {
    const routes: Record<string, number> = {}
    for (const [engine, first] of this.#enginePorts) {
      const links: Link[] = []
      for (let thread = 0; thread < threads; thread++) {
        const to = { host: '127.0.0.1', port: first + thread }
        const link = await openLink(() => to)
        links.push(link)
        routes[`${to.host}:${to.port}`] = link.port
      }
      this.links.set(`${name}-${engine}`, links)
    }
    const redis = await openLink(() => ({ host: '127.0.0.1', port: Number(new URL(this.redis.url).port) }))
    this.links.set(`${name}-rd`, [redis])
    return { RIG_LINKS: JSON.stringify(routes), REDIS_URL: `redis://127.0.0.1:${redis.port}` }
  }

  settings(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: '0',
      METRICS_PORT: '0',
      ENGINE_METRICS_PORT: '0',
      MODEL_PORT: '0',
      ENGINE_THREADS: String(threads),
      ENGINE_HEAP_MB: '128',
      DATABASE_POOL_MAX: '6',
      RATE_LIMIT_SCALE: '1000',
      SOCKETS_PER_ADDRESS: '0',
      BCRYPT_COST: '4',
      ACCESS_TOKEN_TTL_S: '86400',
      LOG_LEVEL: 'warn',
      DRAIN_SPREAD_MS: '1000',
      OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
      OPENAI_API_KEY: 'none',
      REDIS_URL: this.redis.url,
      DATABASE_URL: this.postgres.url,
      ...this.#env,
    }
  }

  wsUrls = (): string[] =>
    this.hasLinks
      ? this.gateways.map(g => `ws://127.0.0.1:${this.links.get(`c-${g.name}`)![0]!.port}`)
      : this.gateways.flatMap(g => g.file()?.url?.replace(/^http/, 'ws') ?? [])

  /** A gateway that lives. */
  restUrl = (): string => {
    const up = this.gateways.filter(g => isAlive(g.pid()))
    return up[Math.floor(Math.random() * up.length)]?.file()?.url ?? this.gateways[0]!.file()!.url!
  }

  async command(args: string[]): Promise<string> {
    const cli = path.join(this.root, 'engine/cli.ts')
    const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args], {
      cwd: this.root,
      env: { ...this.settings(), DATA_DIR: this.home },
    })
    return stdout
  }

  /** Access tokens of users seed_1 … seed_n. */
  async seed(users: number): Promise<string[]> {
    const file = path.join(this.home, 'tokens')
    await this.command(['seed', '--users', String(users), '--tokens', file])
    return readFileSync(file, 'utf8').trim().split('\n')
  }

  /** One statement, past all proxies. */
  async query<R>(text: string, values: unknown[] = []): Promise<R[]> {
    const client = new Client({ connectionString: this.postgres.url })
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(text, values)).rows as R[]
    } finally {
      await client.end()
    }
  }

  /** immediate: as a crash. fast: connections are closed in order. */
  async stopPostgres(how: 'immediate' | 'fast'): Promise<void> {
    if (how === 'fast') return this.postgres.stop()
    const { pid } = this.postgres
    process.kill(pid, 'SIGQUIT')
    for (const until = performance.now() + 20_000; isAlive(pid) && performance.now() < until; ) await sleep(20)
  }

  /** At the same address as before. */
  async startPostgres(): Promise<void> {
    const before = this.postgres.url
    this.postgres = await startEmbedded(this.home, silentLog)
    if (this.postgres.url !== before) throw new Error('Postgres came back at another address')
  }

  logs(): string[] {
    return [...this.engines, ...this.gateways].flatMap(node => node.lines)
  }

  async stop(): Promise<void> {
    await Promise.all(this.gateways.map(node => node.stop()))
    await Promise.all(this.engines.map(node => node.stop()))
    for (const node of [...this.gateways, ...this.engines]) await node.proxy.close()
    for (const link of [...this.links.values()].flat()) await link.close()
    await this.redis?.stop()
    await this.postgres?.stop().catch(() => {})
    if (this.postgres) rmSync(this.postgres.dataDir, { recursive: true, force: true })
    rmSync(this.home, { recursive: true, force: true })
  }
}

/** `parley serve --role …`: a supervisor and the one process that it keeps. */
export class Node {
  readonly name: string
  readonly role: 'engine' | 'gateway'
  readonly proxy: PgProxy
  readonly lines: string[] = []
  readonly #world: World
  readonly #env: NodeJS.ProcessEnv
  readonly #dataDir: string
  #parent: ChildProcess | undefined

  constructor(world: World, role: 'engine' | 'gateway', name: string, proxy: PgProxy, env: NodeJS.ProcessEnv) {
    this.#world = world
    this.role = role
    this.name = name
    this.proxy = proxy
    this.#dataDir = path.join(world.home, name)
    mkdirSync(this.#dataDir)
    this.#env = { ...env, DATA_DIR: this.#dataDir }
  }

  start(): void {
    const cli = path.join(this.#world.root, 'engine/cli.ts')
    const parent = spawn(process.execPath, [cli, 'serve', '--role', this.role], {
      cwd: this.#world.root,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const keep = (piece: Buffer) => {
      for (const line of piece.toString().split('\n')) if (line !== '') this.lines.push(line)
      this.lines.splice(0, this.lines.length - linesKeptMax)
      if (process.env['RIG_LOG']) appendFileSync(process.env['RIG_LOG'], `${this.name} ${piece.toString()}`)
    }
    parent.stdout.on('data', keep)
    parent.stderr.on('data', keep)
    this.#parent = parent
  }

  file(): NodeFile | undefined {
    return readNodeFile(this.#dataDir)
  }

  /** The process that serves, while it lives. */
  pid(): number | undefined {
    const pid = this.file()?.[this.role]
    return isAlive(pid) ? pid : undefined
  }

  adminUrl(): string {
    const file = this.file()
    return (this.role === 'engine' ? file?.engineMetricsUrl : file?.metricsUrl) ?? ''
  }

  async ready(ms: number): Promise<void> {
    for (const until = performance.now() + ms; performance.now() < until; await sleep(100)) {
      if (this.#parent?.exitCode !== null) break
      if (!this.pid() || this.adminUrl() === '') continue
      const answer = await fetch(`${this.adminUrl()}/readyz`, { signal: AbortSignal.timeout(1000) }).catch(
        () => undefined,
      )
      await answer?.body?.cancel()
      if (answer?.ok) return
    }
    throw new Error(
      `${this.name} did not get ready; it said:\n${this.lines
        .slice(-8)
        .map(line => line.slice(0, 400))
        .join('\n')}`,
    )
  }

  /** To the serving process; its supervisor stays. False when there is none. */
  signal(signal: NodeJS.Signals): boolean {
    const pid = this.pid()
    return pid !== undefined && process.kill(pid, signal)
  }

  /** Both at once, as when a host is lost. */
  crash(): void {
    const pid = this.pid()
    this.#parent?.kill('SIGKILL')
    if (pid) process.kill(pid, 'SIGKILL')
  }

  metrics(): Promise<Scraped> {
    return scrape(this.adminUrl())
  }

  async stop(): Promise<void> {
    this.signal('SIGCONT')
    if (this.#parent) await endProcess(this.#parent, 20_000)
  }
}
