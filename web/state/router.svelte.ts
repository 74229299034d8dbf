/** The address bar as state: which page, which conversation, which pane. Nothing else touches history. */
export type Route =
  | { page: 'login' }
  | { page: 'home' }
  /** Somebody whom a link names. */
  | { page: 'person'; username: string }
  | { page: 'room'; id: string; pane: Pane }
export type Pane = 'room' | 'people' | 'tasks'

export class Router {
  route: Route = $state.raw(parse(location.pathname))
  #stop = new AbortController()

  constructor() {
    addEventListener('popstate', () => (this.route = parse(location.pathname)), { signal: this.#stop.signal })
  }

  go(path: string, how: 'push' | 'replace' = 'push'): void {
    if (path !== location.pathname) {
      if (how === 'push') history.pushState({ isInside: true }, '', path)
      else history.replaceState(history.state, '', path)
    }
    this.route = parse(path)
  }

  /** Up one pane: the browser's Back where that leads there, so that Back never returns to what was closed. */
  up(path: string): void {
    if ((history.state as { isInside?: boolean } | null)?.isInside) history.back()
    else this.go(path, 'replace')
  }

  dispose(): void {
    this.#stop.abort()
  }
}

export const roomPath = (id: string) => `/app/c/${id}`
export const peoplePath = (id: string) => `/app/c/${id}/people`
export const tasksPath = (id: string) => `/app/c/${id}/tasks`

function parse(path: string): Route {
  const parts = path.split('/').filter(Boolean)
  if (parts[0] === 'login') return { page: 'login' }
  if (parts[0] === 'u' && parts[1] && /^\w+$/.test(parts[1])) return { page: 'person', username: parts[1] }
  const id = parts[0] === 'chat' ? parts[1] : parts[0] === 'app' && parts[1] === 'c' ? parts[2] : undefined
  // `/chat/new` is where conversations are begun.
  if (!id || id === 'new') return { page: 'home' }
  const last = parts.at(-1)
  return { page: 'room', id: id.toLowerCase(), pane: last === 'people' || last === 'tasks' ? last : 'room' }
}
