/**
 * The whole product for tests: a database of its own, the engine and the gateway as real processes, no parent between.
 * Owns those processes and ends exactly them. Refuses to fake any part; the model server is the caller's affair.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Client } from 'pg'
import { testDatabase } from './postgres.ts'

export interface StackProcess {
  readonly child: ChildProcess
  /** What it said when it was ready. */
  readonly ready: Record<string, unknown>
  /** The last lines of its log, for a failure's message. */
  tail(): string
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<number | null>
}

export interface Stack {
  url: string
  metricsUrl: string
  databaseUrl: string
  readonly gateway: StackProcess
  readonly engine: StackProcess
  /** Starts a process of the stack again after it was ended; the gateway keeps its port. */
  restart(which: 'engine' | 'gateway'): Promise<void>
  /** One more gateway on the same database; it needs REDIS_URL in `env`. */
  addGateway(env?: Record<string, string>): Promise<StackProcess & { url: string }>
  /** A registered user with an access token. */
  user(name: string): Promise<StackUser>
  sql<R = Record<string, unknown>>(text: string, values?: unknown[]): Promise<R[]>
  stop(): Promise<void>
}

export interface StackUser {
  id: string
  username: string
  token: string
  /** `parley_refresh=…`, as a browser would send it back. */
  cookie: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every kind
  rest(method: string, path: string, body?: unknown): Promise<{ status: number; body: any }>
}

const startMsMax = 25_000
const stopMsMax = 15_000

export async function startStack(env: Record<string, string> = {}): Promise<Stack> {
  const database = await testDatabase()
  const base: Record<string, string> = {
    DATABASE_URL: database.url,
    HOST: '127.0.0.1',
    PORT: '0',
    METRICS_PORT: '0',
    ENGINE_METRICS_PORT: '0',
    ENGINE_THREADS: '1',
    BCRYPT_COST: '4',
    DATABASE_POOL_MAX: '4',
    RATE_LIMIT_SCALE: '1000',
    // Scripted models answer what a test asks, and nothing else.
    AI_TITLES: '0',
    SOCKETS_PER_ADDRESS: '0',
    OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
    OPENAI_API_KEY: 'test',
    LOG_LEVEL: 'warn',
    ...env,
  }
  const running = { engine: undefined as StackProcess | undefined, gateway: undefined as StackProcess | undefined }
  const extra: StackProcess[] = []
  const sql = new Client({ connectionString: database.url })
  sql.on('error', () => {})
  await sql.connect()

  async function stop(): Promise<void> {
    await Promise.all([...extra, running.gateway].map(async p => p?.stop('SIGKILL')))
    await running.engine?.stop('SIGKILL')
    await sql.end().catch(() => {})
    await database.drop()
  }

  try {
    // The gateway waits for the engine's shards by itself.
    const both = [startProcess('engine/main.ts', base), startProcess('gateway/main.ts', base)] as const
    const settled = await Promise.allSettled(both)
    for (const [i, s] of settled.entries()) {
      if (s.status === 'fulfilled') running[i === 0 ? 'engine' : 'gateway'] = s.value
    }
    for (const s of settled) if (s.status === 'rejected') throw s.reason
  } catch (error) {
    await stop()
    throw error
  }
  const stack: Stack = {
    url: String(running.gateway!.ready['url']),
    metricsUrl: String(running.gateway!.ready['metricsUrl']),
    databaseUrl: database.url,
    get gateway() {
      return running.gateway!
    },
    get engine() {
      return running.engine!
    },
    async restart(which) {
      const port = new URL(stack.url).port
      running[which] = await startProcess(`${which}/main.ts`, which === 'gateway' ? { ...base, PORT: port } : base)
      if (which === 'gateway') stack.metricsUrl = String(running.gateway!.ready['metricsUrl'])
    },
    async addGateway(more = {}) {
      const added = await startProcess('gateway/main.ts', { ...base, ...more })
      extra.push(added)
      return Object.assign(added, { url: String(added.ready['url']) })
    },
    async user(name) {
      const response = await fetch(`${stack.url}/api/auth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ email: `${name}@example.org`, password: 'correct horse battery', username: name }),
      })
      // biome-ignore lint/suspicious/noExplicitAny: the product’s own JSON, looked into by tests
      const body: any = await response.json()
      if (response.status !== 201) throw new Error(`register ${name}: ${response.status} ${JSON.stringify(body)}`)
      const token: string = body.access_token
      return {
        id: body.user.id,
        username: name,
        token,
        cookie: response.headers.getSetCookie()[0]!.split(';')[0]!,
        async rest(method, path, given) {
          const answer = await fetch(`${stack.url}${path}`, {
            method,
            headers: { authorization: `Bearer ${token}`, ...(given ? { 'content-type': 'application/json' } : {}) },
            ...(given ? { body: JSON.stringify(given) } : {}),
          })
          const text = await answer.text()
          return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
        },
      }
    },
    async sql<R>(text: string, values: unknown[] = []) {
      return (await sql.query(text, values)).rows as R[]
    },
    stop,
  }
  return stack
}

async function startProcess(script: string, env: Record<string, string>): Promise<StackProcess> {
  const child = spawn(process.execPath, [new URL(`../../${script}`, import.meta.url).pathname], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const lines: string[] = []
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => {
      lines.push(text)
      if (lines.length > 50) lines.shift()
    })
  }
  const exited = once(child, 'exit')
  exited.catch(() => {})
  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), stopMsMax)
      await exited
      clearTimeout(timer)
    }
    return child.exitCode
  }
  const tail = () => lines.join('').slice(-4000)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${script} was not ready in time:\n${tail()}`)), startMsMax)
  })
  const ready = new Promise<Record<string, unknown>>(resolve => {
    child.on('message', message => {
      const said = message as Record<string, unknown>
      if (said['kind'] === 'ready') resolve(said)
    })
  })
  const failed = exited.then(() => {
    throw new Error(`${script} ended before it was ready:\n${tail()}`)
  })
  failed.catch(() => {})
  try {
    return { child, ready: await Promise.race([ready, late, failed]), tail, stop }
  } catch (error) {
    await stop('SIGKILL')
    throw error
  } finally {
    clearTimeout(timer)
  }
}
