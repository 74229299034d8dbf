/**
 * Who watches whom: presence goes only to people who share a conversation and are not blocked, as changes, latest value last. Membership is
 * checked in one query when a set is given and once a minute after. Refuses to tell a stranger more than `unknown`, once.
 */
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import { type PresenceState, type SoftStore, unknownPresence } from '#engine/soft/store.ts'
import { presenceBeatMs, presenceRecheckMs } from '#protos/limits.ts'
import { frameText } from './framing.ts'
import type { Peer } from './peer.ts'
import { codeOf, type Reads } from './reads.ts'

export interface PresenceDeps {
  clock: Clock
  log: Log
  store: SoftStore
  reads: Reads
  /** Names this gateway's sockets among all. */
  nodeId: string
  /** A socket of ours is beyond the most that its user may have. */
  evict(socketId: number): void
}

interface Watch {
  wanted: readonly string[]
  /** What of each granted id was told last; undefined: nothing yet. */
  told: Map<string, PresenceState['status'] | undefined>
}

export class Presence {
  #deps: PresenceDeps
  #sockets = new Map<number, Peer>()
  #watches = new Map<Peer, Watch>()
  #watchers = new Map<string, Set<Peer>>()
  /** Questions under way that must not overwrite a change heard meanwhile. */
  readonly #noting = new Set<(userId: string) => void>()
  #timers: NodeJS.Timeout[]

  constructor(deps: PresenceDeps) {
    this.#deps = deps
    deps.store.onPresence((userId, state) => this.#changed(userId, state))
    deps.store.onEvicted(socket => {
      const [node, id] = socket.split(' ')
      if (node === deps.nodeId) deps.evict(Number(id))
    })
    deps.store.onKnown(() => void this.#ask())
    this.#timers = [
      setInterval(() => void this.#beat(), presenceBeatMs).unref(),
      setInterval(() => void this.#recheck(), presenceRecheckMs).unref(),
    ]
  }

  arrived(peer: Peer): void {
    this.#sockets.set(peer.id, peer)
    void this.#deps.store.arrive(peer.userId, this.#name(peer))
  }

  left(peer: Peer): void {
    this.#forget(peer)
    if (this.#sockets.delete(peer.id)) void this.#deps.store.leave(peer.userId, this.#name(peer))
  }

  /** Replaces the set of this socket. */
  watch(peer: Peer, userIds: readonly string[]): void {
    this.#forget(peer)
    const watch: Watch = { wanted: [...new Set(userIds)], told: new Map() }
    if (watch.wanted.length === 0) return
    this.#watches.set(peer, watch)
    void this.#judge(peer, watch, true)
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer)
  }

  #name(peer: Peer): string {
    return `${this.#deps.nodeId} ${peer.id}`
  }

  #forget(peer: Peer): void {
    const watch = this.#watches.get(peer)
    if (!watch) return
    this.#watches.delete(peer)
    for (const id of watch.told.keys()) this.#unlist(peer, id)
  }

  #unlist(peer: Peer, userId: string): void {
    const watchers = this.#watchers.get(userId)
    watchers?.delete(peer)
    if (watchers?.size === 0) this.#watchers.delete(userId)
  }

  async #judge(peer: Peer, watch: Watch, isFirst: boolean): Promise<void> {
    const { reads, log } = this.#deps
    try {
      const sharing = await reads.sharing(peer.userId, watch.wanted)
      if (this.#watches.get(peer) !== watch) return
      const fresh = [...sharing].filter(id => !watch.told.has(id))
      // Listed before asked: a change in between is told, and what was asked then is older.
      for (const id of fresh) {
        let watchers = this.#watchers.get(id)
        if (!watchers) this.#watchers.set(id, (watchers = new Set()))
        watchers.add(peer)
        watch.told.set(id, undefined)
      }
      const states = await this.#states(fresh)
      if (this.#watches.get(peer) !== watch) return
      for (const [id, state] of states) this.#tell(peer, watch, id, state, true)
      for (const id of watch.wanted) {
        if (sharing.has(id)) continue
        if (isFirst || watch.told.has(id)) this.#send(peer, id, unknownPresence)
        if (watch.told.delete(id)) this.#unlist(peer, id)
      }
    } catch (error) {
      log.warn('presence could not be judged', { userId: peer.userId, code: codeOf(error) })
      if (isFirst) for (const id of watch.wanted) if (!watch.told.has(id)) this.#send(peer, id, unknownPresence)
    }
  }

  #changed(userId: string, state: PresenceState): void {
    for (const note of this.#noting) note(userId)
    for (const peer of this.#watchers.get(userId) ?? [])
      this.#tell(peer, this.#watches.get(peer)!, userId, state, false)
  }

  #tell(peer: Peer, watch: Watch, userId: string, state: PresenceState, isAsked: boolean): void {
    if (!isAsked && watch.told.get(userId) === state.status) return
    watch.told.set(userId, state.status)
    this.#send(peer, userId, state)
  }

  #send(peer: Peer, userId: string, { status, lastSeen }: PresenceState): void {
    const frame = {
      type: 'presence',
      ts: new Date(this.#deps.clock.now()).toISOString(),
      userId,
      status,
      lastSeen: lastSeen === undefined ? null : new Date(lastSeen).toISOString(),
    }
    peer.outbox.latest(`presence ${userId}`, frameText(JSON.stringify(frame)))
  }

  /** Our sockets are still here; and those who vanished with another gateway are found by asking. */
  async #beat(): Promise<void> {
    await this.#deps.store.beat([...this.#sockets.values()].map(peer => [peer.userId, this.#name(peer)] as const))
    await this.#ask()
  }

  async #ask(): Promise<void> {
    const ids = [...this.#watchers.keys()]
    for (let i = 0; i < ids.length; i += 200) {
      for (const [id, state] of await this.#states(ids.slice(i, i + 200))) this.#changed(id, state)
    }
  }

  /** Without those of whom a change was heard meanwhile: the answer is older. */
  async #states(ids: readonly string[]): Promise<Map<string, PresenceState>> {
    const changed = new Set<string>()
    const note = (id: string) => changed.add(id)
    this.#noting.add(note)
    const states = await this.#deps.store.presence(ids).finally(() => this.#noting.delete(note))
    for (const id of changed) states.delete(id)
    return states
  }

  async #recheck(): Promise<void> {
    for (const [peer, watch] of this.#watches) await this.#judge(peer, watch, false)
  }
}
