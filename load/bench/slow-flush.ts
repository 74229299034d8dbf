/** A database server whose disk is slower than this one: a few lines of C around `fdatasync` and `fsync`, built when they are needed. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'

/** Environment of a server whose flushes take so many ms longer; undefined where there is no C compiler or no preloading. */
export function slowFlush(home: string, flushMs: number): Record<string, string> | undefined {
  if (process.platform !== 'linux') return undefined
  const library = path.join(home, 'slow-flush.so')
  const source = path.join(import.meta.dirname, 'slow-flush.c')
  const define = `-DFLUSH_US=${Math.round(flushMs * 1000)}`
  const { status } = spawnSync('cc', ['-O2', '-shared', '-fPIC', define, '-o', library, source, '-ldl'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return status === 0 ? { LD_PRELOAD: library } : undefined
}
