/** Owns the gauges of one thread: how late its event loop runs and how much heap it uses. Refuses to judge them. */
import type { Metrics } from './metrics.ts'

const tickMs = 100
/** The gauge forgets a delay after 10 to 20 s: two windows, the larger of both is shown. */
const windowMs = 10_000

/** Samples until the returned function is called. `thread`: the label, for example `main`, `worker-0`, `gateway`. */
export function watchThread(metrics: Metrics, thread: string): () => void {
  let last = performance.now()
  let windowStart = last
  let worst = 0
  let worstBefore = 0
  const timer = setInterval(() => {
    const at = performance.now()
    worst = Math.max(worst, at - last - tickMs)
    last = at
    if (at - windowStart >= windowMs) {
      worstBefore = worst
      worst = 0
      windowStart = at
      metrics.parley_heap_bytes.set({ thread }, process.memoryUsage().heapUsed)
    }
    metrics.parley_event_loop_lag_ms.set({ thread }, Math.max(worst, worstBefore))
  }, tickMs)
  timer.unref()
  metrics.parley_heap_bytes.set({ thread }, process.memoryUsage().heapUsed)
  metrics.parley_event_loop_lag_ms.set({ thread }, 0)
  return () => clearInterval(timer)
}
