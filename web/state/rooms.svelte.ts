/**
 * All conversations of the session: the list, which is open, and how one is read. Keeps the messages of a few rooms and
 * lets the longest unused go. Refuses to write: sending is desk.ts's.
 */
import { SvelteMap } from 'svelte/reactivity'
import type { MemberRole, ToolPolicy } from '#protos/catalogue.ts'
import { presenceWatchMax } from '#protos/limits.ts'
import { foldFact, type Timeline, timelineFrom } from '#protos/timeline.ts'
import type { Archive } from '../store/archive.ts'
import type { Outbox } from '../store/outbox.ts'
import type { Answer, Api, ApiFailure, ConversationDto, EventsDto, Me } from '../wire/api.ts'
import type { WireEvent } from '../wire/wire.ts'
import { Keeper, recall } from './keeper.ts'
import type { People } from './people.svelte.ts'
import { Room } from './room.svelte.ts'
import { type Router, roomPath } from './router.svelte.ts'

/** Rooms whose messages are held in memory. */
const openRoomsMax = 8
/** Events read when a room opens: a few screens. */
const firstEvents = 120
const historyPage = 50
const positionsKeptMs = 300
/** What is kept here is shown when the server has not answered by then. */
const patienceMs = 300
const eventsPageMax = 1000
/** A list longer than this many pages has more than anybody's 2,000 conversations. */
const listPagesMax = 40

interface RoomsPorts {
  api: Api
  router: Router
  me: Me
  people: People
  outbox: Outbox
  archive: Archive
  isReady(): boolean
  tell(event: WireEvent): void
}

export class Rooms {
  readonly all = new SvelteMap<string, Room>()
  hasList: 'no' | 'yes' | 'failed' = $state('no')
  readonly #ports: RoomsPorts
  readonly keeper: Keeper
  #opened: string[] = []
  readonly #keeping = new Set<Room>()
  #watched = ''
  /** How far the server's clock is ahead of this one's, in ms, as of the last `ready`. */
  clockAheadMs = $state(0)
  #listing: Promise<void> | undefined

  /** Those to show, latest activity first. */
  readonly ordered: readonly Room[] = $derived.by(() =>
    [...this.all.values()]
      .filter(r => r.isKnown && !r.isRemoved)
      .sort((a, b) => (a.activity < b.activity ? 1 : a.activity > b.activity ? -1 : a.id < b.id ? 1 : -1)),
  )
  readonly unread: number = $derived.by(() => this.ordered.filter(r => r.unread > 0).length)
  /** The one that the address names. */
  readonly current: Room | undefined = $derived.by(() => {
    const { route } = this.#ports.router
    return route.page === 'room' ? this.all.get(route.id) : undefined
  })

  constructor(ports: RoomsPorts) {
    this.#ports = ports
    this.keeper = new Keeper(ports.archive, this.all)
  }

  /** The list as it was kept, until the server tells it. */
  async recall(): Promise<void> {
    for (const kept of await this.#ports.archive.rooms()) {
      recall(this.get(kept.id), kept, this.#ports.people)
      this.hasList = 'yes'
    }
  }

  get(id: string): Room {
    const known = this.all.get(id)
    if (known) return known
    const room = new Room(id, this.#ports.me.id, this.#ports.people)
    this.all.set(id, room)
    return room
  }

  /** Shows a room: its latest part is read if it is not here, then it is joined from the head that was read. */
  async open(id: string): Promise<void> {
    const room = this.get(id)
    room.hint = ''
    if (room.isRemoved) return
    this.#opened = [id, ...this.#opened.filter(o => o !== id)]
    for (const old of this.#opened.splice(openRoomsMax)) {
      this.#ports.tell({ type: 'leave', conversationId: old })
      this.all.get(old)?.forget()
    }
    if (room.loaded === 'no' || room.loaded === 'failed') await this.load(room)
    room.unreadAfter = room.unread > 0 ? room.readSeq : undefined
    this.watch()
  }

  /** `isAnew`: what is kept here is no longer of use. */
  async load(room: Room, isAnew = false): Promise<void> {
    const { api, archive, isReady, outbox, tell } = this.#ports
    room.loaded = 'loading'
    if (!room.isKnown) {
      const dto = await api.conversation(room.id)
      if ('failure' in dto) {
        room.loaded = dto.failure.status === 404 || dto.failure.status === 400 ? 'missing' : 'failed'
        return
      }
      room.describe(dto.value)
    }
    const [positions, kept] = await Promise.all([
      outbox.positions(room.id),
      isAnew ? undefined : archive.history(room.id),
    ])
    for (const [userId, position] of positions) room.moved(userId, position)
    const keptHead = kept?.events.at(-1)?.seq ?? 0
    const isWhole = isReady() && keptHead > 0 && keptHead >= room.headSeq
    const read = () => api.events(room.id, Math.max(0, room.headSeq - firstEvents), eventsPageMax)
    const page = isWhole ? undefined : await (kept ? Promise.race([read(), patience()]) : read())
    if (page && 'value' in page) {
      const { items, first_seq, head_seq } = page.value
      room.restore(items, first_seq, head_seq, kept?.answer)
    } else if (kept && (page === undefined || isOutage(page))) {
      room.restore(kept.events, kept.firstSeq, keptHead, kept.answer)
    } else {
      room.loaded = page?.failure.status === 404 ? 'missing' : 'failed'
      return
    }
    // From the kept head on too: the join brings what came after it, or says that it is too far back.
    tell({ type: 'join', conversationId: room.id, head: room.timeline.head })
    this.keeper.opened(room)
  }

  async loadOlder(room: Room): Promise<void> {
    if (room.isLoadingOlder || !room.hasOlder || room.loaded !== 'yes') return
    room.isLoadingOlder = true
    const tail = room.timeline.tail
    const page = await this.#ports.api.before(room.id, tail, historyPage)
    if ('value' in page) {
      const isStart = page.value.items.length < historyPage
      const from = isStart ? 1 : (page.value.items[0]?.seq ?? 1)
      const between = tail - from <= eventsPageMax ? await this.#between(room.id, from, tail) : timelineFrom(0, [])
      room.prepend(page.value.items, between, isStart)
    }
    room.isLoadingOlder = false
  }

  /** What pages of messages leave out: the events themselves, folded. */
  async #between(id: string, from: number, to: number): Promise<Timeline> {
    let timeline = timelineFrom(from - 1, [])
    if (to <= from) return timeline
    const page = await this.#ports.api.events(id, from - 1, Math.min(eventsPageMax, to - from))
    if ('failure' in page) return timeline
    for (const frame of page.value.items) {
      const folded = foldFact(timeline, frame)
      if ('timeline' in folded) timeline = folded.timeline
    }
    return timeline
  }

  /** Makes a conversation, or finds the dm there is, and goes there. */
  async create(body: Parameters<Api['create']>[0]): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.create(body)
    if ('failure' in answer) return answer.failure
    this.#described(answer.value)
    this.#ports.router.go(roomPath(answer.value.id))
    return undefined
  }

