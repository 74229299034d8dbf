/**
 * Owns the sum of all threads' metrics: asks each worker, waits a bounded time, adds up. A hung thread is left out, never
 * waited for. Refuses to keep old numbers.
 */
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue, type Registry } from 'prom-client'
import { metricsWaitMs } from '#protos/limits.ts'

export type Dump = MetricObjectWithValues<MetricValue<string>>[]

export interface Scrape {
  /** Prometheus text of the main thread and of every worker that answered. */
  text(): Promise<string>
  answered(id: number, json: Dump): void
}

/** `ask` sends the request to every running worker and returns how many there were. */
export function openScrape(own: Registry, ask: (id: number) => number): Scrape {
  const open = new Map<number, (json: Dump) => void>()
  let lastId = 0
  return {
    async text() {
      const id = ++lastId
      const dumps: Dump[] = []
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, metricsWaitMs)
        let awaited = 0
        open.set(id, json => {
          dumps.push(json)
          if (dumps.length < awaited) return
          clearTimeout(timer)
          resolve()
        })
        awaited = ask(id)
        if (awaited === 0) {
          clearTimeout(timer)
          resolve()
        }
      })
      open.delete(id)
      dumps.push((await own.getMetricsAsJSON()) as Dump)
      return AggregatorRegistry.aggregate(dumps).metrics()
    },
    answered(id, json) {
      open.get(id)?.(json)
    },
  }
}
