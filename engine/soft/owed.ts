/**
 * Who came or went while the soft store could not be told: for each socket the last of both, in the order of the calls, not
 * of their failures. Bounded. Refuses to tell anybody.
 */
export interface Owed {
  userId: string
  socket: string
  isHere: boolean
  /** Of all calls. */
  order: number
  /** Monotonic ms. */
  at: number
}

export class OwedList {
  readonly #max: number
  readonly #entries = new Map<string, Owed>()

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#entries.size
  }

  /** False when there is no room for it. */
  add(entry: Owed): boolean {
    const before = this.#entries.get(entry.socket)
    if (before && before.order > entry.order) return true
    if (!before && this.#entries.size >= this.#max) return false
    this.#entries.set(entry.socket, entry)
    return true
  }

  /** What is owed now, the first call first. */
  list(): Owed[] {
    return [...this.#entries.values()].sort((a, b) => a.order - b.order)
  }

  /** Told, or not to be told any more; what was owed for the same socket meanwhile stays. */
  settle(entries: readonly Owed[]): void {
    for (const entry of entries) {
      if (this.#entries.get(entry.socket) === entry) this.#entries.delete(entry.socket)
    }
  }
}
