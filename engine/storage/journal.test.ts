/** The journal's contract on the in-memory log. */
import { memoryWorld } from '#load/kit/journal-world.ts'
import { journalContract } from './journal.contract.ts'

journalContract('memory', async () => memoryWorld())
