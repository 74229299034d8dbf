/**
 * One conversation as this client knows it: list fields for every room, and for an opened one the timeline, which only
 * the fold of the log changes. Sends nothing; parley.svelte.ts acts.
 */
import { SvelteMap } from 'svelte/reactivity'
import type { ConversationKind, DurableFrame, FleetingFrame, MemberRole, ToolPolicy } from '#protos/catalogue.ts'
import { typingMs, unreadMax } from '#protos/limits.ts'
import {
  emptyTimeline,
  foldDelta,
  foldFact,
  foldJoined,
  type Timeline,
  type TimelineCall,
  type TimelineNotice,
  withText,
} from '#protos/timeline.ts'
import { t } from '../i18n/t.ts'
import { eventsKeptMax, type KeptAnswer } from '../store/archive.ts'
import { gist } from '../text/gist.ts'
import type { ConversationDto, MemberDto, MessageDto } from '../wire/api.ts'
import { mayDecide, stateOf, titlesOf } from './calls.ts'
import { callsBefore, type Preview, previewOf, timelineMessage, withEvent } from './history.ts'
import type { People } from './people.svelte.ts'
import { type Pending, type Position, type Row, rowsOf, type Tick, tickOf } from './rows.ts'

/** How the server calls a conversation with the assistant that nobody has named. */
const untitled = 'New Conversation'

export type Loaded = 'no' | 'loading' | 'yes' | 'failed' | 'missing'

export class Room {
  readonly id: string
  readonly #me: string
  readonly #people: People
  kind: ConversationKind = $state('group')
  /** Whether anything told its kind yet: until then nothing is shown that depends on it. */
  hasKind = $state(false)
  title: string | null = $state(null)
  /** Whom the room names, besides who asked, to decide on what the assistant may do. */
  toolPolicy: ToolPolicy = $state('requester')
  createdAt = $state('')
  members: readonly MemberDto[] = $state.raw([])
  headSeq = $state(0)
  readSeq = $state(0)
  unread = $state(0)
  last: Preview | undefined = $state.raw()
  /** Whether REST has told who is in it. */
  isKnown = $state(false)
  isRemoved = $state(false)

  loaded: Loaded = $state('no')
  hasOlder = $state(true)
  isLoadingOlder = $state(false)
  timeline: Timeline = $state.raw(emptyTimeline)
  /** The last events that were folded, as they came; what a reload without a network starts from. */
  events: readonly DurableFrame[] = []
  /** The first event that one may see at all. */
  firstSeq = 1
  pending: readonly Pending[] = $state.raw([])
  draft = $state('')
  /** Where the unread line stands while the room is on screen. */
  unreadAfter: number | undefined = $state()
  /** Somebody looks at its end: what arrives is about to be read, so no badge flickers. */
  isWatched = $state(false)
  /** Where the list stood when the room was left: its top row and how far that was cut; absent: at the bottom. */
  place: { key: string; offset: number } | undefined
  /** Wall time until which sends are held back after a refusal. */
  heldUntil = $state(0)
  /** A sentence over the composer, for refusals that belong to no row. */
  hint = $state('')

  readonly positions = new SvelteMap<string, Position>()
  readonly typing = new SvelteMap<string, ReturnType<typeof setTimeout>>()
  /** Answers that were refused because the day's tokens are used up, by id, and when there are new ones: wall time. */
  readonly spent = new SvelteMap<string, number>()
  /** clientMessageId → questions before it. */
  readonly queued = new SvelteMap<string, number>()

