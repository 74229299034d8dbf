/** The journal's contract on the in-memory log. */
import { journalContract } from './journal.contract.ts'
import { MemoryDatabase, MemoryLog } from './log-memory.ts'

journalContract('memory', async () => {
  const database = new MemoryDatabase()
  return {
    store: new MemoryLog(database),
    log: async conversation => database.events.get(conversation) ?? [],
    own: async shards => new Map(shards.map(shard => [shard, database.move(shard)])),
    steal: async shard => void database.move(shard),
    close: async () => {},
  }
})
