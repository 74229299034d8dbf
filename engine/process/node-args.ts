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

export function nodeArgs(script: 'gateway' | 'engine' | 'model', cores = availableParallelism()): string[] {
  if (script === 'model') return []
  const helpers = Math.max(1, Math.min(helpersMax, cores - 1))
  const args = [`--v8-pool-size=${helpers}`]
  if (script === 'gateway') args.push(`--max-semi-space-size=${gatewayYoungMb}`)
  return args
}
