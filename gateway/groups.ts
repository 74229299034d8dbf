/**
 * Several values under one key, most often one: that one is kept as it is, a set only from the second on. A gateway holds
 * tens of thousands of these. Refuses to keep a key without a value.
 */
export class Groups<K, V extends object> {
  readonly #groups = new Map<K, V | Set<V>>()

  has(key: K): boolean {
    return this.#groups.has(key)
  }

  keys(): MapIterator<K> {
    return this.#groups.keys()
  }

  /** In the order in which they were added; a copy, so that one may go while they are walked over. */
  of(key: K): readonly V[] {
    const group = this.#groups.get(key)
    if (group === undefined) return []
    return group instanceof Set ? [...group] : [group]
  }

  add(key: K, value: V): void {
    const group = this.#groups.get(key)
    if (group === undefined) this.#groups.set(key, value)
    else if (group instanceof Set) group.add(value)
    else if (group !== value) this.#groups.set(key, new Set([group, value]))
  }

  delete(key: K, value: V): void {
    const group = this.#groups.get(key)
    if (group === value) this.#groups.delete(key)
    else if (group instanceof Set && group.delete(value) && group.size === 0) this.#groups.delete(key)
  }
}
