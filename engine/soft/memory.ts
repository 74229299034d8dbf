/**
 * The soft store of a single gateway, in its memory: the twin of redis.ts. Bounded by the sockets of this process and by
 * the number of people whose last visit is remembered. Refuses to serve two processes.
 */
import type { Clock } from '#engine/ops/clock.ts'
import { lastSeenKeysMax } from '#protos/limits.ts'
import type { PresenceState, SoftOptions, SoftStore } from './store.ts'

export function createMemoryStore(clock: Pick<Clock, 'now' | 'mono'>, { ttlMs, socketsMax }: SoftOptions): SoftStore {
  /** User → socket → monotonic ms of the last beat, in the order of arrival. */
  const users = new Map<string, Map<string, number>>()
  const lastSeen = new Map<string, number>()
  const presenceListeners: ((userId: string, state: PresenceState) => void)[] = []
  const evictionListeners: ((socket: string) => void)[] = []

  function alive(userId: string): Map<string, number> | undefined {
    const sockets = users.get(userId)
    if (!sockets) return undefined
    for (const [socket, at] of sockets) {
      if (clock.mono() - at >= ttlMs) sockets.delete(socket)
    }
    if (sockets.size > 0) return sockets
    users.delete(userId)
    return undefined
  }

  function stateOf(userId: string): PresenceState {
    if (alive(userId)) return { status: 'online', lastSeen: clock.now() }
    return { status: 'offline', lastSeen: lastSeen.get(userId) }
  }

  function tell(userId: string): void {
    const state = stateOf(userId)
    for (const listener of presenceListeners) listener(userId, state)
  }

  function seen(userId: string): void {
    lastSeen.delete(userId)
    lastSeen.set(userId, clock.now())
    if (lastSeen.size > lastSeenKeysMax) lastSeen.delete(lastSeen.keys().next().value!)
  }

  return {
    kind: 'memory',
    async arrive(userId, socket) {
      const before = alive(userId)
      const sockets = before ?? new Map<string, number>()
      users.set(userId, sockets)
      sockets.set(socket, clock.mono())
      if (!before) tell(userId)
      while (sockets.size > socketsMax) {
        const oldest = sockets.keys().next().value!
        sockets.delete(oldest)
        for (const listener of evictionListeners) listener(oldest)
      }
    },
    async beat(beats) {
      for (const [userId, socket] of beats) {
        const sockets = users.get(userId)
        if (sockets?.has(socket)) sockets.set(socket, clock.mono())
      }
    },
    async leave(userId, socket) {
      const sockets = users.get(userId)
      if (!sockets?.delete(socket)) return
      seen(userId)
      if (!alive(userId)) tell(userId)
    },
    async presence(userIds) {
      return new Map(userIds.map(id => [id, stateOf(id)]))
    },
    // There is no other gateway.
    spend: async () => undefined,
    gateways: 1,
    onPresence: listener => void presenceListeners.push(listener),
    onEvicted: listener => void evictionListeners.push(listener),
    // It knows everything at any time.
    onKnown: () => {},
    async close() {
      users.clear()
    },
  }
}
