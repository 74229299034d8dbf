/**
 * One further MCP server as its client: connected, listed, called, and connected again with growing pauses when it is gone.
 * A call is sent at most once, whatever happens to the connection. Refuses to know what tools may do, and to answer a server
 * that asks for a model, for files or for a person.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CallToolResultSchema,
  ErrorCode,
  ListToolsResultSchema,
  McpError,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { Clock } from '#engine/ops/clock.ts'
import type { Log } from '#engine/ops/log.ts'
import type { McpServer } from '#engine/ops/mcp-servers.ts'
import { onlyLoopback, publicOr, type Resolve } from '#engine/ops/public-address.ts'
import {
  mcpCallsMax,
  mcpConnectMs,
  mcpListPagesMax,
  mcpRelistMs,
  mcpRetryMs,
  mcpRetryMsMax,
  mcpToolsMax,
} from '#protos/limits.ts'
import { Breaker } from './breaker.ts'
import { ChildTransport } from './child-transport.ts'
import { type ForeignOutcome, type ListedTool, textOf } from './foreign-tools.ts'
import { createGuardedFetch } from './guarded-fetch.ts'

export interface ForeignServer {
  /** `arguments`: JSON of an object. Never rejects; ends within `ms`. */
  call(tool: string, args: string, ms: number): Promise<ForeignOutcome>
  close(): Promise<void>
}

type Transport = Parameters<Client['connect']>[0]

interface Connection {
  client: Client
  isOpen: boolean
  close(): Promise<void>
}

/** Errors after which nothing was sent. */
const unsent = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ADDRESS_REFUSED'])

