/**
 * One signed-in person's session: the connection, and the parts that live as long as it. Wires them together and hands
 * what comes from the wire to intake.ts; components read it from context and never talk to the network.
 */
import { createContext } from 'svelte'
import { Outbox } from '../store/outbox.ts'
import type { Api, Me } from '../wire/api.ts'
import { Connection, type Line } from '../wire/connection.ts'
import { followPage } from '../wire/page.ts'
import type { WireEvent } from '../wire/wire.ts'
import { Desk } from './desk.ts'
import { deliver, settle } from './intake.ts'
import { People } from './people.svelte.ts'
import { Rooms } from './rooms.svelte.ts'
import type { Router } from './router.svelte.ts'
import { pendingOf } from './rows.ts'
import { Tasks } from './tasks.svelte.ts'

/** Who is there is not known without a connection; a blip changes nothing on screen. */
const presenceDoubtMs = 2000

export const [useSession, provideSession] = createContext<Session>()

export class Session {
  readonly api: Api
  readonly me: Me
  readonly outbox: Outbox
  readonly people = new People()
  readonly rooms: Rooms
  readonly desk: Desk
  readonly tasks: Tasks
  line: Line = $state.raw({ phase: 'off', isOffline: false })
  readonly #onend: (code: number) => void
  #connection: Connection | undefined
  readonly #page = new AbortController()
  #doubtTimer: ReturnType<typeof setTimeout> | undefined

  /** `onend` is told the close code after which the server wants no reconnect. */
  constructor(api: Api, router: Router, me: Me, onend: (code: number) => void) {
    this.api = api
    this.me = me
    this.#onend = onend
    this.people.meet(me)
    this.outbox = new Outbox(me.id)
    const tell = (event: WireEvent) => this.#connection?.tell(event)
    this.rooms = new Rooms({ api, router, me, people: this.people, outbox: this.outbox, tell })
    this.desk = new Desk({ rooms: this.rooms, outbox: this.outbox, api, tell })
    this.tasks = new Tasks(api, me.id)
    this.#connection = new Connection(socketUrl(), {
      refresh: async () => {
        const answer = await api.refresh()
        if ('value' in answer) return { token: answer.value }
        return { isFinal: answer.failure.status === 401 || answer.failure.status === 403 }
      },
      effect: effect => {
        if (effect.type === 'deliver') deliver(this, effect.frame)
        else if (effect.type === 'ended') this.#onend(effect.code)
        else settle(this, effect)
      },
      changed: line => this.#changed(line),
    })
    followPage(tell, this.#page.signal)
  }

  /** Brings back what was kept: unsent messages take their places and wait for the connection. */
  async restore(): Promise<void> {
    const { kept, drafts } = await this.outbox.load()
    for (const each of kept) {
      this.rooms.get(each.letter.conversationId).setPending(each.letter.clientMessageId, pendingOf(each))
      if (each.failed === undefined) this.#connection?.tell({ type: 'send', letter: each.letter })
    }
    for (const each of drafts) this.rooms.get(each.conversationId).draft = each.text
  }

  connect(token: string): void {
    this.#connection?.tell({ type: 'start', token })
    void this.rooms.readList()
  }

  renew(token: string): void {
    this.#connection?.tell({ type: 'refreshed', token })
  }

  retry(): void {
    this.#connection?.tell({ type: 'retry' })
  }

  disconnect(): void {
    this.#page.abort()
    this.#connection?.dispose()
    this.#connection = undefined
    clearTimeout(this.#doubtTimer)
  }

  /** Signing out leaves nothing behind. */
  wipe(): Promise<void> {
    return this.outbox.wipe()
  }

  async dispose(): Promise<void> {
    this.disconnect()
    this.desk.dispose()
    this.tasks.dispose()
    await this.outbox.close()
  }

  #changed(line: Line): void {
    const { phase, lostAt, isOffline } = this.line
    if (phase !== line.phase || lostAt !== line.lostAt || isOffline !== line.isOffline) this.line = line
    if (line.lostAt === undefined) {
      clearTimeout(this.#doubtTimer)
      this.#doubtTimer = undefined
    } else this.#doubtTimer ??= setTimeout(() => this.people.presence.clear(), presenceDoubtMs)
  }
}

function socketUrl(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`
}
