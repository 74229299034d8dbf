/**
 * Owns cluster.json: where the processes of a running cluster are, for scripts that use, watch or break it. Written whole or
 * not at all, readable by its owner only. Refuses to be the truth about who runs: processes are asked.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface ClusterFile {
  gateways: { pid: number; url: string; metrics_url: string }[]
  engines: { pid: number; admin_url: string; metrics_url: string; workers: ClusterWorker[] }[]
  /** Without a pid where the server is not ours. */
  postgres: { pid?: number; url: string }
  redis: { pid?: number; url: string }
}

export interface ClusterWorker {
  index: number
  /** host:port of its listener. */
  grpc: string
  /** ISO 8601; another one means another thread. */
  started_at: string
}

const pathOf = (dataDir: string) => path.join(dataDir, 'cluster.json')

export function writeClusterFile(dataDir: string, content: ClusterFile): void {
  const file = pathOf(dataDir)
  writeFileSync(`${file}.next`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 })
  renameSync(`${file}.next`, file)
}

export function readClusterFile(dataDir: string): ClusterFile | undefined {
  try {
    return JSON.parse(readFileSync(pathOf(dataDir), 'utf8')) as ClusterFile
  } catch {
    return undefined
  }
}

export function removeClusterFile(dataDir: string): void {
  rmSync(pathOf(dataDir), { force: true })
}
