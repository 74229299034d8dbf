/**
 * The app's one root of state: who is signed in, the rooms, and the way between them and the wire. Frames go in through
 * `#deliver`, people's acts come in as methods. Components read it from context and never talk to the network.
 */
import { createContext } from 'svelte'
import { SvelteMap } from 'svelte/reactivity'
import type { DurableFrame, ServerFrame } from '#protos/catalogue.ts'
import { presenceWatchMax, typingRepeatMs } from '#protos/limits.ts'
import type { TimelineNotice } from '#protos/timeline.ts'
import { foldFact, timelineFrom } from '#protos/timeline.ts'
import { type Key, reasonOf, t } from '../i18n/t.ts'
import { type Kept, Outbox, outboxMax } from '../store/outbox.ts'
import { Api, type ApiFailure, type ConversationDto, type Me } from '../wire/api.ts'
import { Connection, type Line } from '../wire/connection.ts'
import { newId } from '../wire/id.ts'
import type { Outgoing, WireEffect } from '../wire/wire.ts'
import { People } from './people.svelte.ts'
import { Room } from './room.svelte.ts'
import { Router, roomPath } from './router.svelte.ts'
import { Theme } from './theme.svelte.ts'

/** Rooms whose messages are held in memory; opening another lets the longest unused go. */
const openRoomsMax = 8
const firstEvents = 120
const historyPage = 50
const readEveryMs = 1000
const positionsKeptMs = 300
const bootRetryMs = 2000
const presenceDoubtMs = 2000

export const [useParley, provideParley] = createContext<Parley>()

export class Parley {
  readonly api = new Api()
  readonly router = new Router()
  readonly theme = new Theme()
  people = new People()
  readonly rooms = new SvelteMap<string, Room>()
  phase: 'starting' | 'out' | 'in' = $state('starting')
  /** Why the login page is shown to somebody who was signed in. */
  farewell: Key | undefined = $state()
  isUnreachable = $state(false)
  me: Me | undefined = $state.raw()
  line: Line = $state.raw({ phase: 'off', isOffline: false })
  hasList: 'no' | 'yes' | 'failed' = $state('no')

  readonly ordered: readonly Room[] = $derived.by(() =>
    [...this.rooms.values()]
      .filter(r => r.isKnown && !r.isRemoved)
      .sort((a, b) => (a.activity < b.activity ? 1 : a.activity > b.activity ? -1 : a.id < b.id ? 1 : -1)),
  )
  readonly unreadRooms: number = $derived.by(() => this.ordered.filter(r => r.unread > 0).length)
  readonly current: Room | undefined = $derived.by(() => {
    const route = this.router.route
    return route.page === 'room' ? this.rooms.get(route.id) : undefined
  })

  #connection: Connection | undefined
  #outbox: Outbox | undefined
  #opened: string[] = []
  #watched = ''
  #positionTimers = new Map<Room, ReturnType<typeof setTimeout>>()
  #typedAt = new Map<string, number>()
  #readAt = 0
  #readTimer: ReturnType<typeof setTimeout> | undefined
  #draftTimer: ReturnType<typeof setTimeout> | undefined
  #doubtTimer: ReturnType<typeof setTimeout> | undefined
  #listing: Promise<void> | undefined

