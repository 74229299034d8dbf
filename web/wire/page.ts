/** What the page tells the connection: the network's coming and going, and that somebody looks at the page again. */
import type { WireEvent } from './wire.ts'

export function followPage(tell: (event: WireEvent) => void, signal: AbortSignal): void {
  addEventListener('online', () => tell({ type: 'online' }), { signal })
  addEventListener('offline', () => tell({ type: 'offline' }), { signal })
  if (!navigator.onLine) tell({ type: 'offline' })
  // A laptop that slept has stale timers: looking at the page again is a reason to check at once.
  const look = () => document.visibilityState === 'visible' && tell({ type: 'woke' })
  document.addEventListener('visibilitychange', look, { signal })
}