  readonly rows: Row[] = $derived.by(() =>
    rowsOf({
      timeline: this.timeline,
      pending: this.pending,
      me: this.#me,
      hasNotices: this.kind === 'group',
      ...(this.unreadAfter === undefined ? {} : { unreadAfter: this.unreadAfter }),
    }),
  )
  readonly others = $derived.by(() => this.members.filter(m => m.user_id !== this.#me))
  readonly name: string = $derived.by(() => {
    if (this.kind === 'ai')
      return this.title && this.title !== untitled ? this.title : this.#question || t('room.newAi')
    if (this.kind === 'dm') return this.others[0] ? this.#people.name(this.others[0].user_id) : '…'
    return this.title || this.others.map(o => this.#people.name(o.user_id)).join(', ') || t('room.untitled')
  })
  /** Stands for the title until the server gives one: what was asked first, where that is known. */
  get #question(): string {
    const first = this.timeline.tail <= 1 ? this.timeline.messages[0] : undefined
    return gist(first?.content ?? this.pending[0]?.content ?? '')
  }
  /** The other person of a direct conversation. */
  readonly peerId: string | undefined = $derived.by(() => (this.kind === 'dm' ? this.others[0]?.user_id : undefined))
  readonly activity: string = $derived.by(() => this.pending.at(-1)?.ts ?? this.last?.ts ?? this.createdAt)
  readonly typists: readonly string[] = $derived.by(() => [...this.typing.keys()])
  /** Titles of the tasks that its calls told of, by id. */
  readonly taskTitles = $derived.by(() => titlesOf(this.timeline.calls))
  /** Calls of the answer being written that wait for somebody's decision; known of opened rooms. */
  readonly undecided: readonly TimelineCall[] = $derived.by(() => {
    const open = new Set(this.timeline.answers.map(a => a.messageId))
    return this.timeline.calls.filter(call => open.has(call.messageId) && stateOf(call, true) === 'waiting')
  })
  /** Whether the assistant waits here for this person to decide. */
  readonly asksMe: boolean = $derived.by(() =>
    this.undecided.some(call => this.mayDecide(this.requesterOf(call.messageId))),
  )
  /** The answer that is being written, if any. */
  readonly running = $derived.by(() => this.timeline.answers[0])

  constructor(id: string, me: string, people: People) {
    this.id = id
    this.#me = me
    this.#people = people
  }

  /** What `ready` or `conversation.added` says. */
  head(c: { type: ConversationKind; title?: string; headSeq: number; readSeq?: number; unread?: number }): void {
    this.kind = c.type
    this.hasKind = true
    this.title = c.title ?? null
    this.isRemoved = false
    this.headSeq = Math.max(this.headSeq, c.headSeq)
    if (c.readSeq !== undefined) this.readSeq = Math.max(this.readSeq, c.readSeq)
    if (c.unread !== undefined) this.unread = this.#unreadBy(c.unread, c.readSeq)
    if (this.loaded === 'missing') this.loaded = 'no'
  }

  /** What REST says: the rest of the list's fields. The socket's own numbers win where they are newer. */
  describe(dto: ConversationDto): void {
    this.kind = dto.type
    this.hasKind = true
    this.createdAt = dto.created_at
    for (const m of dto.members) this.#people.meet({ ...m, id: m.user_id })
    this.members = dto.members
    this.title = dto.title
    this.toolPolicy = dto.tool_policy
    this.isKnown = true
    this.readSeq = Math.max(this.readSeq, dto.read_seq)
    if (dto.head_seq >= this.headSeq) {
      this.headSeq = dto.head_seq
      this.unread = this.#unreadBy(dto.unread, dto.read_seq)
    }
    const m = dto.last_message
    if (m && m.seq >= (this.last?.seq ?? 0)) this.last = previewOf(m)
  }

  /** A durable event, in order; true if who is in the room must be asked again. */
  fact(frame: DurableFrame): boolean {
    this.headSeq = Math.max(this.headSeq, frame.seq)
    if (this.loaded === 'yes') {
      const folded = foldFact(this.timeline, frame)
      if ('timeline' in folded && folded.timeline !== this.timeline) {
        this.timeline = folded.timeline
        this.events = withEvent(this.events, frame, eventsKeptMax)
      }
    }
    switch (frame.type) {
      case 'message.new':
        this.#said(frame)
        return false
      case 'message.edited':
        if (this.last?.messageId === frame.messageId) this.last = { ...this.last, content: frame.content }
        return false
      case 'message.deleted':
        if (this.last?.messageId === frame.messageId) this.last = { ...this.last, content: '', isDeleted: true }
        return false
      case 'room.updated':
        if (frame.title !== undefined) this.title = frame.title
        if (frame.toolPolicy) this.toolPolicy = frame.toolPolicy
        return false
      case 'room.member_joined':
      case 'room.member_role':
        return true
      case 'room.member_left':
        this.members = this.members.filter(m => m.user_id !== frame.userId)
        return false
      case 'chat.started':
        this.#unqueue(frame.inReplyTo)
        return false
      case 'reaction.updated':
      case 'tool.called':
      case 'tool.decided':
      case 'tool.returned':
        return false
      default:
        frame satisfies never
        return false
    }
  }

  #said(frame: DurableFrame<'message.new'>): void {
    const preview = {
      seq: frame.seq,
      messageId: frame.messageId,
      senderId: frame.senderId,
      content: frame.content,
      ts: frame.ts,
      isDeleted: frame.deleted ?? false,
    }
    if (frame.seq > (this.last?.seq ?? 0)) this.last = preview
    this.stopTyping(frame.senderId)
    if (frame.senderId === this.#me) {
      this.dropPending(frame.clientMessageId)
      this.readSeq = Math.max(this.readSeq, frame.seq)
      this.unread = 0
    } else {
      if (frame.seq > this.readSeq && !preview.isDeleted) this.unread = Math.min(unreadMax, this.unread + 1)
      // Writing is reading: a sender's own position moves with the message, without a receipt.
      if (frame.role === 'user') this.moved(frame.senderId, { readSeq: frame.seq, deliveredSeq: frame.seq })
      if (frame.inReplyTo) this.#unqueue(frame.inReplyTo)
    }
  }

  #unqueue(seq: number): void {
    const question = this.timeline.messages.find(m => m.seq === seq)
    if (question?.clientMessageId) this.queued.delete(question.clientMessageId)
  }

