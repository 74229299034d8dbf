/**
 * A real engine process for tests of the gateway's rooms: engine/main.ts on a test database, and a client of it. Answers
 * when every shard is owned and its owner is reachable.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { createEngineClient } from '#engine/client/engine.ts'
import { deafSink } from '#engine/client/fixtures/deaf-sink.ts'
import type { EngineClient, EngineSink } from '#engine/client/port.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { openOrm } from '#engine/storage/orm.ts'
import { readRoutes } from '#engine/storage/route-map.ts'

export interface TestEngine {
  client: EngineClient
  process: ChildProcess
  stop(): Promise<void>
}

/** Starts `engine/main.ts` with one thread. `env` adds settings. */
export async function startTestEngine(
  databaseUrl: string,
  env: Record<string, string> = {},
  sink: EngineSink = deafSink,
): Promise<TestEngine> {
  const script = new URL('../../engine/main.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: databaseUrl,
      ENGINE_METRICS_PORT: '0',
      ENGINE_THREADS: '1',
      NODE_ID: `test-${process.pid}-${Math.floor(Math.random() * 1e9)}`,
      LOG_LEVEL: 'error',
      ...env,
    },
  })
  await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => {
      throw new Error(`the engine ended with ${code} before it was ready`)
    }),
  ])
  const database = await openOrm({
    url: databaseUrl,
    role: 'parley_gateway',
    name: 'test-routes',
    poolMax: 2,
    log: silentLog,
  })
  const client = createEngineClient({
    clock: systemClock,
    log: silentLog,
    metrics: openMetrics(),
    readRoutes: () => readRoutes(database.pool),
    nodeId: 'test',
  })
  await client.start(sink)
  for (const until = performance.now() + 10_000; !client.isReady() && performance.now() < until; ) await sleep(20)
  return {
    client,
    process: child,
    async stop() {
      await client.close()
      await database.close()
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM')
        await once(child, 'exit')
      }
    },
  }
}
