/** engine/ops/metrics.ts reduced to counting calls: a registry for each process of each run would cost more than the run. */
import type { Metrics } from '#engine/ops/metrics.ts'

export type { Metrics }

const none = { inc() {}, dec() {}, set() {}, observe() {}, startTimer: () => () => 0 }

export function openMetrics(): Metrics {
  return new Proxy({} as Metrics, { get: () => none })
}
