/**
 * Shows notifications of this browser while nobody looks: one tab does, one stands for each conversation, and it goes when
 * that was read anywhere. Refuses to ask for permission by itself: only the switch does.
 */
import type { ServerFrame } from '#protos/catalogue.ts'
import type { Me } from '../wire/api.ts'
import { noticeOf } from './notice.ts'
import type { People } from './people.svelte.ts'
import type { Rooms } from './rooms.svelte.ts'
import { type Router, roomPath } from './router.svelte.ts'

const key = 'parley.notify'
/** At most one sound in this time. */
const soundMs = 3000
/** Answers of which it is known who asked; more than anybody waits for. */
const answersMax = 100

const isPossible = 'Notification' in window && 'serviceWorker' in navigator

interface NotifierPorts {
  rooms: Rooms
  router: Router
  people: People
  me: Me
}

export class Notifier {
  static readonly isPossible = isPossible
  isOn: boolean = $state(isPossible && Notification.permission === 'granted' && localStorage.getItem(key) === 'on')
  readonly #ports: NotifierPorts
  readonly #stop = new AbortController()
  readonly #answers = new Map<string, { requestedBy: string; beganAt: number }>()
  #isTheOne = false
  #soundAt = Number.NEGATIVE_INFINITY

  constructor(ports: NotifierPorts) {
    this.#ports = ports
    if (!isPossible) return
    const { signal } = this.#stop
    // The first tab speaks for all; when it goes, the next one does.
    const forAll = () =>
      new Promise<void>(resolve => {
        this.#isTheOne = true
        signal.addEventListener('abort', () => resolve())
      })
    void navigator.locks.request(`${key}.${ports.me.id}`, { signal }, forAll).catch(() => undefined)
    const pressed = ({ data }: MessageEvent<{ open?: string }>) => data.open && ports.router.go(data.open)
    navigator.serviceWorker.addEventListener('message', pressed, { signal })
  }

  /** Answers whether the browser allows it. */
  async turn(isOn: boolean): Promise<boolean> {
    this.isOn = isOn && (await Notification.requestPermission()) === 'granted'
    localStorage.setItem(key, this.isOn ? 'on' : 'off')
    return this.isOn === isOn
  }

  saw(frame: ServerFrame): void {
    if (!this.isOn || !this.#isTheOne) return
    if (frame.type === 'chat.started') this.#began(frame.messageId, frame.requestedBy, frame.ts)
    const id = 'conversationId' in frame ? frame.conversationId : undefined
    const room = id === undefined ? undefined : this.#ports.rooms.all.get(id)
    if (!room) return
    if (frame.type === 'receipt.updated') void this.#clear(room.id, room.readSeq)
    const { me, people, rooms } = this.#ports
    const notice = noticeOf(frame, {
      me,
      room,
      isSeen: document.visibilityState === 'visible' && document.hasFocus() && rooms.current === room,
      now: Date.now() + rooms.clockAheadMs,
      nameOf: userId => people.name(userId),
      answer: messageId => this.#answers.get(messageId),
      mayDecide: requestedBy => room.mayDecide(requestedBy),
    })
    if (notice) void this.#show(notice)
  }

  /** It was read here. */
  read(conversationId: string, seq: number): void {
    if (this.isOn) void this.#clear(conversationId, seq)
  }

  dispose(): void {
    this.#stop.abort()
  }

  #began(messageId: string, requestedBy: string, ts: string): void {
    this.#answers.set(messageId, { requestedBy, beganAt: Date.parse(ts) })
    const [oldest] = this.#answers.keys()
    if (this.#answers.size > answersMax && oldest) this.#answers.delete(oldest)
  }

  async #show({ conversationId, seq, title, body }: NonNullable<ReturnType<typeof noticeOf>>): Promise<void> {
    const registration = await navigator.serviceWorker.getRegistration()
    const silent = performance.now() - this.#soundAt < soundMs
    if (!silent) this.#soundAt = performance.now()
    const data = { open: roomPath(conversationId), seq }
    await registration?.showNotification(title, { body, tag: conversationId, silent, data }).catch(() => undefined)
  }

  async #clear(tag: string, readSeq: number): Promise<void> {
    const registration = await navigator.serviceWorker.getRegistration()
    for (const shown of (await registration?.getNotifications({ tag })) ?? []) {
      if ((shown.data as { seq: number }).seq <= readSeq) shown.close()
    }
  }
}
