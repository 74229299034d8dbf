/**
 * Writes down what V8 compiled, while the process is well. Node does it at a clean exit only: one that is killed would leave
 * its successor to strip and compile 850 modules anew in each thread, which is as much CPU again as everything else at a start.
 */
import { flushCompileCache } from 'node:module'

/** By then all modules are loaded, and nobody waits for the 20 ms that the first writing takes. */
const settledMs = 3000

/** Of this thread. Without a cache folder it does nothing. */
export function keepCompiled(afterMs = settledMs): void {
  setTimeout(flushCompileCache, afterMs).unref()
}
