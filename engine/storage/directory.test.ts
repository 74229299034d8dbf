/** The directory's contract on the in-memory log. */
import { randomUUID } from 'node:crypto'
import { memoryWorld } from '#load/kit/journal-world.ts'
import { directoryContract } from './directory.contract.ts'
import { createMemoryDirectory } from './directory-memory.ts'

directoryContract('memory', async () => {
  const world = memoryWorld()
  return {
    ...world,
    directory: createMemoryDirectory(world.database),
    user: async username => {
      const id = randomUUID()
      world.database.names.set(id, { username, displayName: null })
      return id
    },
    contextOf: async runId => {
      const seqs = world.database.contexts.get(`${runId}/0`)
      return seqs ? [[...seqs]] : []
    },
  }
})
