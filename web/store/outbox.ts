/**
 * What must survive a reload: unsent messages with their ids, drafts, and how far others got, in IndexedDB, one database
 * per user. Positions only grow, so one kept here stays true; without them a reload would take ticks back.
 * Refuses to send: it only keeps. Without IndexedDB (some private windows) everything still works until the reload.
 */
import type { Outgoing } from '../wire/wire.ts'

/** Unsent messages of one user; more is no writing but a fault, and the composer says so. */
export const outboxMax = 500

export interface Kept {
  letter: Outgoing
  /** Wall time of writing; also the order of sending after a reload. */
  writtenAt: number
  /** Why it was refused for good, in words; absent while it may still go. */
  failed?: string
}

export interface Draft {
  conversationId: string
  text: string
}

const stores = ['outbox', 'drafts', 'positions'] as const

/** User id → how far they got in one conversation. */
export type Positions = ReadonlyMap<string, { readSeq: number; deliveredSeq: number }>

export class Outbox {
  readonly #db: Promise<IDBDatabase | undefined>
  /** What comes later than the session has nowhere to go. */
  #isClosed = false

  constructor(userId: string) {
    this.#db = open(`parley-${userId}`).catch(() => undefined)
  }

  async load(): Promise<{ kept: Kept[]; drafts: Draft[] }> {
    const db = await this.#db
    if (!db) return { kept: [], drafts: [] }
    const work = db.transaction(['outbox', 'drafts'])
    const [kept, drafts] = await Promise.all([
      result<Kept[]>(work.objectStore('outbox').getAll()),
      result<Draft[]>(work.objectStore('drafts').getAll()),
    ])
    kept.sort((a, b) => a.writtenAt - b.writtenAt || (a.letter.clientMessageId < b.letter.clientMessageId ? -1 : 1))
    return { kept, drafts }
  }

  /** Keeps a written message; the room's draft goes in the same transaction, so neither is lost nor doubled. */
  keep(kept: Kept): Promise<void> {
    return this.#write(work => {
      work.objectStore('outbox').put({ ...kept, id: kept.letter.clientMessageId })
      work.objectStore('drafts').delete(kept.letter.conversationId)
    })
  }

  fail(kept: Kept): Promise<void> {
    return this.#write(work => work.objectStore('outbox').put({ ...kept, id: kept.letter.clientMessageId }))
  }

  drop(clientMessageId: string): Promise<void> {
    return this.#write(work => work.objectStore('outbox').delete(clientMessageId))
  }

  draft(draft: Draft): Promise<void> {
    return this.#write(work =>
      draft.text === ''
        ? work.objectStore('drafts').delete(draft.conversationId)
        : work.objectStore('drafts').put(draft),
    )
  }

  async positions(conversationId: string): Promise<Positions> {
    const db = await this.#db
    if (!db) return new Map()
    const store = db.transaction('positions').objectStore('positions')
    const row = await result<{ positions: Positions } | undefined>(store.get(conversationId))
    return row?.positions ?? new Map()
  }

  keepPositions(conversationId: string, positions: Positions): Promise<void> {
    return this.#write(work => work.objectStore('positions').put({ conversationId, positions }))
  }

  /** Removes everything of this user: signing out leaves nothing behind. */
  async wipe(): Promise<void> {
    await this.#write(work => {
      for (const store of stores) work.objectStore(store).clear()
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    ;(await this.#db)?.close()
  }

  async #write(act: (work: IDBTransaction) => void): Promise<void> {
    const db = await this.#db
    if (!db || this.#isClosed) return
    const work = db.transaction([...stores], 'readwrite', { durability: 'strict' })
    act(work)
    await new Promise<void>((resolve, reject) => {
      work.oncomplete = () => resolve()
      work.onabort = () => reject(work.error ?? new Error('IndexedDB gave up'))
    })
  }
}

function open(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1)
  request.onupgradeneeded = () => {
    request.result.createObjectStore('outbox', { keyPath: 'id' })
    request.result.createObjectStore('drafts', { keyPath: 'conversationId' })
    request.result.createObjectStore('positions', { keyPath: 'conversationId' })
  }
  return result(request)
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB refused'))
  })
}