  async rename(room: Room, title: string): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.rename(room.id, title)
    return 'failure' in answer ? answer.failure : undefined
  }

  async setPolicy(room: Room, policy: ToolPolicy): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.setPolicy(room.id, policy)
    if ('failure' in answer) return answer.failure
    room.toolPolicy = answer.value.tool_policy
    return undefined
  }

  async addMember(room: Room, username: string): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.addMember(room.id, username)
    if ('failure' in answer) return answer.failure
    await this.describe(room.id)
    return undefined
  }

  async setRole(room: Room, userId: string, role: MemberRole): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.setRole(room.id, userId, role)
    if ('failure' in answer) return answer.failure
    await this.describe(room.id)
    return undefined
  }

  async removeMember(room: Room, userId: string): Promise<ApiFailure | undefined> {
    const answer = await this.#ports.api.removeMember(room.id, userId)
    return 'failure' in answer ? answer.failure : undefined
  }

  /** Reads the whole list. Callers at the same time share one reading. */
  readList(): Promise<void> {
    this.#listing ??= this.#readList().finally(() => {
      this.#listing = undefined
    })
    return this.#listing
  }

  async #readList(): Promise<void> {
    let after: string | undefined
    for (let pages = 0; pages < listPagesMax; pages++) {
      const answer = await this.#ports.api.conversations(after)
      if ('failure' in answer) {
        if (this.hasList === 'no') this.hasList = 'failed'
        return
      }
      for (const dto of answer.value.items) this.#described(dto)
      this.hasList = 'yes'
      after = answer.value.next
      if (after === undefined) break
    }
    this.watch()
  }

  /** Asks again who is in a room. */
  async describe(id: string): Promise<void> {
    const answer = await this.#ports.api.conversation(id)
    if ('value' in answer) this.#described(answer.value)
    this.watch()
  }

  #described(dto: ConversationDto): void {
    const room = this.get(dto.id)
    room.describe(dto)
    this.keeper.changed(room)
  }

  /** Receipts come in bursts: what is kept of them lags a little. */
  keepPositions(room: Room): void {
    if (this.#keeping.has(room)) return
    this.#keeping.add(room)
    setTimeout(() => {
      this.#keeping.delete(room)
      void this.#ports.outbox.keepPositions(room.id, new Map(room.positions))
    }, positionsKeptMs)
  }

  /** Whose presence is asked for: the people of the open room, then those of direct conversations. */
  watch(): void {
    const ids = new Set(this.current?.others.map(o => o.user_id))
    for (const room of this.ordered) if (room.peerId) ids.add(room.peerId)
    const userIds = [...ids].slice(0, presenceWatchMax)
    if (userIds.join() === this.#watched) return
    this.#watched = userIds.join()
    this.#ports.tell({ type: 'watch', userIds })
  }
}

const patience = () => new Promise<undefined>(resolve => setTimeout(resolve, patienceMs, undefined))
/** Nobody answered, or nobody who could. */
const isOutage = (page: Exclude<Answer<EventsDto>, { value: unknown }>) =>
  page.failure.status === 0 || page.failure.status >= 500
