/**
 * Breaks processes on purpose: preloaded by --import, it adds `POST /fault {"worker", "kind"}` to the internal listener and lets
 * the named thread throw, exit, spin or fill its heap; `POST /disturb {"kind", "ms", "mb"}` stalls the main thread, sets the wall
 * clock of all threads off, or holds memory for a while. `GET /heap` collects garbage everywhere and tells what is left.
 * Nothing of the product imports it.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { BroadcastChannel, isMainThread } from 'node:worker_threads'
import { addedRoutes, json } from '#engine/ops/admin.ts'

const kinds = ['throw', 'exit', 'spin', 'oom'] as const
type FaultKind = (typeof kinds)[number]
interface Fault {
  worker: number
  kind: FaultKind
}

interface Disturbance {
  kind: 'stall' | 'skew' | 'hoard'
  /** Length; of a skew: how far the clock is ahead. */
  ms: number
  mb?: number
}

const bus = new BroadcastChannel('parley:faults')
bus.unref()
const clocks = new BroadcastChannel('parley:clocks')
clocks.unref()
const heaps = new BroadcastChannel('parley:heaps')
heaps.unref()

const RealDate = Date
let aheadMs = 0
/** Monotonic time stays what it is. */
class SkewedDate extends RealDate {
  constructor(...given: unknown[]) {
    super(...((given.length === 0 ? [RealDate.now() + aheadMs] : given) as [number]))
  }

  static override now(): number {
    return RealDate.now() + aheadMs
  }
}

function skew(ms: number): void {
  aheadMs = ms
  globalThis.Date = (ms === 0 ? RealDate : SkewedDate) as DateConstructor
}

/** Heap in use after a full collection. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
  return process.memoryUsage().heapUsed
}

if (isMainThread) {
  addedRoutes.set('POST /fault', async (request, response) => {
    const fault = parse(await bodyOf(request))
    if (!fault) return json(response, 400, { error: `worker: an index; kind: one of ${kinds.join(', ')}` })
    bus.postMessage(fault)
    json(response, 202, fault)
  })
  addedRoutes.set('POST /disturb', async (request, response) => {
    const { kind, ms, mb = 0 } = JSON.parse(await bodyOf(request)) as Disturbance
    json(response, 202, { kind })
    setTimeout(() => disturb(kind, ms, mb), 20)
  })
  addedRoutes.set('GET /heap', async (_, response) => {
    const threads: number[] = []
    heaps.onmessage = event => {
      const { bytes } = (event as { data: { bytes?: number } }).data
      if (bytes !== undefined) threads.push(bytes)
    }
    heaps.postMessage({})
    // Each thread collects on its own; none takes longer than this.
    await new Promise(go => setTimeout(go, 1000))
    heaps.onmessage = () => {}
    json(response, 200, { main: heapBytes(), threads })
  })
} else {
  clocks.onmessage = event => skew((event as { data: number }).data)
  heaps.onmessage = event => {
    if ((event as { data: { bytes?: number } }).data.bytes === undefined) heaps.postMessage({ bytes: heapBytes() })
  }
  subscribe('parley:thread', message => {
    const { worker } = message as { worker: number }
    bus.onmessage = event => {
      const fault = (event as { data: Fault }).data
      if (fault.worker === worker) breakThread(fault.kind)
    }
  })
}

function disturb(kind: Disturbance['kind'], ms: number, mb: number): void {
  switch (kind) {
    case 'stall':
      for (const until = performance.now() + ms; performance.now() < until; );
      return
    case 'skew':
      skew(ms)
      clocks.postMessage(ms)
      return
    case 'hoard': {
      // Touched, so that it is really taken.
      const held = Array.from({ length: mb }, () => Buffer.alloc(2 ** 20, 1))
      // Given back at once, and not with some later collection.
      setTimeout(() => {
        for (const { buffer } of held.splice(0)) buffer.transfer(0)
      }, ms)
      return
    }
    default:
      kind satisfies never
  }
}

function breakThread(kind: FaultKind): void {
  switch (kind) {
    case 'throw':
      setImmediate(() => {
        throw new Error('a fault on purpose')
      })
      break
    case 'exit':
      process.exit(1)
      break
    case 'spin':
      for (;;);
    case 'oom': {
      const hoard: unknown[] = []
      for (;;) hoard.push(Array.from({ length: 10_000 }, (_, i) => ({ i })))
    }
    default:
      kind satisfies never
  }
}

function parse(text: string): Fault | undefined {
  try {
    const { worker, kind } = JSON.parse(text) as Partial<Fault>
    return Number.isInteger(worker) && kinds.includes(kind as FaultKind) ? (JSON.parse(text) as Fault) : undefined
  } catch {
    return undefined
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) if ((text += chunk).length > 1000) break
  return text
}
