/**
 * Keeps what is on screen for a reload without a network, a moment after it changed and when the page goes: the list, the
 * events of opened conversations, the answer so far. Refuses to keep what was taken back or what one is no longer in.
 */
import type { ServerFrame } from '#protos/catalogue.ts'
import { type Archive, type KeptHistory, type KeptRoom, roomsKeptMax } from '../store/archive.ts'
import type { People } from './people.svelte.ts'
import type { Room } from './room.svelte.ts'

const keptMs = 1000

export class Keeper {
  readonly #archive: Archive
  readonly #rooms: ReadonlyMap<string, Room>
  readonly #listed = new Set<Room>()
  readonly #read = new Set<Room>()
  readonly #written = new Set<Room>()
  readonly #stop = new AbortController()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(archive: Archive, rooms: ReadonlyMap<string, Room>) {
    this.#archive = archive
    this.#rooms = rooms
    const { signal } = this.#stop
    addEventListener('pagehide', () => this.#keep(), { signal })
    document.addEventListener('visibilitychange', () => document.hidden && this.#keep(), { signal })
  }

  /** What the list shows of it changed. */
  changed(room: Room): void {
    this.#listed.add(room)
    this.#soon()
  }

  /** Its events were read. */
  opened(room: Room): void {
    this.#read.add(room)
    this.changed(room)
  }

  /** What a frame changed, once it was delivered. */
  saw(frame: ServerFrame): void {
    if (frame.type === 'ready') {
      for (const room of this.#rooms.values()) {
        if (room.isRemoved) void this.#archive.drop(room.id)
        else if (room.isKnown) this.changed(room)
      }
      return
    }
    const room = 'conversationId' in frame && frame.conversationId ? this.#rooms.get(frame.conversationId) : undefined
    if (!room) return
    if (frame.type === 'conversation.removed') {
      for (const set of [this.#listed, this.#read, this.#written]) set.delete(room)
      void this.#archive.drop(room.id)
    } else if (frame.type === 'chat.stream' || frame.type === 'room.joined') {
      this.#written.add(room)
      this.#soon()
    } else if ('seq' in frame && room.loaded === 'yes') {
      if (frame.type === 'message.new' && frame.role === 'assistant') this.#written.add(room)
      this.opened(room)
    } else this.changed(room)
  }

  dispose(): void {
    this.#stop.abort()
    clearTimeout(this.#timer)
  }

  #soon(): void {
    if (this.#stop.signal.aborted) return
    this.#timer ??= setTimeout(() => this.#keep(), keptMs)
  }

  #keep(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const listed = [...this.#listed]
      .filter(room => room.isKnown && !room.isRemoved)
      .sort((a, b) => (a.activity < b.activity ? 1 : -1))
      .slice(0, roomsKeptMax)
    if (listed.length > 0) void this.#archive.keepRooms(listed.map(keptOf)).catch(full)
    for (const room of this.#read) {
      if (room.loaded === 'yes') void this.#archive.keepHistory(historyOf(room), Date.now()).catch(full)
    }
    for (const room of this.#written) {
      const { running } = room
      if (running?.text) {
        const answer = { conversationId: room.id, messageId: running.messageId, text: running.text }
        void this.#archive.keepAnswer(answer).catch(full)
      } else void this.#archive.dropAnswer(room.id).catch(full)
    }
    for (const set of [this.#listed, this.#read, this.#written]) set.clear()
  }
}

/** A disk that is full costs the reload without a network, and nothing else. */
function full(): void {}

function keptOf(room: Room): KeptRoom {
  const { id, kind, title, toolPolicy, createdAt, members, headSeq, readSeq, unread, last } = room
  return { id, kind, title, toolPolicy, createdAt, members, headSeq, readSeq, unread, ...(last ? { last } : {}) }
}

const historyOf = (room: Room): KeptHistory => ({
  conversationId: room.id,
  firstSeq: room.firstSeq,
  events: room.events,
})

/** A conversation as it was when it was kept. What came meanwhile by other ways is newer and stays. */
export function recall(room: Room, kept: KeptRoom, people: People): void {
  if (room.isKnown || room.hasKind) return
  for (const m of kept.members) people.meet({ ...m, id: m.user_id })
  room.kind = kept.kind
  room.hasKind = true
  room.title = kept.title
  room.toolPolicy = kept.toolPolicy
  room.createdAt = kept.createdAt
  room.members = kept.members
  room.headSeq = kept.headSeq
  room.readSeq = kept.readSeq
  room.unread = kept.unread
  room.last = kept.last
  room.isKnown = true
}
