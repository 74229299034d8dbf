/**
 * The shards that a worker holds, each with its newest epoch. Filled by control messages and by the journal's recovery;
 * epochs only grow, so a message that was overtaken by a stamp changes nothing. Asks nobody.
 */
export class ShardTable {
  readonly #epochs = new Map<number, number>()
  /** Epochs at which shards were lost: an older word that they are ours comes too late. */
  readonly #lost = new Map<number, number>()

  /** False when a newer epoch is known, or the shard was lost at this epoch or a later one. */
  set(shard: number, epoch: number): boolean {
    if (epoch <= (this.#lost.get(shard) ?? -1) || epoch < (this.#epochs.get(shard) ?? -1)) return false
    this.#epochs.set(shard, epoch)
    return true
  }

  /** Forgets the shard; with an epoch, only if that is still the one in force. True when it was held. */
  drop(shard: number, epoch?: number): boolean {
    const held = this.#epochs.get(shard)
    if (held === undefined || (epoch !== undefined && held !== epoch)) return false
    this.#epochs.delete(shard)
    this.#lost.set(shard, held)
    return true
  }

  epochOf(shard: number): number | undefined {
    return this.#epochs.get(shard)
  }

  shards(): number[] {
    return [...this.#epochs.keys()]
  }

  get size(): number {
    return this.#epochs.size
  }
}
