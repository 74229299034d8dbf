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
import { Theme } from './theme.svelte.ts'

const bootRetryMs = 2000

export const [useParley, provideParley] = createContext<Parley>()

export class Parley {
  readonly api = new Api()
  readonly router = new Router()
  readonly theme = new Theme()
  readonly panes = new Panes()
  phase: 'starting' | 'out' | 'in' = $state('starting')
  session: Session | undefined = $state.raw()
  /** Why the login page is shown to somebody who was signed in. */
  farewell: Key | undefined = $state()
  isUnreachable = $state(false)

  constructor() {
    this.api.ontoken = token => {
      if (token) this.session?.renew(token)
      else if (this.phase === 'in') void this.#leave('login.ended')
    }
  }

  /** Signs in by the cookie if there may be one. */
  async boot(): Promise<void> {
    if (!this.api.mayHaveSession) return this.#showLogin()
    const refreshed = await this.api.refresh()
    if ('value' in refreshed) {
      const me = await this.api.me()
      if ('value' in me) return this.#enter(me.value, refreshed.value)
      if (me.failure.status === 0 || me.failure.status >= 429) return this.#bootAgain()
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

  async #enter(me: Me, token: string): Promise<void> {
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
    this.farewell = why
    this.#showLogin()
    this.session = undefined
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
