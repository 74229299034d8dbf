/**
 * The main thread's side of further MCP servers: keeps the thread that speaks with them, gives each worker a port to it, and
 * shows its state as metrics. The thread may end at any time; it is started again and workers get new ports.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { mcpHeapMb, mcpRetryMs, mcpRetryMsMax } from '#protos/limits.ts'
import type { FromHostThread, HostData, ToHostThread } from './foreign-host.ts'
import type { Log } from './ops/log.ts'
import type { Metrics } from './ops/metrics.ts'

export interface ForeignHost {
  /** This worker listens now: a port is on its way to it. */
  offer(worker: number): void
  /** Its servers get the end of their input and a moment, at most `ms`. */
  stop(ms: number): Promise<void>
}

export function keepForeignHost(options: {
  data: HostData
  log: Log
  metrics: Metrics
  give(worker: number, port: MessagePort): void
}): ForeignHost {
  const { log, metrics, give } = options
  const workers = new Set<number>()
  let thread: Worker | undefined
  let isStopping = false
  let restart: NodeJS.Timeout | undefined
  let pause = mcpRetryMs
  const stopped = Promise.withResolvers<void>()
  start()

  function start(): void {
    const startedAt = performance.now()
    const fresh = new Worker(new URL('./foreign-host.ts', import.meta.url), {
      workerData: options.data,
      resourceLimits: { maxOldGenerationSizeMb: mcpHeapMb },
    })
    thread = fresh
    fresh.on('message', (message: FromHostThread) => {
      switch (message.kind) {
        case 'state':
          metrics.parley_mcp_up.reset()
          metrics.parley_mcp_tools.reset()
          for (const { name, isUp, accepted, waiting } of message.servers) {
            metrics.parley_mcp_up.set({ server: name }, isUp ? 1 : 0)
            metrics.parley_mcp_tools.set({ server: name, state: 'accepted' }, accepted)
            metrics.parley_mcp_tools.set({ server: name, state: 'waiting' }, waiting)
          }
          break
        case 'stopped':
          stopped.resolve()
          break
        default:
          message satisfies never
      }
    })
    fresh.on('error', error => log.error('the thread of foreign tools failed', { err: error }))
    fresh.on('exit', () => {
      thread = undefined
      metrics.parley_mcp_up.reset()
      metrics.parley_mcp_tools.reset()
      if (isStopping) return stopped.resolve()
      log.error('the thread of foreign tools ended and is started again')
      if (performance.now() - startedAt > mcpRetryMsMax) pause = mcpRetryMs
      restart = setTimeout(start, pause)
      pause = Math.min(pause * 2, mcpRetryMsMax)
    })
    for (const worker of workers) introduce(worker)
  }

  function introduce(worker: number): void {
    const { port1, port2 } = new MessageChannel()
    const message: ToHostThread = { kind: 'worker', port: port1 }
    thread!.postMessage(message, [port1])
    give(worker, port2)
  }

  return {
    offer(worker) {
      workers.add(worker)
      if (thread) introduce(worker)
    },
    async stop(ms) {
      isStopping = true
      clearTimeout(restart)
      if (!thread) return
      thread.postMessage({ kind: 'stop' } satisfies ToHostThread)
      const timer = setTimeout(() => stopped.resolve(), ms)
      await stopped.promise
      clearTimeout(timer)
      await thread?.terminate()
    },
  }
}
