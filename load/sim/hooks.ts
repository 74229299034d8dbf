/**
 * Loads production's modules with their edges to the machine turned into the simulation's: timers, gRPC, the database's
 * driver, clock, logs, metrics and the model behind the assistant. All else is the very code that runs in production.
 * A planted bug is a replaced piece of source text. Must be called before any of those modules is loaded.
 */
import { registerHooks } from 'node:module'
import type { Bug } from './bugs.ts'

const here = new URL('./doubles/', import.meta.url)
const root = new URL('../../', import.meta.url)

const bare = new Map([
  ['node:timers/promises', 'timers.ts'],
  ['@grpc/grpc-js', 'grpc.ts'],
])
const files = new Map([
  ['engine/ops/clock.ts', 'clock.ts'],
  ['engine/ops/log.ts', 'log.ts'],
  ['engine/ops/metrics.ts', 'metrics.ts'],
  ['engine/ops/thread-health.ts', 'thread-health.ts'],
  ['engine/storage/pool.ts', 'database.ts'],
  ['engine/storage/orm.ts', 'database.ts'],
  ['engine/storage/connections.ts', 'database.ts'],
  ['engine/assistant/provider.ts', 'provider.ts'],
])

let isHooked = false

/** Turns the edges; `bugs` are planted in what is loaded from now on. */
export function hook(bugs: readonly Bug[] = []): void {
  if (isHooked) throw new Error('the modules are turned already')
  isHooked = true
  const left = new Set(bugs.flatMap(bug => bug.patches))
  registerHooks({
    resolve(specifier, context, next) {
      const double = isOurs(context.parentURL) ? bare.get(specifier) : undefined
      if (double) return { url: new URL(double, here).href, shortCircuit: true }
      const found = next(specifier, context)
      const file = found.url.startsWith(root.href) ? files.get(found.url.slice(root.href.length)) : undefined
      return file && !context.parentURL?.startsWith(here.href) ? { ...found, url: new URL(file, here).href } : found
    },
    load(url, context, next) {
      const loaded = next(url, context)
      const mine = [...left].filter(p => url === new URL(p.file, root).href)
      if (mine.length === 0) return loaded
      let text = String(typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array))
      for (const patch of mine) {
        left.delete(patch)
        text = planted(text, patch)
      }
      return { ...loaded, source: text }
    },
  })
}

/** The text with the bug in it. Throws when the text has changed so that the bug does not apply any more. */
export function planted(text: string, patch: Bug['patches'][number]): string {
  if (text.split(patch.from).length !== 2) throw new Error(`${patch.file} does not have once: ${patch.from}`)
  return text.replace(patch.from, () => patch.to)
}

/** Tests' and tools' own timers stay what they are. */
function isOurs(parent: string | undefined): boolean {
  if (!parent?.startsWith(root.href)) return false
  const file = parent.slice(root.href.length)
  return /^(engine|gateway|protos|web)\//.test(file)
}
