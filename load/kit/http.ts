/**
 * A REST server for tests: real Postgres under the gateway's role, requests by injection, people made through the API.
 * The engine is whatever the test passes; by default one that cannot be reached.
 */
import type { FastifyInstance, InjectOptions } from 'fastify'
import type { EngineClient } from '#engine/client/port.ts'
import { type Clock, systemClock } from '#engine/ops/clock.ts'
import { type Config, readConfig } from '#engine/ops/config.ts'
import { type Log, silentLog } from '#engine/ops/log.ts'
import { type Metrics, openMetrics } from '#engine/ops/metrics.ts'
import { type Database, openOrm } from '#engine/storage/orm.ts'
import { type Auth, openAuth } from '#gateway/auth/auth.ts'
import { buildHttp } from '#gateway/http/app.ts'
import { createHealth } from '#gateway/http/health.ts'
import { createLimiter } from '#gateway/http/limiter.ts'
import { createOrigins } from '#gateway/http/origin.ts'
import type { HttpDeps } from '#gateway/http/routes.ts'
import { Positions } from '#gateway/positions.ts'
import { type TestDatabase, testDatabase } from './postgres.ts'

export interface Reply {
  status: number
  headers: Record<string, string | string[] | number | undefined>
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came back
  body: any
  text: string
}
export interface Person {
  id: string
  username: string
  email: string
  token: string
  cookie: string
}

export interface TestHttp {
  app: FastifyInstance
  deps: HttpDeps
  auth: Auth
  metrics: Metrics
  database: Database
  /** Beside the gateway's role: the login itself, to look and to turn clocks back. */
  owner: Database
  call(method: string, url: string, options?: CallOptions): Promise<Reply>
  person(name: string): Promise<Person>
  close(): Promise<void>
}
export interface CallOptions {
  token?: string | undefined
  body?: unknown
  headers?: Record<string, string>
}

/** An engine that is away: every command is refused as never forwarded. */
export const awayEngine: EngineClient = {
  start: async () => {},
  command: () => ({ taken: true }),
  request: async () =>
    JSON.stringify({
      type: 'error',
      ts: new Date().toISOString(),
      code: 'UNAVAILABLE',
      message: 'No owner.',
      retryable: true,
      retryAfterMs: 1000,
    }),
  attach: () => {},
  detach: () => {},
  closeSocket: () => {},
  isReady: () => false,
  pending: () => ({ letters: 0, bytes: 0 }),
  close: async () => {},
}

export async function testHttp(
  options: {
    env?: Record<string, string>
    engine?: EngineClient
    clock?: Clock
    log?: Log
    deps?: Partial<HttpDeps>
    database?: TestDatabase
  } = {},
): Promise<TestHttp> {
  const { clock = systemClock, log = silentLog, engine = awayEngine } = options
  const config: Config = readConfig({ BCRYPT_COST: '4', RATE_LIMIT_SCALE: '1000', ...options.env })
  const data = options.database ?? (await testDatabase())
  const database = await openOrm({ url: data.url, role: 'parley_gateway', name: 'test-gateway', poolMax: 10, log })
  const owner = await openOrm({ url: data.url, name: 'test-owner', poolMax: 2, log })
  const metrics = openMetrics()
  const db = database.pool as unknown as HttpDeps['db']
  const auth = await openAuth({ db, clock, config, log })
  const deps: HttpDeps = {
    config,
    log,
    metrics,
    clock,
    db,
    engine,
    tokens: auth.tokens,
    sessions: auth.sessions,
    limiter: createLimiter({ clock, metrics, scale: config.RATE_LIMIT_SCALE }),
    origins: createOrigins(config),
    health: createHealth({
      db,
      engine,
      revocation: auth.revocation,
      isDraining: () => false,
      mono: () => clock.mono(),
    }),
    positions: new Positions(() => clock.mono()),
    ...options.deps,
  }
  const app = await buildHttp(deps)

  async function call(method: string, url: string, { token, body, headers }: CallOptions = {}): Promise<Reply> {
    const request: InjectOptions = {
      method: method as 'GET',
      url,
      headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
      ...(body === undefined ? {} : { payload: body as object }),
    }
    const reply = await app.inject(request)
    const isJson = String(reply.headers['content-type'] ?? '').startsWith('application/json')
    return {
      status: reply.statusCode,
      headers: reply.headers,
      body: isJson && reply.payload !== '' ? JSON.parse(reply.payload) : undefined,
      text: reply.payload,
    }
  }

  return {
    app,
    deps,
    auth,
    metrics,
    database,
    owner,
    call,
    async person(name) {
      const email = `${name}@example.org`
      const reply = await call('POST', '/api/auth/register', {
        body: { email, password: 'correct horse', username: name },
      })
      if (reply.status !== 201) throw new Error(`register ${name}: ${reply.status} ${reply.text}`)
      return { id: reply.body.user.id, username: name, email, token: reply.body.access_token, cookie: cookieOf(reply) }
    },
    async close() {
      await app.close()
      auth.stop()
      await database.close()
      await owner.close()
      if (!options.database) await data.drop()
    },
  }
}

/** The session cookie that an answer sets, ready to be sent back. */
export function cookieOf(reply: Reply): string {
  return String(reply.headers['set-cookie'] ?? '').split(';')[0]!
}
