/**
 * One signed-in person's session: the connection, and the parts that live as long as it. Wires them together and hands
 * what comes from the wire to intake.ts; components read it from context and never talk to the network.
 */
import { createContext } from 'svelte'
import { Archive } from '../store/archive.ts'
import { Database } from '../store/database.ts'
import { Outbox } from '../store/outbox.ts'
import type { Api, Me } from '../wire/api.ts'
import { Connection, type Line } from '../wire/connection.ts'
import { followPage } from '../wire/page.ts'
import type { WireEvent } from '../wire/wire.ts'
import { Desk } from './desk.ts'
import { deliver, settle } from './intake.ts'
import { Notifier } from './notifier.svelte.ts'
import { People } from './people.svelte.ts'
import { Rooms } from './rooms.svelte.ts'
import type { Router } from './router.svelte.ts'
import { pendingOf } from './rows.ts'
import { Tasks } from './tasks.svelte.ts'
import { Toasts } from './toasts.svelte.ts'

/** Who is there is not known without a connection; a blip changes nothing on screen. */
const presenceDoubtMs = 2000

export const [useSession, provideSession] = createContext<Session>()

export class Session {
  readonly api: Api
  readonly me: Me
  readonly outbox: Outbox
  readonly #database: Database
  readonly #archive: Archive
  readonly people = new People()
  readonly rooms: Rooms
  readonly desk: Desk
  readonly tasks: Tasks
  readonly toasts = new Toasts()
  readonly notifier: Notifier
  line: Line = $state.raw({ phase: 'off', isOffline: false })
  /** Too long without a connection to say who is there and who writes. */
  isInDoubt = $state(false)
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
    this.#database = new Database(me.id)
    this.outbox = new Outbox(this.#database)
    this.#archive = new Archive(this.#database)
    const tell = (event: WireEvent) => this.#connection?.tell(event)
    const { people, outbox } = this
    const isReady = () => this.line.phase === 'ready'
    this.rooms = new Rooms({ api, router, me, people, outbox, archive: this.#archive, isReady, tell })
    this.notifier = new Notifier({ rooms: this.rooms, router, people, me })
    this.desk = new Desk({ rooms: this.rooms, notifier: this.notifier, outbox, api, tell })
    this.tasks = new Tasks(api, me.id)
    this.#connection = new Connection(socketUrl(), {
      refresh: async () => {
        const answer = await api.refresh()
        if ('value' in answer) return { token: answer.value }
        return { isFinal: answer.failure.status === 401 || answer.failure.status === 403 }
      },
      effect: effect => {
        if (effect.type === 'deliver') {
          deliver(this, effect.frame)
          this.rooms.keeper.saw(effect.frame)
          this.notifier.saw(effect.frame)
        } else if (effect.type === 'ended') this.#onend(effect.code)
        else settle(this, effect)
      },
      changed: line => this.#changed(line),
    })
    followPage(tell, this.#page.signal)
  }

  /** Brings back what was kept: the list as it was, and unsent messages, which take their places and wait for the connection. */
  async restore(): Promise<void> {
    const [{ kept, drafts }] = await Promise.all([this.outbox.load(), this.rooms.recall()])
    for (const each of kept) {
      this.rooms.get(each.letter.conversationId).setPending(each.letter.clientMessageId, pendingOf(each))
      if (each.failed === undefined) this.#connection?.tell({ type: 'send', letter: each.letter })
    }
    for (const each of drafts) this.rooms.get(each.conversationId).draft = each.text
  }

  /** Without a token it asks for one first, and again, until somebody answers. */
  connect(token?: string): void {
    this.#connection?.tell({ type: 'start', ...(token === undefined ? {} : { token }) })
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
  async wipe(): Promise<void> {
    this.rooms.keeper.dispose()
    await Promise.all([this.outbox.wipe(), this.#archive.wipe()])
  }

  /** Whoever was signed out by others keeps what they wrote, and nothing that they read. */
  async forget(): Promise<void> {
    this.rooms.keeper.dispose()
    await this.#archive.wipe()
  }

  async dispose(): Promise<void> {
    this.disconnect()
    this.desk.dispose()
    this.tasks.dispose()
    this.notifier.dispose()
    this.rooms.keeper.dispose()
    await this.#database.close()
  }

  #changed(line: Line): void {
    const { phase, lostAt, isOffline } = this.line
    if (phase !== line.phase || lostAt !== line.lostAt || isOffline !== line.isOffline) this.line = line
    if (line.lostAt === undefined) {
      clearTimeout(this.#doubtTimer)
      this.#doubtTimer = undefined
      this.isInDoubt = false
    } else this.#doubtTimer ??= setTimeout(() => this.#doubt(), presenceDoubtMs)
  }

  #doubt(): void {
    this.isInDoubt = true
    this.people.presence.clear()
  }
}

function socketUrl(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`
}
