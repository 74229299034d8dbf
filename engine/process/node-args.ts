/**
 * How V8 is set up in the processes that serve. Its helper threads collect garbage and compile beside the main one; Node starts
 * four of them whatever the machine, and on two cores those of two processes take turns with what they help: at 12,000
 * sends/s that was p99 140 ms instead of 95.
 */
import { availableParallelism } from 'node:os'

const helpersMax = 4
/** MB. New objects of a gateway die young; a larger space for them is memory that ten thousand idle sockets only fill slowly. */
const gatewayYoungMb = 16

export function nodeArgs(script: 'gateway' | 'engine' | 'model', cores = availableParallelism()): string[] {
  if (script === 'model') return []
  const helpers = Math.max(1, Math.min(helpersMax, cores - 1))
  const args = [`--v8-pool-size=${helpers}`]
  if (script === 'gateway') args.push(`--max-semi-space-size=${gatewayYoungMb}`)
  return args
}
