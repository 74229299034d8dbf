/**
 * How V8 is set up in the processes that serve. Its helper threads collect garbage and compile beside the main one; Node starts
 * four of them whatever the machine, and on two cores those of two processes take turns with what they help: at 12,000
 * sends/s p99 was 95 to 144 ms in four runs with four of them, 93 to 105 in three with one.
 */
import { availableParallelism } from 'node:os'

const helpersMax = 4
/**
 * MB. A larger space for new objects is memory that idle sockets fill, slowly: of 8,000 each took 15 kB after 45 s, 22 without
 * this limit. The price is about a tenth of a gateway's CPU at 10,000 sends/s.
 */
const gatewayYoungMb = 16

/**
 * How far the old space of a worker grows beyond what lived at the last full collection, before the next. Below a limit of 1 GiB
 * V8 takes two thirds, which with the bytes of sockets and statements made a full collection each second at 2,000 sends/s: a
 * fifth of the engine's CPU. The price is up to three times the live heap in garbage, some 100 MB.
 */
const engineGrowthPercent = 300

export function nodeArgs(script: 'gateway' | 'engine' | 'model', cores = availableParallelism()): string[] {
  if (script === 'model') return []
  const helpers = Math.max(1, Math.min(helpersMax, cores - 1))
  const args = [`--v8-pool-size=${helpers}`]
  if (script === 'gateway') args.push(`--max-semi-space-size=${gatewayYoungMb}`)
  if (script === 'engine') args.push(`--heap-growing-percent=${engineGrowthPercent}`)
  return args
}
