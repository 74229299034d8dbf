/** What a figure was made on, for pages of results: processor, cores, memory, Node, day. */
import { availableParallelism, cpus, totalmem } from 'node:os'

export function machineLine(): string {
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  return `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} cores, ${memory}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`
}
