/**
 * The root of the app's state: who is signed in, where the address bar points, which theme. Starts and ends sessions;
 * what happens in one is session.svelte.ts's.
 */
import { createContext } from 'svelte'
import type { Key } from '../i18n/t.ts'
import { Api, type ApiFailure, type Me } from '../wire/api.ts'
import { Panes } from './panes.svelte.ts'
import { Router } from './router.svelte.ts'
import { Session } from './session.svelte.ts'
import { Speech } from './speech.svelte.ts'
import { Theme } from './theme.svelte.ts'

const bootRetryMs = 2000
/** Somebody who was signed in sees what is kept here when the server has not answered by then. */
const patienceMs = 2000

export const [useParley, provideParley] = createContext<Parley>()

export class Parley {
  readonly api = new Api()
  readonly router = new Router()
  readonly theme = new Theme()
  readonly speech = new Speech()
  readonly panes = new Panes()
  phase: 'starting' | 'out' | 'in' = $state('starting')
  session: Session | undefined = $state.raw()
  /** Why the login page is shown to somebody who was signed in. */
  farewell: Key | undefined = $state()
  isUnreachable = $state(false)

  constructor() {
    this.api.ontoken = (token, user) => {
      if (!token) {
        if (this.phase === 'in') void this.#leave('login.ended')
      } else if (user && this.session && user.id !== this.session.me.id) {
        // Somebody else signed in here while this page knew only what was kept.
        keepMe(user)
        location.reload()
      } else this.session?.renew(token)
    }
  }

  /** Signs in by the cookie if there may be one. Without an answer, who was signed in goes on with what is kept here. */
  async boot(): Promise<void> {
    if (!this.api.mayHaveSession) return this.#showLogin()
    const me = keptMe()
    const refreshing = this.api.refresh()
    const refreshed = await (me ? Promise.race([refreshing, patience()]) : refreshing)
    if (me && (refreshed === undefined || ('failure' in refreshed && isOutage(refreshed.failure)))) {
      return this.#enter(me, undefined)
    }
    if (refreshed && 'value' in refreshed) {
      const own = await this.api.me()
      if ('value' in own) return this.#enter(own.value, refreshed.value)
      if (isOutage(own.failure)) return this.#bootAgain()
    } else if (refreshed && isOutage(refreshed.failure)) return this.#bootAgain()
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
    this.session?.disconnect()
    await this.session?.wipe()
    await this.api.logout()
    await this.#leave(undefined)
  }

  async #admit(answer: Awaited<ReturnType<Api['login']>>): Promise<ApiFailure | undefined> {
    if ('failure' in answer) return answer.failure
    const me = answer.value.user ? { value: answer.value.user } : await this.api.me()
    if ('failure' in me) return me.failure
    await this.#enter(me.value, answer.value.access_token)
    return undefined
  }

  async #enter(me: Me, token: string | undefined): Promise<void> {
    keepMe(me)
    const session = new Session(this.api, this.router, me, code => {
      if (code === 4403) void this.#leave('login.disabled')
      else if (code === 4410 || code === 4401) void this.#leave('login.ended')
    })
    await session.restore()
    this.session = session
    this.farewell = undefined
    this.phase = 'in'
    if (this.router.route.page === 'login' || location.pathname === '/') this.router.go('/app', 'replace')
    session.connect(token)
  }

  async #leave(why: Key | undefined): Promise<void> {
    const { session } = this
    keepMe(undefined)
    this.farewell = why
    this.#showLogin()
    this.session = undefined
    await session?.forget()
    await session?.dispose()
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
}

const patience = () => new Promise<undefined>(resolve => setTimeout(resolve, patienceMs, undefined))
const isOutage = ({ status }: ApiFailure) => status === 0 || status >= 429

/** Who is signed in, for a start without a network. */
const meKey = 'parley.me'

function keepMe(me: Me | undefined): void {
  if (me) localStorage.setItem(meKey, JSON.stringify(me))
  else localStorage.removeItem(meKey)
}

function keptMe(): Me | undefined {
  const kept = localStorage.getItem(meKey)
  return kept === null ? undefined : (JSON.parse(kept) as Me)
}
