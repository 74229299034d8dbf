/**
 * The gateway process: composes database, soft store, engine links, hub, REST and sockets; tells its parent when it is
 * ready; drains on SIGTERM. Refuses to hold rules of its own.
 */
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { createEngineClient } from '#engine/client/engine.ts'
import { openAdmin } from '#engine/ops/admin.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { keepCompiled } from '#engine/ops/compile-cache.ts'
import { type Config, ConfigError, readConfig } from '#engine/ops/config.ts'
import { openIdentity } from '#engine/ops/identity.ts'
import { type Log, openLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { watchThread } from '#engine/ops/thread-health.ts'
import { createMemoryStore } from '#engine/soft/memory.ts'
import { createRedisStore } from '#engine/soft/redis.ts'
import { openOrm } from '#engine/storage/orm.ts'
import { readRoutes, suspectAddress, watchRouteMap } from '#engine/storage/route-map.ts'
import { drainMsMax, presenceTtlMs, socketsPerUserMax } from '#protos/limits.ts'
import { openAuth } from './auth/auth.ts'
import type { Db } from './auth/db.ts'
import { createChatListeners } from './chat-listener.ts'
import { Connection } from './connection.ts'
import { drainSockets } from './drain.ts'
import { buildHttp } from './http/app.ts'
import { createHealth } from './http/health.ts'
import { createLimiter } from './http/limiter.ts'
import { createOrigins } from './http/origin.ts'
import { Hub } from './hub.ts'
import { holdOnlyOne, type OnlyOne } from './only-one.ts'
import { Flusher } from './outbox.ts'
import { Positions } from './positions.ts'
import { Presence } from './presence.ts'
import { createReads } from './reads.ts'
import { scaledRules } from './session.ts'
import { Sockets } from './sockets.ts'
import { createUpgrade } from './upgrade.ts'

/** What the parent hears when both listeners are open and the engine can be reached. */
export interface GatewayReady {
  kind: 'ready'
  url: string
  metricsUrl: string
}

/** An exit code that the parent tells apart: a setting cannot be used. */
const exitSetting = 2
const databaseWaitMs = 10_000
const engineWaitMs = 15_000
const lookOutMs = 500

async function run(config: Config, log: Log): Promise<void> {
  const clock = systemClock
  const metrics = openMetrics(true)
  watchThread(metrics, 'gateway')
  // Where each gateway has a name, a second one of the same name is what came after the first.
  const replaces = config.NODE_ID === '' ? '' : `${config.NODE_ID}-`
  const nodeId = `${replaces || 'gateway-'}${clock.id()}`
  let stopping: Promise<void> | undefined
  let onOrphaned: () => unknown = () => process.exit(1)
  // Without its parent nobody would start or stop this process again.
  process.on('disconnect', () => onOrphaned())

  const database = await openOrm({
    url: config.DATABASE_URL,
    role: 'parley_gateway',
    poolMax: config.DATABASE_POOL_MAX,
    name: 'parley-gateway',
    pooler: config.DATABASE_POOLER,
    waitMs: databaseWaitMs,
    log,
  })
  const db = database.pool as unknown as Db
  let only: OnlyOne | undefined
  if (config.REDIS_URL === '') {
    only = await holdOnlyOne(
      () => database.connect(),
      log,
      () => refuseSecond(),
    )
    if (!only) refuseSecond()
  }

  // --- accounts ------------------------------------------------------------------------------------------------------
  const auth = await openAuth({ db, clock, config, log })
  const { tokens, sessions, revocation } = auth
  const origins = createOrigins(config)

  // --- sockets -------------------------------------------------------------------------------------------------------
  const positions = new Positions(clock.mono)
  const reads = createReads(db, positions)
  const softOptions = { ttlMs: presenceTtlMs, socketsMax: socketsPerUserMax }
  const store =
    config.REDIS_URL === ''
      ? createMemoryStore(clock, softOptions)
      : createRedisStore({ url: config.REDIS_URL, log, metrics, name: nodeId, replaces }, softOptions)
  const share = config.REDIS_URL === '' ? {} : { share: store }
  const limiter = createLimiter({ clock, metrics, scale: config.RATE_LIMIT_SCALE, ...share })
  const engine = createEngineClient({
    clock,
    log,
    metrics,
    nodeId,
    identity: openIdentity(config.INTERNAL_TLS_DIR, 'gateway'),
    suspect: addr => suspectAddress(database.pool, addr, config.NODE_ID || hostname(), database.named),
    readRoutes: () => readRoutes(database.pool, database.named),
    listen: changed => watchRouteMap(() => database.connect(), log, changed),
  })
  const sockets = new Sockets(clock)
  const hub = new Hub({
    clock,
    log,
    metrics,
    reads,
    positions,
    engine,
    answered: (label, body, note) => sockets.open.get(label.socket)?.answered(label, body, note),
  })
  const presence = new Presence({ clock, log, store, reads, nodeId, evict: id => sockets.open.get(id)?.end(4409) })
  revocation.onRevoked(ids => {
    for (const id of ids) sockets.closeSession(id, 4410)
  })
  const flusher = new Flusher(metrics)
  const rules = scaledRules(config.RATE_LIMIT_SCALE)
  const verifyToken = (token: string) => tokens.verifyAccess(token)
  const deps = {
    clock,
    log,
    metrics,
    engine,
    hub,
    presence,
    flusher,
    rules,
    verifyToken,
    takeSend: (userId: string, asks: string | undefined) => limiter.takeSend(userId, asks).waitMs,
    isRevoked: (sessionId: string) => revocation.isRevoked(sessionId),
    identified: (connection: Connection) => sockets.identified(connection),
    ended: (connection: Connection) => sockets.ended(connection),
  }
  let lastSocket = 0
  const upgrade = createUpgrade({
    config,
    origins,
    sessions,
    verifyToken,
    countOf: address => sockets.countOf(address),
    openCount: () => sockets.open.size,
    isDraining: () => stopping !== undefined || engine.isCutOff?.() === true,
    now: () => clock.now(),
    accept({ ws, address, convId, credential }) {
      const given = { id: ++lastSocket, ws, address, convId }
      const connection = new Connection(deps, credential ? { ...given, credential: credential.kind } : given)
      sockets.add(connection)
      void credential?.access.then(access => connection.judged(access))
    },
  })
  await engine.start(hub)

  // --- listeners -----------------------------------------------------------------------------------------------------
  const listeners = createChatListeners({ hub, engine, flusher, clock, metrics, nextSocket: () => ++lastSocket })
  const health = createHealth({ db, engine, revocation, isDraining: () => stopping !== undefined, mono: clock.mono })
  const app = await buildHttp({
    config,
    log,
    metrics,
    clock,
    db,
    engine,
    tokens,
    sessions,
    limiter,
    origins,
    health,
    listeners,
    positions,
    webDist: new URL('../web/dist', import.meta.url).pathname,
  })
  app.server.on('upgrade', upgrade)
  await listen('PORT', config.PORT, () => app.listen({ host: config.HOST, port: config.PORT }))
  const admin = await listen('METRICS_PORT', config.METRICS_PORT, () =>
    openAdmin(config.METRICS_HOST, config.METRICS_PORT, log, {
      'GET /healthz': (_request, response) => answer(response, health.live()),
      'GET /readyz': async (_request, response) => answer(response, await health.ready()),
      'GET /metrics': async (_request, response) => {
        metrics.parley_sends_pending.set(engine.pending().letters)
        response.writeHead(200, { 'content-type': metrics.registry.contentType })
        response.end(await metrics.registry.metrics())
      },
    }),
  )
  // Reaching no owner while others do, it can only send its clients to another gateway.
  const outlook = setInterval(() => {
    if (!engine.isCutOff?.() || stopping || sockets.open.size === 0) return
    log.error('no engine is reached from here; all sockets are sent elsewhere', { count: sockets.open.size })
    for (const connection of sockets.open.values()) connection.end(1012)
  }, lookOutMs)

  // --- leaving ---------------------------------------------------------------------------------------------------------
  async function stop(spreadMs: number): Promise<void> {
    setTimeout(() => process.exit(1), drainMsMax).unref()
    log.info('draining', { node: nodeId, count: sockets.open.size })
    await drainSockets(sockets.open, spreadMs, clock)
    clearInterval(outlook)
    sockets.close()
    listeners.close()
    hub.close()
    presence.close()
    auth.stop()
    await Promise.allSettled([app.close(), admin.close(), engine.close(), store.close(), only?.release()])
    await database.close()
    process.exit(0)
  }
  const onSignal = () => {
    if (stopping) process.exit(1)
    stopping = stop(config.DRAIN_SPREAD_MS)
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  onOrphaned = () => (stopping ??= stop(0))

  for (const until = clock.mono() + engineWaitMs; !engine.isReady() && clock.mono() < until; ) {
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  const { address, port, family } = app.server.address() as AddressInfo
  const host = family === 'IPv6' ? `[${address}]` : address
  keepCompiled()
  const ready: GatewayReady = { kind: 'ready', url: `http://${host}:${port}`, metricsUrl: admin.url }
  // A parent that is just going closes the channel under the message; 'disconnect' then says what to do.
  if (process.send) process.send(ready, undefined, undefined, () => undefined)
  else console.log(JSON.stringify(ready))
}

function answer(response: import('node:http').ServerResponse, given: { status: number; body: unknown }): void {
  response.writeHead(given.status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
  response.end(JSON.stringify(given.body))
}

/** A port that is taken is a setting to change, said in one sentence. */
async function listen<T>(setting: string, port: number, open: () => Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EADDRINUSE' && code !== 'EACCES') throw error
    console.error(`${setting} ${port} ${code === 'EACCES' ? 'may not be opened by this user' : 'is in use'}.`)
    process.exit(exitSetting)
  }
}

function refuseSecond(): never {
  console.error('Another gateway runs on this database; set REDIS_URL to run more than one.')
  process.exit(1)
}

try {
  const config = readConfig()
  const log = openLog(config.LOG_LEVEL, { node: 'gateway' })
  process.on('unhandledRejection', error => {
    log.error('nobody handled a failure', { err: error })
    process.exit(1)
  })
  run(config, log).catch(error => {
    log.error('the gateway could not start', { err: error })
    process.exit(1)
  })
} catch (error) {
  if (!(error instanceof ConfigError)) throw error
  console.error(error.message)
  process.exit(exitSetting)
}
