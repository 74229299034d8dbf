/** Which of the 256 shards a conversation belongs to. This never changes: shard ids are stored. */
import { writeId } from './ids.ts'
import { shardCount } from './limits.ts'

const bytes = new Uint8Array(16)

/** fnv1a32 over the id's 16 bytes, mod 256. */
export function shardOf(conversationId: string): number {
  writeId(bytes, 0, conversationId)
  let hash = 0x811c9dc5
  for (let i = 0; i < 16; i++) {
    hash ^= bytes[i]!
    hash = Math.imul(hash, 0x01000193)
  }
  return (hash >>> 0) % shardCount
}
