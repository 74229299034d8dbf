/**
 * Breaks worker threads on purpose: preloaded into an engine by --import, it adds `POST /fault {"worker", "kind"}` to the
 * internal listener and lets the named thread throw, exit, spin or fill its heap. Nothing of the product imports it.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import { BroadcastChannel, isMainThread } from 'node:worker_threads'
import { addedRoutes, json } from '#engine/ops/admin.ts'

const kinds = ['throw', 'exit', 'spin', 'oom'] as const
type FaultKind = (typeof kinds)[number]
interface Fault {
  worker: number
  kind: FaultKind
}

const bus = new BroadcastChannel('parley:faults')
bus.unref()

if (isMainThread) {
  addedRoutes.set('POST /fault', async (request, response) => {
    const fault = parse(await bodyOf(request))
    if (!fault) return json(response, 400, { error: `worker: an index; kind: one of ${kinds.join(', ')}` })
    bus.postMessage(fault)
    json(response, 202, fault)
  })
} else {
  subscribe('parley:thread', message => {
    const { worker } = message as { worker: number }
    bus.onmessage = event => {
      const fault = (event as { data: Fault }).data
      if (fault.worker === worker) breakThread(fault.kind)
    }
  })
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
