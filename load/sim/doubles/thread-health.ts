/** engine/ops/thread-health.ts watches real threads; a simulated one has nothing to be watched. */
export function watchThread(): () => void {
  return () => {}
}
