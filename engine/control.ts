/**
 * What an engine's main thread and its worker threads tell each other: ownership, life cycle, metrics. One MessagePort per
 * worker, these messages in order, and one shared counter. Refuses to carry chat traffic.
 */
import type { MessagePort } from 'node:worker_threads'
import type { MetricObjectWithValues, MetricValue } from 'prom-client'

/** Metrics of one thread as prom-client's AggregatorRegistry.aggregate takes them. */
export type MetricDump = MetricObjectWithValues<MetricValue<string>>[]

/** Main thread → worker. */
export type ToWorker =
  /** These shards are this worker's, under these epochs; also sent again when an epoch changed. */
  | { kind: 'own'; shards: [shard: number, epoch: number][] }
  /** Forget these shards at once. */
  | { kind: 'disown'; shards: number[] }
  /** Shards that were disowned have these owners now: a hint for gateways. */
  | { kind: 'moved'; to: { shard: number; addr: string; epoch: number }[] }
  /** Monotonic ms (processMono) at which the last successful renewal was sent. */
  | { kind: 'renewed'; mono: number }
  /** Answer with `metrics` of the same id. */
  | { kind: 'metrics'; id: number }
  /** A port to the thread that speaks with further MCP servers, and again when that was replaced. */
  | { kind: 'tools'; port: MessagePort }
  /** Start no turns from now on, and say with `busy` where some run: now, and every busyEveryMs. */
  | { kind: 'quiesce' }
  /** Start no turns of these shards, and answer with `hushed`: they are about to move. */
  | { kind: 'hush'; shards: number[] }
  /** They stay after all. */
  | { kind: 'unhush'; shards: number[] }
  /** No new turns, end running ones, flush receipts; then `drained`. */
  | { kind: 'drain' }
  /** Close everything and end the task. */
  | { kind: 'stop' }

/** Worker → main thread. */
export type FromWorker =
  /** The gRPC listener is open; `addr` is host:port for the route map. Sent once, before anything else. */
  | { kind: 'listening'; addr: string }
  /** A commit or a stamp found these shards under another's epoch; the worker has forgotten them. */
  | { kind: 'fenced'; shards: number[] }
  /** Recovery moved these shards to fresh epochs, still this worker's. The row is written already; keep it in mind. */
  | { kind: 'stamped'; shards: [shard: number, epoch: number][] }
  /** Where turns run that end here or nowhere; after `quiesce` no others begin. Otherwise sent when it changed. */
  | { kind: 'busy'; shards: number[]; isQuiet: boolean }
  /** No turn begins in these shards; `busy`: those in which one runs. */
  | { kind: 'hushed'; shards: number[]; busy: number[] }
  | { kind: 'metrics'; id: number; json: MetricDump }
  | { kind: 'drained' }

/** What a worker's endless task is started with: piscina's `run(data, {transferList: [data.port]})`. */
export interface WorkerData {
  port: MessagePort
  /** Int32Array over 4 shared bytes; the worker adds 1 to element 0 every workerBeatMs. */
  beat: SharedArrayBuffer
  /** Index of this worker within the node: `engine_node.addrs[worker]`, `shard.worker`. */
  worker: number
  nodeId: string
  incarnation: string
  /** The whole environment, read again by readConfig in the thread. */
  env: Record<string, string | undefined>
}

/**
 * Monotonic ms that mean the same in all threads of one process: performance.now() alone starts anew in each thread.
 * Only for `renewed` and what is compared with it.
 */
export function processMono(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
