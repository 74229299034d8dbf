/**
 * The IndexedDB of one user in one browser: its stores, opened once, closed with the session. What is in them is
 * outbox.ts's and archive.ts's. Without IndexedDB (some private windows) everything still works until the reload.
 */

export const stores = ['outbox', 'drafts', 'positions', 'rooms', 'histories', 'answers'] as const
export type Store = (typeof stores)[number]

const version = 2

export class Database {
  readonly #db: Promise<IDBDatabase | undefined>
  /** What comes later than the session has nowhere to go. */
  #isClosed = false

  constructor(userId: string) {
    // A page of a newer version wants to change the stores: this one keeps nothing from then on.
    const give = () => void this.close()
    this.#db = open(`parley-${userId}`, give).catch(() => undefined)
  }

  /** Undefined: there is nothing to read from. */
  async read<T>(from: readonly Store[], act: (work: IDBTransaction) => Promise<T>): Promise<T | undefined> {
    const db = await this.#db
    return db && !this.#isClosed ? act(db.transaction([...from])) : undefined
  }

  /** `strict` for what a person wrote; what the server can tell again need not be on the disk before the next thing is done. */
  async write(
    to: readonly Store[],
    durability: 'strict' | 'relaxed',
    act: (work: IDBTransaction) => void,
  ): Promise<void> {
    const db = await this.#db
    if (!db || this.#isClosed) return
    const work = db.transaction([...to], 'readwrite', { durability })
    act(work)
    await new Promise<void>((resolve, reject) => {
      work.oncomplete = () => resolve()
      work.onabort = () => reject(work.error ?? new Error('IndexedDB gave up'))
    })
  }

  async clear(which: readonly Store[]): Promise<void> {
    await this.write(which, 'strict', work => {
      for (const store of which) work.objectStore(store).clear()
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    ;(await this.#db)?.close()
  }
}

export function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB refused'))
  })
}

function open(name: string, give: () => void): Promise<IDBDatabase> {
  const request = indexedDB.open(name, version)
  request.onupgradeneeded = ({ oldVersion }) => {
    const db = request.result
    if (oldVersion < 1) {
      db.createObjectStore('outbox', { keyPath: 'id' })
      db.createObjectStore('drafts', { keyPath: 'conversationId' })
      db.createObjectStore('positions', { keyPath: 'conversationId' })
    }
    db.createObjectStore('rooms', { keyPath: 'id' })
    db.createObjectStore('histories', { keyPath: 'conversationId' }).createIndex('usedAt', 'usedAt')
    db.createObjectStore('answers', { keyPath: 'conversationId' })
  }
  return new Promise((resolve, reject) => {
    // Another tab still holds an older one: this page keeps nothing, instead of waiting for that tab.
    request.onblocked = () => reject(new Error('IndexedDB is held by another tab'))
    request.onerror = () => reject(request.error ?? new Error('IndexedDB refused'))
    request.onsuccess = () => {
      const db = request.result
      db.onversionchange = give
      resolve(db)
    }
  })
}
