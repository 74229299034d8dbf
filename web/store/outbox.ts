/**
 * What must survive a reload: unsent messages with their ids, drafts, and how far others got, in IndexedDB, one database
 * per user. Positions only grow, so one kept here stays true; without them a reload would take ticks back.
 * Refuses to send: it only keeps.
 */
import type { Outgoing } from '../wire/wire.ts'
import { type Database, result } from './database.ts'

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

const own = ['outbox', 'drafts', 'positions'] as const

/** User id → how far they got in one conversation. */
export type Positions = ReadonlyMap<string, { readSeq: number; deliveredSeq: number }>

export class Outbox {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async load(): Promise<{ kept: Kept[]; drafts: Draft[] }> {
    const [kept = [], drafts = []] =
      (await this.#database.read(['outbox', 'drafts'], work =>
        Promise.all([
          result<Kept[]>(work.objectStore('outbox').getAll()),
          result<Draft[]>(work.objectStore('drafts').getAll()),
        ]),
      )) ?? []
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
    const row = await this.#database.read(['positions'], work =>
      result<{ positions: Positions } | undefined>(work.objectStore('positions').get(conversationId)),
    )
    return row?.positions ?? new Map()
  }

  keepPositions(conversationId: string, positions: Positions): Promise<void> {
    return this.#write(work => work.objectStore('positions').put({ conversationId, positions }))
  }

  /** Removes everything of this user: signing out leaves nothing behind. */
  wipe(): Promise<void> {
    return this.#database.clear(own)
  }

  #write(act: (work: IDBTransaction) => void): Promise<void> {
    return this.#database.write(own, 'strict', act)
  }
}
