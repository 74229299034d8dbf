/**
 * What was read, kept for reading without a network: the list of conversations, the last events of some of them and the
 * answer that was being written. All of it is the server's to tell again, and it is told again whenever the server answers.
 * Refuses to grow: about 20 MB at most.
 */
import type { ConversationKind, DurableFrame, ToolPolicy } from '#protos/catalogue.ts'
import type { MemberDto } from '../wire/api.ts'
import { type Database, result } from './database.ts'

/** Together up to 10 MB: a conversation of 250 people is 50 kB. */
export const roomsKeptMax = 200
export const roomCharsMax = 50_000
/** Together up to 10 MB: events are about 300 characters. */
export const historiesKeptMax = 50
export const eventsKeptMax = 200
export const historyCharsMax = 200_000

const own = ['rooms', 'histories', 'answers'] as const

/** A conversation as the list shows it. */
export interface KeptRoom {
  id: string
  kind: ConversationKind
  title: string | null
  toolPolicy: ToolPolicy
  createdAt: string
  members: readonly MemberDto[]
  headSeq: number
  readSeq: number
  unread: number
  last?: { seq: number; messageId: string; senderId: string; content: string; ts: string; isDeleted: boolean }
}

/** The last events of a conversation, without a hole. */
export interface KeptHistory {
  conversationId: string
  /** The first event that its reader may see at all. */
  firstSeq: number
  events: readonly DurableFrame[]
}

/** The text so far of an answer that had not ended. */
export interface KeptAnswer {
  conversationId: string
  messageId: string
  text: string
}

export class Archive {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  async rooms(): Promise<KeptRoom[]> {
    return (await this.#database.read(['rooms'], work => result<KeptRoom[]>(work.objectStore('rooms').getAll()))) ?? []
  }

  /** Writes those that changed. A larger one is left out: without a network it is not in the list. */
  keepRooms(rooms: readonly KeptRoom[]): Promise<void> {
    return this.#database.write(['rooms'], 'relaxed', work => {
      const store = work.objectStore('rooms')
      for (const room of rooms) {
        if (JSON.stringify(room).length <= roomCharsMax) store.put(room)
        else store.delete(room.id)
      }
      const count = store.count()
      count.onsuccess = () => count.result > roomsKeptMax && dropQuietest(store)
    })
  }

  async history(conversationId: string): Promise<(KeptHistory & { answer?: KeptAnswer }) | undefined> {
    return this.#database.read(['histories', 'answers'], async work => {
      const [history, answer] = await Promise.all([
        result<KeptHistory | undefined>(work.objectStore('histories').get(conversationId)),
        result<KeptAnswer | undefined>(work.objectStore('answers').get(conversationId)),
      ])
      return history && { ...history, ...(answer ? { answer } : {}) }
    })
  }

  /** Keeps the end of it that fits; the conversations longest unused go. */
  keepHistory(history: KeptHistory, usedAt: number): Promise<void> {
    const events = fitting(history.events)
    return this.#database.write(['histories'], 'relaxed', work => {
      const store = work.objectStore('histories')
      if (events.length === 0) store.delete(history.conversationId)
      else store.put({ ...history, events, usedAt })
      const count = store.count()
      count.onsuccess = () => {
        let over = count.result - historiesKeptMax
        if (over <= 0) return
        const oldest = store.index('usedAt').openCursor()
        oldest.onsuccess = () => {
          if (!oldest.result || over-- <= 0) return
          oldest.result.delete()
          oldest.result.continue()
        }
      }
    })
  }

  keepAnswer(answer: KeptAnswer): Promise<void> {
    return this.#database.write(['answers'], 'relaxed', work => work.objectStore('answers').put(answer))
  }

  dropAnswer(conversationId: string): Promise<void> {
    return this.#database.write(['answers'], 'relaxed', work => work.objectStore('answers').delete(conversationId))
  }

  drop(conversationId: string): Promise<void> {
    return this.#database.write(own, 'relaxed', work => {
      for (const store of own) work.objectStore(store).delete(conversationId)
    })
  }

  wipe(): Promise<void> {
    return this.#database.clear(own)
  }
}

/** The last events that are within both limits. */
export function fitting(events: readonly DurableFrame[]): readonly DurableFrame[] {
  const last = events.slice(-eventsKeptMax)
  let chars = 0
  let from = last.length
  while (from > 0 && (chars += JSON.stringify(last[from - 1]).length) <= historyCharsMax) from--
  return last.slice(from)
}

/** Those in which nothing happened for longest go, down to the limit. */
function dropQuietest(store: IDBObjectStore): void {
  const all: IDBRequest<KeptRoom[]> = store.getAll()
  all.onsuccess = () => {
    const activity = (room: KeptRoom) => room.last?.ts ?? room.createdAt
    const quietest = all.result.sort((a, b) => (activity(a) < activity(b) ? -1 : 1)).slice(0, -roomsKeptMax)
    for (const room of quietest) store.delete(room.id)
  }
}
