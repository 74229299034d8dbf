/**
 * What a person does in a conversation: writes, sends, takes back, reads, stops an answer. Keeps what must survive a
 * reload before it leaves. Refuses to decide when a frame leaves: that is the wire's.
 */
import { typingRepeatMs } from '#protos/limits.ts'
import { reasonOf, t } from '../i18n/t.ts'
import { type Outbox, outboxMax } from '../store/outbox.ts'
import type { Api } from '../wire/api.ts'
import { newId } from '../wire/id.ts'
import type { Outgoing, WireEvent } from '../wire/wire.ts'
import type { Notifier } from './notifier.svelte.ts'
import type { Room } from './room.svelte.ts'
import type { Rooms } from './rooms.svelte.ts'
import { pendingOf } from './rows.ts'

const readEveryMs = 1000
const draftMs = 300

interface DeskPorts {
  rooms: Rooms
  notifier: Notifier
  outbox: Outbox
  api: Api
  tell(event: WireEvent): void
}

export class Desk {
  readonly #ports: DeskPorts
  readonly #stop = new AbortController()
  readonly #typedAt = new Map<string, number>()
  /** Drafts that changed since they were last kept. */
  readonly #unkept = new Set<Room>()
  #draftTimer: ReturnType<typeof setTimeout> | undefined
  #readAt = Number.NEGATIVE_INFINITY
  readonly #readTimers = new Map<Room, ReturnType<typeof setTimeout>>()

  constructor(ports: DeskPorts) {
    this.#ports = ports
    addEventListener('pagehide', () => this.#keepDrafts(), { signal: this.#stop.signal })
  }

  send(room: Room, content: string): boolean {
    const { rooms, outbox, tell } = this.#ports
    const waiting = [...rooms.all.values()].reduce((n, r) => n + r.pending.length, 0)
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
    this.#unkept.delete(room)
    room.setPending(letter.clientMessageId, pendingOf({ letter, writtenAt }))
    void outbox.keep({ letter, writtenAt })
    tell({ type: 'send', letter })
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
    void this.#ports.outbox.drop(clientMessageId)
    return text
  }

  stop(room: Room, messageId: string): void {
    this.#ports.tell({ type: 'say', frame: { type: 'chat.stop', conversationId: room.id, messageId } })
  }

  /** Allows or refuses what the assistant asked for; answers why that was not taken, in words. */
  async decide(room: Room, callId: string, decision: 'approve' | 'reject'): Promise<string> {
    const answer = await this.#ports.api.decide(room.id, callId, decision)
    if (!('failure' in answer)) return ''
    const { status, code } = answer.failure
    if (status === 403) return t('approval.forbidden')
    if (status === 404 || status === 409) return t('approval.tooLate')
    return t('find.failed', { reason: reasonOf(code) })
  }

  draft(room: Room, text: string): void {
    room.draft = text
    this.#unkept.add(room)
    clearTimeout(this.#draftTimer)
    this.#draftTimer = setTimeout(() => this.#keepDrafts(), draftMs)
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
    this.#ports.rooms.keeper.changed(room)
    this.#ports.notifier.read(room.id, seq)
    this.sayRead(room)
  }

  /** Tells the server how far this conversation was read, within a second. */
  sayRead(room: Room): void {
    if (this.#readTimers.has(room)) return
    const send = () => {
      this.#readTimers.delete(room)
      this.#readAt = performance.now()
      const frame = { type: 'receipt.read', conversationId: room.id, seq: room.readSeq } as const
      this.#ports.tell({ type: 'say', frame })
    }
    const wait = Math.max(0, this.#readAt + readEveryMs - performance.now())
    this.#readTimers.set(room, setTimeout(send, wait))
  }

  dispose(): void {
    this.#stop.abort()
    clearTimeout(this.#draftTimer)
    for (const timer of this.#readTimers.values()) clearTimeout(timer)
  }

  #say(type: 'typing.start' | 'typing.stop', conversationId: string): void {
    this.#ports.tell({ type: 'say', frame: { type, conversationId } })
  }

  #keepDrafts(): void {
    clearTimeout(this.#draftTimer)
    for (const room of this.#unkept) void this.#ports.outbox.draft({ conversationId: room.id, text: room.draft })
    this.#unkept.clear()
  }
}
