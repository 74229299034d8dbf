/**
 * One link for each address of the route map: opened when it is named, closed when it is named no more and its last answers
 * had time to come. Refuses to know what links carry.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { linkUnusedMs } from '#protos/limits.ts'
import type { WorkerLink } from './link.ts'

export class Links {
  #all = new Map<string, { link: WorkerLink; namedAt: number }>()
  readonly #clock: Clock
  readonly #open: (addr: string) => WorkerLink

  constructor(clock: Clock, open: (addr: string) => WorkerLink) {
    this.#clock = clock
    this.#open = open
  }

  at(addr: string): WorkerLink | undefined {
    return this.#all.get(addr)?.link
  }

  all(): WorkerLink[] {
    return [...this.#all.values()].map(({ link }) => link)
  }

  /** These addresses are in the map now. */
  name(addrs: Iterable<string>): void {
    const now = this.#clock.mono()
    for (const addr of addrs) {
      const known = this.#all.get(addr)
      if (known) known.namedAt = now
      else this.#all.set(addr, { link: this.#open(addr), namedAt: now })
    }
    for (const [addr, { link, namedAt }] of this.#all) {
      if (link.isUp ? now - namedAt <= linkUnusedMs : namedAt === now) continue
      this.#all.delete(addr)
      link.close()
    }
  }

  close(): void {
    for (const link of this.all()) link.close()
    this.#all.clear()
  }
}
