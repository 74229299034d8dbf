/**
 * C7 from SQL alone: each event's epoch was really given out for its shard, to one owner, and along a log epochs never go back.
 * Pure. Refuses to trust a server's word about who owned what.
 */
import { byConversation, Problems, type Row } from './checkers.ts'

export interface EpochRecord {
  shard: number
  epoch: number
  owner: string | null
  worker: number | null
}

export function checkOwnership(
  rows: readonly Row[],
  shardOf: (conversation: string) => number,
  history: readonly EpochRecord[],
): string[] {
  const problems = new Problems('C7')
  const given = new Map<string, EpochRecord>()
  const shards = new Map<number, number>()
  for (const record of history) {
    const key = `${record.shard} ${record.epoch}`
    const other = given.get(key)
    if (other && (other.owner !== record.owner || other.worker !== record.worker))
      problems.add(`epoch ${record.epoch} of shard ${record.shard} has two owners`)
    given.set(key, record)
    const elsewhere = shards.get(record.epoch)
    if (elsewhere !== undefined && elsewhere !== record.shard)
      problems.add(`epoch ${record.epoch} was given to shards ${elsewhere} and ${record.shard}`)
    shards.set(record.epoch, record.shard)
  }
  for (const [conversation, log] of byConversation(rows)) {
    const shard = shardOf(conversation)
    for (const [i, row] of log.entries()) {
      const before = log[i - 1]
      if (before && row.epoch < before.epoch)
        problems.add(`${conversation}: epoch ${row.epoch} at ${row.seq} after ${before.epoch}`)
      const record = given.get(`${shard} ${row.epoch}`)
      if (!record) problems.add(`${conversation}: epoch ${row.epoch} at ${row.seq} was never given to shard ${shard}`)
      else if (record.owner === null)
        problems.add(`${conversation}: ${row.seq} was written under an epoch without owner`)
    }
  }
  return problems.list
}
