/**
 * The REST client: typed answers, the access token in memory only, one refresh shared by all callers after a 401.
 * Refuses to know what the answers are used for; a failure is data with the server's own code.
 */
import type { ConversationKind, DurableFrame, Finish, MemberRole, ToolPolicy } from '#protos/catalogue.ts'

/** Who can be found and met has claimed a username; only one's own may still be missing. */
export interface User {
  id: string
  username: string
  display_name: string | null
  avatar_url: string | null
  created_at: string
}
export interface Me extends User {
  email: string
  role: string
  is_guest: boolean
}
export interface MemberDto {
  user_id: string
  username: string
  display_name: string | null
  avatar_url: string | null
  role: MemberRole
  joined_at: string
}
export interface MessageDto {
  id: string
  conversation_id: string
  seq: number
  sender_id: string
  role: 'user' | 'assistant'
  content: string
  client_message_id: string | null
  reply_to: number | null
  edited_at: string | null
  deleted_at: string | null
  tokens: { input: number; output: number; total: number } | null
  finish: Finish | null
  tool_calls: NonNullable<DurableFrame<'message.new'>['toolCalls']>
  created_at: string
}
export interface TaskDto {
  id: string
  title: string
  description: string | null
  completed: boolean
  created_at: string
  updated_at: string
  completed_at: string | null
}
export interface ConversationDto {
  id: string
  type: ConversationKind
  title: string | null
  tool_policy: ToolPolicy
  created_by: string
  created_at: string
  updated_at: string
  head_seq: number
  first_seq: number
  read_seq: number
  unread: number
  last_message: MessageDto | null
  members: MemberDto[]
}
export interface Page<T> {
  items: T[]
  next?: string
}
export interface EventsDto {
  items: DurableFrame[]
  first_seq: number
  head_seq: number
}
interface Session {
  access_token: string
  user?: Me
}

/** A refusal by the server, or `code: 'NETWORK'` when none answered. */
export interface ApiFailure {
  status: number
  code: string
  message: string
  retryAfterS?: number
  details?: Record<string, unknown>
}
export type Answer<T> = { value: T } | { failure: ApiFailure }

/** Whether this browser may hold a refresh cookie: spares a visitor's first page a request that is bound to fail. */
const knownKey = 'parley.known'

export class Api {
  #token: string | undefined
  #refreshing: Promise<Answer<string>> | undefined
  /** Told each time there is a new token, and whose it is; `undefined` when the session is over. */
  ontoken: (token: string | undefined, user?: Me) => void = () => {}

  get mayHaveSession(): boolean {
    return localStorage.getItem(knownKey) !== null
  }

  async register(body: { email: string; password: string; display_name?: string; username?: string }) {
    return this.#enter(await this.#send<Session>('POST', '/auth/register', body))
  }

  async login(body: { email: string; password: string }) {
    return this.#enter(await this.#send<Session>('POST', '/auth/login', body))
  }

  async logout(): Promise<void> {
    localStorage.removeItem(knownKey)
    await this.#send('POST', '/auth/logout', {})
    this.#token = undefined
  }

  /** A new access token by the cookie. Callers at the same time share one request. */
  refresh(): Promise<Answer<string>> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  me = () => this.get<Me>('/me')
  conversations = (after?: string) =>
    this.get<Page<ConversationDto>>(
      `/conversations?limit=100${after === undefined ? '' : `&after=${encodeURIComponent(after)}`}`,
    )
  conversation = (id: string) => this.get<ConversationDto>(`/conversations/${id}`)
  events = (id: string, after: number, limit: number) =>
    this.get<EventsDto>(`/conversations/${id}/events?after=${after}&limit=${limit}`)
  before = (id: string, seq: number, limit: number) =>
    this.get<Page<MessageDto>>(`/conversations/${id}/messages?before=${seq}&limit=${limit}`)
  search = (q: string) => this.get<Page<User>>(`/users/search?q=${encodeURIComponent(q)}`)
  create = (body: { type: ConversationKind; title?: string; usernames?: string[] }) =>
    this.#call<ConversationDto>('POST', '/conversations', body)
  setPolicy = (id: string, policy: ToolPolicy) =>
    this.#call<ConversationDto>('PATCH', `/conversations/${id}`, { tool_policy: policy })
  decide = (id: string, callId: string, decision: 'approve' | 'reject') =>
    this.#call<unknown>('POST', `/conversations/${id}/tools/${encodeURIComponent(callId)}`, { decision })
  tasks = (after?: string) => this.get<Page<TaskDto>>(`/tasks?limit=100${after === undefined ? '' : `&after=${after}`}`)
  addTask = (title: string) => this.#call<TaskDto>('POST', '/tasks', { title })
  changeTask = (id: string, change: { title?: string; completed?: boolean }) =>
    this.#call<TaskDto>('PATCH', `/tasks/${id}`, change)
  deleteTask = (id: string) => this.#call<undefined>('DELETE', `/tasks/${id}`)
  rename = (id: string, title: string) => this.#call<ConversationDto>('PATCH', `/conversations/${id}`, { title })
  addMember = (id: string, username: string) =>
    this.#call<MemberDto>('POST', `/conversations/${id}/members`, { username })
  setRole = (id: string, userId: string, role: MemberRole) =>
    this.#call<MemberDto>('PATCH', `/conversations/${id}/members/${userId}`, { role })
  removeMember = (id: string, userId: string) =>
    this.#call<undefined>('DELETE', `/conversations/${id}/members/${userId}`)

  get<T>(path: string): Promise<Answer<T>> {
    return this.#call<T>('GET', path)
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    if (this.#token) {
      const first = await this.#send<T>(method, path, body)
      if (!('failure' in first) || first.failure.status !== 401) return first
    }
    const refreshed = await this.refresh()
    if ('failure' in refreshed) return refreshed
    return this.#send<T>(method, path, body)
  }

  async #refresh(): Promise<Answer<string>> {
    const answer = await this.#send<Session>('POST', '/auth/refresh', {})
    if ('failure' in answer) {
      if (answer.failure.status === 401 || answer.failure.status === 403) {
        this.#token = undefined
        localStorage.removeItem(knownKey)
        this.ontoken(undefined)
      }
      return answer
    }
    this.#enter(answer)
    this.ontoken(answer.value.access_token, answer.value.user)
    return { value: answer.value.access_token }
  }

  #enter(answer: Answer<Session>): Answer<Session> {
    if ('value' in answer) {
      this.#token = answer.value.access_token
      localStorage.setItem(knownKey, '1')
    }
    return answer
  }

  async #send<T>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const headers: Record<string, string> = { accept: 'application/json' }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (this.#token) headers['authorization'] = `Bearer ${this.#token}`
    let response: Response
    try {
      response = await fetch(`/api${path}`, {
        method,
        headers,
        credentials: 'same-origin',
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch {
      return { failure: { status: 0, code: 'NETWORK', message: '' } }
    }
    if (response.status === 204) return { value: undefined as T }
    const json: unknown = await response.json().catch(() => undefined)
    if (response.ok && json !== undefined) return { value: json as T }
    const said = (json ?? {}) as { error?: string; error_code?: string; details?: Record<string, unknown> }
    const retryAfter = Number(response.headers.get('retry-after'))
    return {
      failure: {
        status: response.status,
        code: said.error_code ?? 'SERVER_ERROR',
        message: said.error ?? response.statusText,
        ...(retryAfter > 0 ? { retryAfterS: retryAfter } : {}),
        ...(said.details ? { details: said.details } : {}),
      },
    }
  }
}
