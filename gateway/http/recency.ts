/**
 * Things in the order of their last use, linked from each to the next: a use costs a few writes, where a map that keeps that order
 * is searched twice for it. Refuses to find a thing, or to say whether it is in: whoever keeps them has a map.
 */

export interface Linked<T> {
  older: T | undefined
  newer: T | undefined
}

export class Recency<T extends Linked<T>> {
  size = 0
  #oldest: T | undefined
  #newest: T | undefined

  get oldest(): T | undefined {
    return this.#oldest
  }

  /** One that is not in. */
  add(item: T): void {
    item.older = this.#newest
    if (this.#newest) this.#newest.newer = item
    else this.#oldest = item
    this.#newest = item
    this.size++
  }

  /** One that is in. */
  used(item: T): void {
    if (item === this.#newest) return
    this.remove(item)
    this.add(item)
  }

  /** One that is in. */
  remove(item: T): void {
    const { older, newer } = item
    if (older) older.newer = newer
    else this.#oldest = newer
    if (newer) newer.older = older
    else this.#newest = older
    item.older = undefined
    item.newer = undefined
    this.size--
  }
}