  joined(frame: FleetingFrame<'room.joined'>): void {
    if (this.loaded === 'yes') this.timeline = foldJoined(this.timeline, frame)
  }

  streamed(frame: FleetingFrame<'chat.stream'>): void {
    this.timeline = foldDelta(this.timeline, frame)
  }

  receipt(frame: FleetingFrame<'receipt.updated'>): void {
    if (frame.userId === undefined) return
    if (frame.userId === this.#me) {
      if (frame.readSeq !== undefined && frame.readSeq > this.readSeq) this.read(frame.readSeq)
      return
    }
    this.moved(frame.userId, { readSeq: frame.readSeq ?? 0, deliveredSeq: frame.deliveredSeq ?? 0 })
  }

  /** Positions only grow. */
  moved(userId: string, to: Position): void {
    const before = this.positions.get(userId) ?? { readSeq: 0, deliveredSeq: 0 }
    const readSeq = Math.max(before.readSeq, to.readSeq)
    const deliveredSeq = Math.max(before.deliveredSeq, to.deliveredSeq, readSeq)
    if (readSeq !== before.readSeq || deliveredSeq !== before.deliveredSeq)
      this.positions.set(userId, { readSeq, deliveredSeq })
  }

  read(seq: number): void {
    this.readSeq = Math.max(this.readSeq, seq)
    this.unread = this.#countUnread()
  }

