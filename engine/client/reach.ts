/**
 * Which workers this gateway cannot reach although they are alive to others: says so to the database, names another worker
 * that can pass letters on, and knows when the gateway reaches nobody at all. Refuses to bury anybody.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { cutOffMs, suspectAfterMs, suspectEveryMs } from '#protos/limits.ts'
import type { WorkerLink } from './link.ts'

export interface Reach {
  /** Looks at the links; now and then, and after each change of the map. `isFresh`: the map was read a short while ago. */
  look(links: Iterable<WorkerLink>, named: ReadonlySet<string>, isFresh: boolean): void
  /** Living owners are known and none has been reached for cutOffMs. */
  isCutOff(): boolean
  /** Another worker that is reached directly. */
  hop(addr: string): string | undefined
}

export function createReach(deps: {
  clock: Clock
  log: Log
  /** Writes down that the worker at this address is not reached. */
  suspect?: (addr: string) => Promise<unknown>
}): Reach {
  const { clock, log } = deps
  const toldAt = new Map<string, number>()
  let direct: string[] = []
  let aloneSince: number | undefined

  function tell(addr: string, now: number): void {
    if (now - (toldAt.get(addr) ?? Number.NEGATIVE_INFINITY) < suspectEveryMs) return
    toldAt.set(addr, now)
    log.warn('a worker that others reach is not reached from here', { node: addr })
    deps.suspect?.(addr).catch(error => log.warn('a suspicion could not be written down', { err: error }))
  }

  return {
    look(links, named, isFresh) {
      const now = clock.mono()
      const all = [...links]
      direct = all.filter(link => link.isUp && !link.isRelayed).map(link => link.addr)
      // Owners that renew their leases are in a fresh map; without one nobody can tell who is at fault.
      if (all.some(link => link.isUp) || !isFresh || named.size === 0) aloneSince = undefined
      else aloneSince ??= now
      for (const addr of toldAt.keys()) if (!named.has(addr)) toldAt.delete(addr)
      // Who reaches nobody has no say: the fault is its own.
      if (direct.length === 0 || !isFresh) return
      for (const link of all) {
        if (named.has(link.addr) && link.unreachedMs >= suspectAfterMs) tell(link.addr, now)
      }
    },
    isCutOff: () => aloneSince !== undefined && clock.mono() - aloneSince >= cutOffMs,
    hop(addr) {
      const others = direct.filter(other => other !== addr)
      return others[Math.floor(clock.random() * others.length)]
    },
  }
}
