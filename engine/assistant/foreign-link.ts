/**
 * Between the threads of an engine: workers ask, the one thread that speaks with other servers answers. Each worker has a
 * port to it and a copy of the list of tools. Refuses to interpret a call.
 */
import type { MessagePort } from 'node:worker_threads'
import type { Clock } from '#engine/ops/clock.ts'
import type { ForeignOutcome, SeenTool } from './foreign-tools.ts'

/** Host → worker. */
export type FromHost =
  /** All tools that are there and accepted, whenever that changes. */
  { kind: 'tools'; tools: SeenTool[] } | { kind: 'outcome'; id: number; outcome: ForeignOutcome }

/** Worker → host. */
export interface ToHost {
  kind: 'call'
  id: number
  server: string
  tool: string
  arguments: string
  ms: number
}

export interface ForeignLink {
  /** In the servers’ order; empty until the host has spoken. A list that is the same is the same array. */
  tools(): readonly SeenTool[]
  /** The tool of this name; a link that was just opened waits a moment for it to be there. */
  find(name: string): Promise<SeenTool | undefined>
  /** Never rejects; a host that ends leaves the outcome unknown. */
  call(tool: SeenTool, args: string, ms: number): Promise<ForeignOutcome>
  /** The port to the host, and to the next one when that was replaced. */
  attach(port: MessagePort): void
  close(): void
}

/** A worker that has just started waits so long for a server to be there. */
const freshMs = 4000

export function openForeignLink(clock: Pick<Clock, 'mono'>): ForeignLink {
  const pending = new Map<number, (outcome: ForeignOutcome) => void>()
  const openedAt = clock.mono()
  let changed = Promise.withResolvers<void>()
  let tools: readonly SeenTool[] = []
  let current: MessagePort | undefined
  let last = 0

  function lost(port: MessagePort): void {
    if (port !== current) return
    current = undefined
    tools = []
    for (const settle of pending.values()) settle({ kind: 'unknown' })
  }

  return {
    tools: () => tools,
    async find(name) {
      for (;;) {
        const found = tools.find(tool => tool.name === name)
        const left = openedAt + freshMs - clock.mono()
        if (found || left <= 0) return found
        let timer: NodeJS.Timeout | undefined
        await Promise.race([changed.promise, new Promise<void>(go => void (timer = setTimeout(go, left)))])
        clearTimeout(timer)
      }
    },
    async call(tool, args, ms) {
      const port = current
      if (!port) return { kind: 'not_made', message: `The server ${tool.server} does not answer now.` }
      const id = ++last
      const { promise, resolve } = Promise.withResolvers<ForeignOutcome>()
      pending.set(id, resolve)
      const timer = setTimeout(() => resolve({ kind: 'unknown' }), ms)
      const ask: ToHost = { kind: 'call', id, server: tool.server, tool: tool.tool, arguments: args, ms }
      port.postMessage(ask)
      const outcome = await promise
      clearTimeout(timer)
      pending.delete(id)
      return outcome
    },
    attach(port) {
      if (current) {
        const before = current
        lost(before)
        before.close()
      }
      current = port
      port.on('message', (message: FromHost) => {
        if (message.kind === 'outcome') pending.get(message.id)?.(message.outcome)
        else if (port === current) {
          tools = message.tools
          changed.resolve()
          changed = Promise.withResolvers()
        }
      })
      port.on('close', () => lost(port))
      // A worker ends whether or not the host is still there.
      port.unref()
    },
    close() {
      current?.close()
    },
  }
}