  /** What the server counts; where more was read here than it knows of, no more than can be left. */
  #unreadBy(unread: number, readSeq = this.readSeq): number {
    return readSeq < this.readSeq ? Math.min(unread, Math.max(0, this.headSeq - this.readSeq)) : unread
  }

  #countUnread(): number {
    if (this.readSeq >= (this.last?.seq ?? this.headSeq)) return 0
    if (this.loaded !== 'yes' || this.timeline.tail > this.readSeq + 1) return this.unread
    const unread = this.timeline.messages.filter(m => m.seq > this.readSeq && m.senderId !== this.#me && !m.deleted)
    return Math.min(unreadMax, unread.length)
  }

  typed(userId: string, isOn: boolean): void {
    this.stopTyping(userId)
    if (isOn && userId !== this.#me)
      this.typing.set(
        userId,
        setTimeout(() => this.stopTyping(userId), typingMs),
      )
  }

  stopTyping(userId: string): void {
    clearTimeout(this.typing.get(userId))
    this.typing.delete(userId)
  }

  dropPending(clientMessageId: string | undefined): void {
    if (clientMessageId === undefined || !this.pending.some(p => p.clientMessageId === clientMessageId)) return
    this.pending = this.pending.filter(p => p.clientMessageId !== clientMessageId)
  }

  setPending(clientMessageId: string, to: Pending): void {
    const at = this.pending.findIndex(p => p.clientMessageId === clientMessageId)
    this.pending = at < 0 ? [...this.pending, to] : this.pending.with(at, to)
  }

  tick(seq: number): Tick {
    if (this.kind === 'ai') return seq === 0 ? 'pending' : 'stored'
    return tickOf(
      seq,
      this.others.map(o => this.positions.get(o.user_id)),
    )
  }

  /** The latest part of the log, as the server or this browser has it: everything is folded from it. */
  restore(frames: readonly DurableFrame[], firstSeq: number, headSeq: number, answer?: KeptAnswer): void {
    let timeline: Timeline = emptyTimeline
    for (const frame of frames) {
      const folded = foldFact(timeline, frame)
      if ('timeline' in folded) timeline = folded.timeline
      if (frame.type === 'message.new' && frame.role === 'user') {
        this.moved(frame.senderId, { readSeq: frame.seq, deliveredSeq: frame.seq })
      }
    }
    if (frames.length === 0) timeline = { ...emptyTimeline, head: headSeq, tail: headSeq + 1 }
    // Until the join tells how far the answer is, as far as was seen here.
    if (answer && timeline.answers.some(a => a.messageId === answer.messageId)) {
      timeline = withText(timeline, answer.messageId, answer.text)
    }
    this.timeline = timeline
    this.events = frames.slice(-eventsKeptMax)
    this.firstSeq = firstSeq
    this.headSeq = Math.max(this.headSeq, timeline.head)
    this.hasOlder = timeline.tail > Math.max(1, firstSeq)
    for (const m of timeline.messages) if (m.senderId === this.#me) this.dropPending(m.clientMessageId)
    this.loaded = 'yes'
  }

  /** A page of earlier messages, and the notices and calls among them. */
  prepend(
    messages: readonly MessageDto[],
    between: { notices: readonly TimelineNotice[]; calls: readonly TimelineCall[] },
    isStart: boolean,
  ): void {
    const tail = this.timeline.tail
    const older = messages.filter(m => m.seq < tail).map(timelineMessage)
    const from = older[0]?.seq ?? tail
    const calls = callsBefore(
      messages.filter(m => m.seq < tail),
      between.calls,
      this.timeline.calls,
    )
    this.timeline = {
      ...this.timeline,
      tail: isStart ? 1 : from,
      messages: [...older, ...this.timeline.messages],
      notices: [...between.notices.filter(n => n.seq < tail && (isStart || n.seq >= from)), ...this.timeline.notices],
      calls,
    }
    this.hasOlder = !isStart
  }

  /** Gives the memory back; the list fields stay. */
  forget(): void {
    this.timeline = emptyTimeline
    this.events = []
    this.spent.clear()
    this.loaded = 'no'
    this.hasOlder = true
  }

  get takesAssistant(): boolean {
    return this.kind !== 'dm'
  }

  isMine(row: { senderId: string }): boolean {
    return row.senderId === this.#me
  }

  role(userId: string): MemberRole {
    return this.members.find(m => m.user_id === userId)?.role ?? 'member'
  }

  mayDecide(requestedBy: string | undefined): boolean {
    return mayDecide({ policy: this.toolPolicy, me: this.#me, myRole: this.role(this.#me), requestedBy })
  }

  /** Who asked for an answer; undefined where that lies before what is loaded. */
  requesterOf(messageId: string): string | undefined {
    if (this.kind === 'ai') return this.#me
    const { answers, messages } = this.timeline
    const answer = answers.find(a => a.messageId === messageId)
    if (answer?.requestedBy) return answer.requestedBy
    const inReplyTo = answer?.inReplyTo ?? messages.find(m => m.messageId === messageId)?.inReplyTo
    return messages.find(m => m.seq === inReplyTo)?.senderId
  }
}
