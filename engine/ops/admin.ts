/**
 * Owns the internal HTTP listener of a process: health, readiness, metrics. No identity is asked, so it binds to loopback
 * unless told otherwise. A module preloaded into the process may add routes before it opens. Refuses anything for users.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Log } from './log.ts'

export type AdminHandler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

/** By `METHOD /path`; those of the process win over these. */
export const addedRoutes = new Map<string, AdminHandler>()

export interface Admin {
  port: number
  url: string
  close(): Promise<void>
}

export interface Check {
  ok: boolean
  detail?: string
}

/** Rejects with the listener's own error, `EADDRINUSE` among them. */
export async function openAdmin(
  host: string,
  port: number,
  log: Log,
  routes: Record<string, AdminHandler>,
): Promise<Admin> {
  const server = createServer((request, response) => {
    // The bare address answers as /metrics does: it is what scrapers are given.
    const path = (request.url ?? '/').split('?')[0]!.replace(/^\/$/, '/metrics')
    const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${path}`
    const handler = Object.hasOwn(routes, route) ? routes[route] : addedRoutes.get(route)
    Promise.resolve(handler ? handler(request, response) : json(response, 404, { error: 'no such route' })).catch(
      error => {
        log.error('an internal route failed', { err: error })
        if (!response.headersSent) json(response, 500, { error: 'failed' })
        else response.destroy()
      },
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve())
  })
  const bound = (server.address() as AddressInfo).port
  return {
    port: bound,
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** 200 when all checks are ok, else 503; the body names each. */
export function readiness(response: ServerResponse, checks: Record<string, Check>): void {
  const isReady = Object.values(checks).every(check => check.ok)
  json(response, isReady ? 200 : 503, { status: isReady ? 'ready' : 'not ready', checks })
}

export function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}
