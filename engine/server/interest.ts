/**
 * Which gateways watch which conversation: the interest table of one worker. Needs no actor awake and no heartbeat; it lives
 * as long as the link and the ownership. Refuses more entries than interestItemsMax.
 */
import { interestItemsMax, shardCount } from '#protos/limits.ts'

export class Interest<L> {
  #shards: Map<string, Set<L>>[] = Array.from({ length: shardCount }, () => new Map())
  #size = 0
  #max: number

  constructor(max = interestItemsMax) {
    this.#max = max
  }

  get size(): number {
    return this.#size
  }

  /** False when the table is full; true also when it was there already. */
  add(shard: number, conversation: string, link: L): boolean {
    const watched = this.#shards[shard]!
    const links = watched.get(conversation)
    if (links?.has(link)) return true
    if (this.#size >= this.#max) return false
    if (links === undefined) watched.set(conversation, new Set([link]))
    else links.add(link)
    this.#size++
    return true
  }

  remove(shard: number, conversation: string, link: L): void {
    const links = this.#shards[shard]!.get(conversation)
    if (!links?.delete(link)) return
    this.#size--
    if (links.size === 0) this.#shards[shard]!.delete(conversation)
  }

  /** The links that watch a conversation, or undefined when none does. */
  of(shard: number, conversation: string): ReadonlySet<L> | undefined {
    return this.#shards[shard]!.get(conversation)
  }

  /** A link is gone. */
  dropLink(link: L): void {
    for (const [shard, watched] of this.#shards.entries()) {
      for (const conversation of watched.keys()) this.remove(shard, conversation, link)
    }
  }

  /** A shard is another's: its watchers attach there. */
  dropShard(shard: number): void {
    for (const links of this.#shards[shard]!.values()) this.#size -= links.size
    this.#shards[shard]!.clear()
  }
}
