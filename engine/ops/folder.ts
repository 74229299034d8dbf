/**
 * Makes folders, parents included. Refuses to leave that to Node's `recursive`, which never returns where a file system
 * says of a new entry that its parent does not exist, as /proc does.
 */
import { mkdirSync, statSync } from 'node:fs'
import path from 'node:path'

/** Throws the error of the file system when one of them cannot be made or is not a folder. `mode`: of those made. */
export function makeFolder(folder: string, mode = 0o777): void {
  const missing: string[] = []
  let at = path.resolve(folder)
  for (;;) {
    const found = statSync(at, { throwIfNoEntry: false })
    if (found?.isDirectory()) break
    if (found) throw Object.assign(new Error(`${at} is not a folder`), { code: 'ENOTDIR' })
    missing.unshift(at)
    at = path.dirname(at)
  }
  for (const each of missing) {
    try {
      mkdirSync(each, { mode })
    } catch (error) {
      // Somebody else was first, which is as good.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}