  constructor() {
    this.api.ontoken = token => {
      if (token) this.#connection?.tell({ type: 'refreshed', token })
      else if (this.phase === 'in') void this.#leave('login.ended')
    }
    addEventListener('pagehide', () => this.#saveDraft())
  }

  /** Signs in by the cookie if there may be one. */
  async boot(): Promise<void> {
    if (!this.api.mayHaveSession) return this.#showLogin()
    const refreshed = await this.api.refresh()
    if ('value' in refreshed) {
      const me = await this.api.me()
      if ('value' in me) return this.#enter(me.value, refreshed.value)
      if (me.failure.code === 'NETWORK' || me.failure.status >= 500) return this.#bootAgain()
    } else if (refreshed.failure.status === 0 || refreshed.failure.status >= 429) return this.#bootAgain()
    this.#showLogin()
  }

  async login(email: string, password: string): Promise<ApiFailure | undefined> {
    return this.#admit(await this.api.login({ email, password }))
  }

  async register(email: string, password: string, name: string): Promise<ApiFailure | undefined> {
    return this.#admit(await this.api.register({ email, password, ...(name ? { display_name: name } : {}) }))
  }

  async logout(): Promise<void> {
    // The socket goes first: the server ends it with the session, which would look like being signed out by others.
    this.#connection?.dispose()
    this.#connection = undefined
    await this.#outbox?.wipe()
    await this.api.logout()
    await this.#leave(undefined)
  }

  retry(): void {
    this.#connection?.tell({ type: 'retry' })
  }

  // --- rooms ------------------------------------------------------------------------------------------------------------

  /** Shows a room: its latest part is read if it is not here, then it is joined from the head that was read. */
  async open(id: string): Promise<void> {
    const room = this.#room(id)
    room.hint = ''
    if (room.isRemoved) return
    this.#opened = [id, ...this.#opened.filter(o => o !== id)]
    for (const old of this.#opened.splice(openRoomsMax)) {
      this.#connection?.tell({ type: 'leave', conversationId: old })
      this.rooms.get(old)?.forget()
    }
    if (room.loaded === 'no' || room.loaded === 'failed') await this.load(room)
    room.unreadAfter = room.unread > 0 ? room.readSeq : undefined
    this.#watch()
  }

  async load(room: Room): Promise<void> {
    room.loaded = 'loading'
    if (!room.isKnown) {
      const dto = await this.api.conversation(room.id)
      if ('failure' in dto) {
        room.loaded = dto.failure.status === 404 || dto.failure.status === 400 ? 'missing' : 'failed'
        return
      }
      room.describe(dto.value)
    }
    for (const [userId, position] of (await this.#outbox?.positions(room.id)) ?? []) room.moved(userId, position)
    const page = await this.api.events(room.id, Math.max(0, room.headSeq - firstEvents), 1000)
    if ('failure' in page) {
      room.loaded = page.failure.status === 404 ? 'missing' : 'failed'
      return
    }
    room.restore(page.value.items, page.value.first_seq, page.value.head_seq)
    this.#connection?.tell({ type: 'join', conversationId: room.id, head: room.timeline.head })
  }

  async loadOlder(room: Room): Promise<void> {
    if (room.isLoadingOlder || !room.hasOlder || room.loaded !== 'yes') return
    room.isLoadingOlder = true
    const tail = room.timeline.tail
    const page = await this.api.before(room.id, tail, historyPage)
    if ('value' in page) {
      const isStart = page.value.items.length < historyPage
      const from = isStart ? 1 : (page.value.items[0]?.seq ?? 1)
      const notices = tail - from <= 1000 ? await this.#noticesBetween(room.id, from, tail) : []
      room.prepend(page.value.items, notices, isStart)
    }
    room.isLoadingOlder = false
  }

  async #noticesBetween(id: string, from: number, to: number): Promise<readonly TimelineNotice[]> {
    if (to <= from) return []
    const page = await this.api.events(id, from - 1, Math.min(1000, to - from))
    if ('failure' in page) return []
    let timeline = timelineFrom(from - 1, [])
    for (const frame of page.value.items) {
      const folded = foldFact(timeline, frame)
      if ('timeline' in folded) timeline = folded.timeline
    }
    return timeline.notices
  }

  async create(body: Parameters<Api['create']>[0]): Promise<ApiFailure | undefined> {
    const answer = await this.api.create(body)
    if ('failure' in answer) return answer.failure
    this.#room(answer.value.id).describe(answer.value)
    this.router.go(roomPath(answer.value.id))
    return undefined
  }

  async addMember(room: Room, username: string): Promise<ApiFailure | undefined> {
    const answer = await this.api.addMember(room.id, username)
    if ('failure' in answer) return answer.failure
    await this.#describe(room.id)
    return undefined
  }

  async removeMember(room: Room, userId: string): Promise<ApiFailure | undefined> {
    const answer = await this.api.removeMember(room.id, userId)
    return 'failure' in answer ? answer.failure : undefined
  }

  // --- what people do ----------------------------------------------------------------------------------------------------

  send(room: Room, content: string): boolean {
    const waiting = [...this.rooms.values()].reduce((n, r) => n + r.pending.length, 0)
    if (waiting >= outboxMax) {
      room.hint = t('composer.full')
      return false
    }
    const writtenAt = Date.now()
    const letter: Outgoing = {
      type: room.kind === 'ai' ? 'chat.send' : 'message.send',
      conversationId: room.id,
      clientMessageId: newId(writtenAt),
      content,
    }
    room.hint = ''
    room.draft = ''
    room.setPending(letter.clientMessageId, pendingOf({ letter, writtenAt }))
    void this.#outbox?.keep({ letter, writtenAt })
    this.#connection?.tell({ type: 'send', letter })
    this.#typedAt.delete(room.id)
    return true
  }

  /** Tries a refused message again, as a new one: a refusal means that the first was not and will not be stored. */
  again(room: Room, clientMessageId: string): void {
    const pending = room.pending.find(p => p.clientMessageId === clientMessageId)
    if (!pending) return
    this.drop(room, clientMessageId)
    this.send(room, pending.content)
  }

  /** Takes a refused message away; answers its text, for the composer. */
  drop(room: Room, clientMessageId: string): string {
    const text = room.pending.find(p => p.clientMessageId === clientMessageId)?.content ?? ''
    room.dropPending(clientMessageId)
    void this.#outbox?.drop(clientMessageId)
    return text
  }

  stop(room: Room, messageId: string): void {
    this.#connection?.tell({ type: 'say', frame: { type: 'chat.stop', conversationId: room.id, messageId } })
  }

  draft(room: Room, text: string): void {
    room.draft = text
    clearTimeout(this.#draftTimer)
    this.#draftTimer = setTimeout(() => this.#saveDraft(), 300)
    const now = performance.now()
    if (text === '') {
      if (this.#typedAt.delete(room.id)) this.#say('typing.stop', room.id)
    } else if (now - (this.#typedAt.get(room.id) ?? Number.NEGATIVE_INFINITY) > typingRepeatMs) {
      this.#typedAt.set(room.id, now)
      this.#say('typing.start', room.id)
    }
  }

  /** At most one receipt a second; the last seen position always gets out. */
  markRead(room: Room, seq: number): void {
    if (seq <= room.readSeq) return
    room.read(seq)
    clearTimeout(this.#readTimer)
    const wait = Math.max(0, this.#readAt + readEveryMs - performance.now())
    this.#readTimer = setTimeout(() => {
      this.#readAt = performance.now()
      const frame = { type: 'receipt.read', conversationId: room.id, seq: room.readSeq } as const
      this.#connection?.tell({ type: 'say', frame })
    }, wait)
  }

  #say(type: 'typing.start' | 'typing.stop', conversationId: string): void {
    this.#connection?.tell({ type: 'say', frame: { type, conversationId } })
  }

  /** Receipts come in bursts; what is kept may lag a little. */
  #keepPositions(room: Room): void {
    if (this.#positionTimers.has(room)) return
    const keep = () => {
      this.#positionTimers.delete(room)
      void this.#outbox?.keepPositions(room.id, new Map(room.positions))
    }
    this.#positionTimers.set(room, setTimeout(keep, positionsKeptMs))
  }

  #saveDraft(): void {
    clearTimeout(this.#draftTimer)
    const room = this.current
    if (room) void this.#outbox?.draft({ conversationId: room.id, text: room.draft })
  }

  // --- the session ---------------------------------------------------------------------------------------------------------

  async #admit(answer: Awaited<ReturnType<Api['login']>>): Promise<ApiFailure | undefined> {
    if ('failure' in answer) return answer.failure
    const me = answer.value.user ? { value: answer.value.user } : await this.api.me()
    if ('failure' in me) return me.failure
    await this.#enter(me.value, answer.value.access_token)
    return undefined
  }

  async #enter(me: Me, token: string): Promise<void> {
    this.me = me
    this.people.meet(me)
    this.#outbox = new Outbox(me.id)
    const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`
    this.#connection = new Connection(url, {
      refresh: async () => {
        const answer = await this.api.refresh()
        if ('value' in answer) return { token: answer.value }
        return { isFinal: answer.failure.status === 401 || answer.failure.status === 403 }
      },
      effect: effect => this.#effect(effect),
      changed: line => {
        const { phase, lostAt, isOffline } = this.line
        if (phase !== line.phase || lostAt !== line.lostAt || isOffline !== line.isOffline) this.line = line
        this.#doubtPresence(line)
      },
    })
    const { kept, drafts } = await this.#outbox.load()
    for (const each of kept) {
      this.#room(each.letter.conversationId).setPending(each.letter.clientMessageId, pendingOf(each))
      if (each.failed === undefined) this.#connection.tell({ type: 'send', letter: each.letter })
    }
    for (const each of drafts) this.#room(each.conversationId).draft = each.text
    this.farewell = undefined
    this.phase = 'in'
    if (this.router.route.page === 'login' || location.pathname === '/') this.router.go('/app', 'replace')
    this.#connection.tell({ type: 'start', token })
    void this.#list()
  }

  /** Who is there is not known without a connection; a blip changes nothing on screen. */
  #doubtPresence(line: Line): void {
    if (line.lostAt === undefined) {
      clearTimeout(this.#doubtTimer)
      this.#doubtTimer = undefined
    } else this.#doubtTimer ??= setTimeout(() => this.people.presence.clear(), presenceDoubtMs)
  }

  async #leave(why: Key | undefined): Promise<void> {
    this.#connection?.dispose()
    this.#connection = undefined
    await this.#outbox?.close()
    this.#outbox = undefined
    for (const timer of this.#positionTimers.values()) clearTimeout(timer)
    this.#positionTimers.clear()
    this.rooms.clear()
    this.people = new People()
    this.#opened = []
    this.#watched = ''
    this.hasList = 'no'
    this.me = undefined
    this.farewell = why
    this.#showLogin()
  }

  #showLogin(): void {
    this.phase = 'out'
    this.isUnreachable = false
    this.router.go('/login', 'replace')
  }

  #bootAgain(): void {
    this.isUnreachable = true
    setTimeout(() => void this.boot(), bootRetryMs)
  }

  // --- the list ------------------------------------------------------------------------------------------------------------

  #room(id: string): Room {
    const known = this.rooms.get(id)
    if (known) return known
    const room = new Room(id, this.me!.id, this.people)
    this.rooms.set(id, room)
    return room
  }

  #list(): Promise<void> {
    this.#listing ??= this.#readList().finally(() => {
      this.#listing = undefined
    })
    return this.#listing
  }

  async #readList(): Promise<void> {
    const answer = await this.api.conversations()
    if ('failure' in answer) {
      if (this.hasList === 'no') this.hasList = 'failed'
      return
    }
    for (const dto of answer.value.items) this.#room(dto.id).describe(dto)
    this.hasList = 'yes'
    this.#watch()
  }

  async #describe(id: string): Promise<void> {
    const answer = await this.api.conversation(id)
    if ('value' in answer) this.#room(id).describe(answer.value satisfies ConversationDto)
    this.#watch()
  }

  /** Whose presence is asked for: the people of the open room, then those of direct conversations. */
  #watch(): void {
    const ids = new Set(this.current?.others.map(o => o.user_id))
    for (const room of this.ordered) if (room.peerId) ids.add(room.peerId)
    const userIds = [...ids].slice(0, presenceWatchMax)
    if (userIds.join() === this.#watched) return
    this.#watched = userIds.join()
    this.#connection?.tell({ type: 'watch', userIds })
  }

  // --- from the wire -------------------------------------------------------------------------------------------------------

  #effect(effect: Exclude<WireEffect, { type: 'open' | 'close' | 'write' | 'refresh' }>): void {
    switch (effect.type) {
      case 'deliver':
        this.#deliver(effect.frame)
        return
      case 'stored': {
        const { letter, ack } = effect
        const room = this.#room(letter.conversationId)
        const pending = room.pending.find(p => p.clientMessageId === letter.clientMessageId)
        void this.#outbox?.drop(letter.clientMessageId)
        if (!pending) return
        // The row stays until its message comes by the log; if that is behind us already, it goes now.
        if (ack.seq === undefined || ack.seq <= room.timeline.head || room.loaded !== 'yes')
          room.dropPending(letter.clientMessageId)
        else room.setPending(letter.clientMessageId, { ...pending, storedSeq: ack.seq })
        return
      }
      case 'refused': {
        const { letter, error } = effect
        const room = this.#room(letter.conversationId)
        const pending = room.pending.find(p => p.clientMessageId === letter.clientMessageId)
        if (!pending) return
        const failed = reasonOf(error.code)
        room.setPending(letter.clientMessageId, { ...pending, failed })
        void this.#outbox?.fail({ letter, writtenAt: Date.parse(pending.ts), failed })
        return
      }
      case 'held':
        this.#room(effect.conversationId).heldUntil = Date.now() + effect.until - performance.now()
        return
      case 'ended':
        if (effect.code === 4403) void this.#leave('login.disabled')
        else if (effect.code === 4410 || effect.code === 4401) void this.#leave('login.ended')
        return
      default:
        effect satisfies never
    }
  }

  #deliver(frame: ServerFrame): void {
    switch (frame.type) {
      case 'ready': {
        const here = new Set([...frame.conversations, ...frame.others].map(c => c.id))
        for (const room of this.rooms.values()) if (room.isKnown && !here.has(room.id)) room.isRemoved = true
        for (const c of frame.conversations) this.#room(c.id).head(c)
        void this.#list()
        return
      }
      case 'room.joined':
        this.rooms.get(frame.conversationId)?.joined(frame)
        return
      case 'chat.stream':
        this.rooms.get(frame.conversationId)?.streamed(frame)
        return
      case 'chat.queued':
        this.rooms.get(frame.conversationId)?.queued.set(frame.clientMessageId, frame.position)
        return
      case 'typing':
        this.rooms.get(frame.conversationId)?.typed(frame.userId, frame.on)
        return
      case 'receipt.updated': {
        const room = this.rooms.get(frame.conversationId)
        room?.receipt(frame)
        if (room) this.#keepPositions(room)
        return
      }
      case 'presence':
        this.people.presence.set(frame.userId, { status: frame.status, lastSeen: frame.lastSeen ?? null })
        return
      case 'conversation.added':
        this.#room(frame.conversationId).head(frame.conversation)
        void this.#describe(frame.conversationId)
        return
      case 'conversation.removed': {
        const room = this.rooms.get(frame.conversationId)
        if (room) room.isRemoved = true
        return
      }
      case 'resync_required': {
        const room = this.rooms.get(frame.conversationId)
        if (!room) return
        room.headSeq = frame.headSeq
        room.forget()
        if (this.current === room) void this.load(room)
        return
      }
      case 'error':
        this.#errored(frame.conversationId, frame.code)
        return
      case 'chat.done':
      case 'ack':
      case 'pong':
      case 'server.draining':
        return
      default:
        this.#fact(frame)
    }
  }

  #fact(frame: DurableFrame): void {
    const room = this.#room(frame.conversationId)
    const mustDescribe = room.fact(frame)
    if (mustDescribe || !room.isKnown) void this.#describe(room.id)
  }

  #errored(id: string | undefined, code: string): void {
    const room = id ? this.rooms.get(id) : undefined
    if (!room) return
    if (code === 'NOT_FOUND' && room.loaded !== 'yes') room.loaded = 'missing'
    else if (code === 'BUSY') room.hint = `${t('reason.BUSY')}.`
    else if (code === 'UPSTREAM') room.hint = t('answer.failed')
  }
}

function pendingOf({ letter, writtenAt, failed }: Kept) {
  return {
    clientMessageId: letter.clientMessageId,
    content: letter.content,
    ts: new Date(writtenAt).toISOString(),
    ...(failed === undefined ? {} : { failed }),
  }
}
