/** Owns the rule that one start at a time uses a data folder. Refuses to wait long for the one that holds it. */
import { holdName } from '#engine/cluster/name-hold.ts'
import { isAlive, readNodeFile } from './node-file.ts'
import { StartError } from './start-error.ts'

/** Throws a StartError when another start holds it; it stays ours until this process ends. */
export async function holdDataDir(dataDir: string): Promise<void> {
  // A start that is being stopped holds the folder a moment longer.
  for (const until = performance.now() + 3000; ; ) {
    const hold = await holdName(`start ${dataDir}`)
    const other = readNodeFile(dataDir)
    const isTaken =
      hold.kind === 'taken' || (hold.kind === 'unproved' && other?.parent !== process.pid && isAlive(other?.parent))
    if (!isTaken) return
    if (performance.now() > until) {
      const who = other ? ` (process ${other.parent}${other.url ? `, ${other.url}` : ''})` : ''
      throw new StartError(
        `Parley already runs on DATA_DIR ${dataDir}${who}. Stop it or set DATA_DIR to another folder.`,
      )
    }
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}
