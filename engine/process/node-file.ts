/**
 * Owns node.json: which processes of a running start are where, for scripts and for the next start. Readable by its owner
 * only, because a database address may hold a password. Refuses to be the truth about who runs: processes are asked.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { makeFolder } from '#engine/ops/folder.ts'
import { StartError } from './start-error.ts'

export interface NodeFile {
  parent: number
  engine?: number | undefined
  gateway?: number | undefined
  model?: number | undefined
  postgres?: number | undefined
  url?: string | undefined
  metricsUrl?: string | undefined
  engineMetricsUrl?: string | undefined
  modelUrl?: string | undefined
  databaseUrl: string
}

/** Makes the folder. Throws a StartError naming DATA_DIR when that cannot be. */
export function openDataDir(dataDir: string): void {
  try {
    makeFolder(dataDir)
    const probe = path.join(dataDir, '.probe')
    writeFileSync(probe, '')
    rmSync(probe)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new StartError(`DATA_DIR ${dataDir} cannot be used (${code}). Set DATA_DIR to a folder this user can write.`)
  }
}

export function writeNodeFile(dataDir: string, content: NodeFile): void {
  const file = path.join(dataDir, 'node.json')
  writeFileSync(`${file}.next`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(`${file}.next`, file)
}

export function readNodeFile(dataDir: string): NodeFile | undefined {
  try {
    return JSON.parse(readFileSync(path.join(dataDir, 'node.json'), 'utf8')) as NodeFile
  } catch {
    return undefined
  }
}

/** Whether this process lives, zombies excluded; with `script`, also whether it runs that script (where /proc can tell). */
export function isAlive(pid: number | undefined, script?: string): boolean {
  if (!pid) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  if (process.platform !== 'linux') return true
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    if (stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')) return false
    return script === undefined || readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(script)
  } catch {
    return false
  }
}
