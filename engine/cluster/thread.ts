/**
 * The piscina task of every worker thread: runs the module it is given and makes sure that a task that ended, well or
 * badly, takes its thread with it. A thread that served once never serves a second task, whatever it left open.
 */
import { channel } from 'node:diagnostics_channel'
import { keepCompiled } from '#engine/ops/compile-cache.ts'
import { spareLoadMs } from '#protos/limits.ts'

// A spare thread waits with the modules of its task loaded, so that a replacement serves at once. It loads them when the
// others serve: a process that starts while another takes over its shards must not take the cores from it for longer than
// it has to. A module that cannot be loaded fails the task, which says so, not the thread, which could not.
setTimeout(() => import(process.argv[2]!).catch(() => undefined), spareLoadMs).unref()

/** Tells a module that was preloaded into this thread which worker it became. */
const threadStarted = channel('parley:thread')

export default async function runInThread(data: { module: string; worker: number }): Promise<never> {
  threadStarted.publish({ worker: data.worker })
  keepCompiled()
  try {
    const task = (await import(data.module)) as { default(data: unknown): Promise<void> }
    await task.default(data)
  } catch (error) {
    // Outside any promise, so that it ends the thread with its own stack.
    setImmediate(() => {
      throw error
    })
    return new Promise<never>(() => undefined)
  }
  process.exit(0)
}
