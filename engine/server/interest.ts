/**
 * Which gateways watch which conversation: the interest table of one worker. Needs no actor awake and no heartbeat; it lives
 * as long as the link and the ownership. Refuses more entries than interestItemsMax.
 */
import { interestItemsMax, shardCount } from '#protos/limits.ts'

export class Interest<L> {
  /** Lists and not sets: most conversations are watched by one or two, and a set for each would be the most of this table. */
  #shards: Map<string, readonly L[]>[] = Array.from({ length: shardCount }, () => new Map())
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
    if (links?.includes(link)) return true
    if (this.#size >= this.#max) return false
    watched.set(conversation, links === undefined ? [link] : [...links, link])
    this.#size++
    return true
  }

  remove(shard: number, conversation: string, link: L): void {
    const watched = this.#shards[shard]!
    const links = watched.get(conversation)
    if (!links?.includes(link)) return
    this.#size--
    if (links.length === 1) watched.delete(conversation)
    else
      watched.set(
        conversation,
        links.filter(l => l !== link),
      )
  }

  /** The links that watch a conversation, or undefined when none does. */
  of(shard: number, conversation: string): readonly L[] | undefined {
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
    for (const links of this.#shards[shard]!.values()) this.#size -= links.length
    this.#shards[shard]!.clear()
  }
}
