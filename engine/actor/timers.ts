/**
 * The timers of a worker: one heap, one Node timer for the earliest. Thousands of actors may each want to be woken without
 * a handle apiece. Refuses to keep the process alive; due times are monotonic.
 */
import type { Clock } from '#engine/ops/clock.ts'

interface Due {
  at: number
  run: (() => void) | undefined
}

export interface Timers {
  /** Runs once, at least `ms` from now. The answer cancels it. */
  after(ms: number, run: () => void): () => void
  close(): void
}

export function openTimers(clock: Pick<Clock, 'mono'>, onError: (error: unknown) => void): Timers {
  const heap: Due[] = []
  let handle: NodeJS.Timeout | undefined
  let armedFor = Number.POSITIVE_INFINITY
  let isClosed = false

  function arm(): void {
    const first = heap[0]
    if (!first || isClosed || first.at >= armedFor) return
    clearTimeout(handle)
    armedFor = first.at
    handle = setTimeout(fire, Math.max(0, Math.ceil(first.at - clock.mono())))
    handle.unref()
  }

  function fire(): void {
    armedFor = Number.POSITIVE_INFINITY
    const now = clock.mono()
    while (heap.length > 0 && heap[0]!.at <= now) {
      const { run } = pop(heap)
      try {
        run?.()
      } catch (error) {
        onError(error)
      }
    }
    arm()
  }

  return {
    after(ms, run) {
      const due: Due = { at: clock.mono() + ms, run }
      if (!isClosed) push(heap, due)
      arm()
      return () => {
        due.run = undefined
      }
    },
    close() {
      isClosed = true
      clearTimeout(handle)
      heap.length = 0
    },
  }
}

function push(heap: Due[], due: Due): void {
  let at = heap.push(due) - 1
  while (at > 0) {
    const up = (at - 1) >> 1
    if (heap[up]!.at <= due.at) break
    heap[at] = heap[up]!
    at = up
  }
  heap[at] = due
}

function pop(heap: Due[]): Due {
  const first = heap[0]!
  const last = heap.pop()!
  if (heap.length === 0) return first
  let at = 0
  for (;;) {
    let down = 2 * at + 1
    if (down >= heap.length) break
    if (down + 1 < heap.length && heap[down + 1]!.at < heap[down]!.at) down++
    if (heap[down]!.at >= last.at) break
    heap[at] = heap[down]!
    at = down
  }
  heap[at] = last
  return first
}