export function keepServer(deps: {
  server: McpServer
  clock: Clock
  log: Log
  /** Whatever it lists, whenever that changes; undefined while it is not there. */
  onTools(tools: ListedTool[] | undefined): void
  resolve?: Resolve
  ca?: string
}): ForeignServer {
  const { server, clock, log } = deps
  const breaker = new Breaker()
  const closed = Promise.withResolvers<void>()
  let connection: Connection | undefined
  let isClosed = false
  let running = 0
  let wake: (() => void) | undefined
  const kept = keep()

  async function keep(): Promise<void> {
    for (let pause = mcpRetryMs; !isClosed; ) {
      const startedAt = clock.mono()
      try {
        await live()
      } catch (error) {
        if (!isClosed) log.warn('a server of tools is not there', { code: server.name, err: error })
      }
      deps.onTools(undefined)
      if (isClosed) return
      if (clock.mono() - startedAt > mcpRetryMsMax) pause = mcpRetryMs
      await new Promise<void>(go => {
        const timer = setTimeout(go, pause * (0.5 + clock.random()))
        wake = () => {
          clearTimeout(timer)
          go()
        }
      })
      pause = Math.min(pause * 2, mcpRetryMsMax)
    }
  }

  /** From a connection to its end. */
  async function live(): Promise<void> {
    const opened = open()
    const { client } = opened
    const lost = Promise.withResolvers<void>()
    client.onclose = () => {
      opened.isOpen = false
      lost.resolve()
    }
    connection = opened
    try {
      await client.connect(opened.transport, { timeout: mcpConnectMs })
      await list(opened)
      log.info('a server of tools is there', { code: server.name, ms: Math.round(clock.mono() - opened.at) })
      await Promise.race([lost.promise, closed.promise])
    } finally {
      opened.isOpen = false
      await opened.close()
    }
    if (!isClosed) throw new Error(`the connection ended${opened.said()}`)
  }

  function open(): Connection & { transport: Transport; at: number; said(): string } {
    // No capabilities: whatever a server asks of us is answered with "no such method".
    const client = new Client({ name: 'parley', version: '0.1.0' }, { capabilities: {} })
    const { transport, said, release } = transportOf()
    const close = async () => {
      await client.close().catch(() => undefined)
      await transport.close().catch(() => undefined)
      release()
    }
    const opened = { client, isOpen: true, transport, at: clock.mono(), said, close }
    let isRelisting = false
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
      if (isRelisting) return
      isRelisting = true
      setTimeout(() => {
        isRelisting = false
        if (opened.isOpen) list(opened).catch(() => void opened.close())
      }, mcpRelistMs).unref()
    })
    return opened
  }

  function transportOf(): { transport: Transport; said(): string; release(): void } {
    const { reach } = server
    if (reach.kind === 'http') {
      const may = new URL(reach.url).protocol === 'http:' ? onlyLoopback : publicOr(reach.allow)
      const guarded = createGuardedFetch(may, {
        ...(deps.resolve ? { resolve: deps.resolve } : {}),
        ...(deps.ca === undefined ? {} : { ca: deps.ca }),
      })
      const transport = new StreamableHTTPClientTransport(new URL(reach.url), {
        fetch: guarded.fetch,
        requestInit: { headers: reach.headers, redirect: 'error' },
      })
      return { transport: transport as Transport, said: () => '', release: guarded.close }
    }
    const transport = new ChildTransport(reach)
    const said = () => (transport.complaints === '' ? '' : `: ${transport.complaints}`)
    return { transport: transport as Transport, said, release: () => undefined }
  }

  async function list(from: Connection): Promise<void> {
    const tools: ListedTool[] = []
    let cursor: string | undefined
    for (let page = 0; page < mcpListPagesMax && tools.length < mcpToolsMax; page++) {
      const params = cursor === undefined ? {} : { cursor }
      const answer = await from.client.request({ method: 'tools/list', params }, ListToolsResultSchema, {
        timeout: mcpConnectMs,
      })
      for (const { name, description = '', inputSchema } of answer.tools) tools.push({ name, description, inputSchema })
      cursor = answer.nextCursor
      if (cursor === undefined) break
    }
    if (from.isOpen) deps.onTools(tools.slice(0, mcpToolsMax))
  }

  return {
    async call(tool, args, ms) {
      const at = connection
      if (!at?.isOpen || isClosed) return notMade(`The server ${server.name} does not answer now.`)
      if (running >= mcpCallsMax) return notMade(`The server ${server.name} has too much to do now.`)
      if (!breaker.admits(clock.mono())) return notMade(`The server ${server.name} failed too often; try later.`)
      running++
      try {
        const params = { name: tool, arguments: JSON.parse(args) as Record<string, unknown> }
        // Not callTool(): it would run patterns that the server wrote over what the server sent.
        const result = await at.client.request({ method: 'tools/call', params }, CallToolResultSchema, {
          timeout: ms,
          maxTotalTimeout: ms,
        })
        breaker.succeeded(clock.mono())
        return textOf(result)
      } catch (error) {
        return failed(error, at)
      } finally {
        running--
      }
    },

    async close() {
      isClosed = true
      closed.resolve()
      wake?.()
      await connection?.close()
      await kept
    },
  }

  function failed(error: unknown, at: Connection): ForeignOutcome {
    const isAnswer =
      error instanceof McpError && error.code !== ErrorCode.RequestTimeout && error.code !== ErrorCode.ConnectionClosed
    if (isAnswer) {
      breaker.succeeded(clock.mono())
      return textOf({ isError: true, content: [{ type: 'text', text: error.message }] })
    }
    breaker.failed(clock.mono())
    const { code } = ((error as Error).cause ?? error) as { code?: string }
    log.warn('a call at a server of tools has no answer', { code: server.name, err: error })
    // A session that the server forgot, or a server that is gone: begin anew.
    if (error instanceof StreamableHTTPError || unsent.has(String(code))) void at.close()
    return unsent.has(String(code)) ? notMade(`The server ${server.name} does not answer now.`) : { kind: 'unknown' }
  }
}

const notMade = (message: string): ForeignOutcome => ({ kind: 'not_made', message })
