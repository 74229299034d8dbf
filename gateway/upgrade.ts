/**
 * The handshake of a socket: path, origin, sub-protocols, limits, the credential it carries. What is refused here gets an
 * HTTP status; a bad token does not, because a browser could not see it.
 * Refuses to log headers: one of them may hold a token.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Config } from '#engine/ops/config.ts'
import { tokenOfCookies } from '#gateway/auth/cookie.ts'
import type { Sessions } from '#gateway/auth/refresh.ts'
import { addressKey, type Client, type Origins } from '#gateway/http/origin.ts'
import { closeCodes } from '#protos/errors.ts'
import {
  closeReadableMs,
  frameBytesMax,
  frameFragmentsMax,
  pongsPendingMax,
  socketsPerGatewayMax,
  upgradeHeadersMax,
} from '#protos/limits.ts'
import { frameText, writeFrames } from './framing.ts'
import type { Access } from './session.ts'

export interface Offer {
  ws: WebSocket
  address: string
  /** Of /ws/chat?convId=…; undefined for plain sockets. */
  convId: string | undefined
  /** The credential under judgement, if the upgrade carried one. */
  credential: { kind: 'bearer' | 'cookie'; access: Promise<Access> } | undefined
}

export interface UpgradeDeps {
  config: Pick<Config, 'SOCKETS_PER_ADDRESS'>
  origins: Origins
  sessions: Pick<Sessions, 'identify'>
  verifyToken(token: string): Promise<Access>
  countOf(address: string): number
  openCount(): number
  isDraining(): boolean
  accept(offer: Offer): void
  now(): number
}

export const subprotocol = 'parley.v1'
const bearer = 'bearer.'

export function createUpgrade(deps: UpgradeDeps): (request: IncomingMessage, socket: Duplex, head: Buffer) => void {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: frameBytesMax,
    maxFragments: frameFragmentsMax,
    maxPendingAutoPongs: pongsPendingMax,
    closeTimeout: closeReadableMs,
    handleProtocols: offered => (offered.has(subprotocol) ? subprotocol : false),
  } as ConstructorParameters<typeof WebSocketServer>[0])

  return (request, socket, head) => {
    socket.on('error', destroyThis)
    const refusal = refuse(deps, request)
    if (refusal) return answer(socket, refusal)
    const client = deps.origins.clientOf(request)
    const address = addressKey(client.address)
    const offered = protocolsOf(request)
    const credential = credentialOf(deps, request, client, offered)
    const convId = convIdOf(request)
    server.handleUpgrade(request, socket, head, ws => {
      if (deps.openCount() >= socketsPerGatewayMax) {
        ws.on('error', () => {})
        const frame = { type: 'error', code: 'OVERLOADED', message: 'This server is full.', retryable: true }
        const ts = new Date(deps.now()).toISOString()
        const bytes = frameText(JSON.stringify({ ...frame, retryAfterMs: 1000, ts }))
        writeFrames(ws, [bytes], bytes.length)
        return ws.close(1013, closeCodes[1013].reason)
      }
      deps.accept({
        ws,
        address,
        convId,
        credential,
      })
    })
  }
}

interface HttpRefusal {
  status: number
  reason: string
  headers?: Record<string, string>
}

/** The rules that need no WebSocket; its own (method, key, version, duplicate protocols) are checked by ws. */
function refuse(deps: UpgradeDeps, request: IncomingMessage): HttpRefusal | undefined {
  const path = pathOf(request)
  const { headers } = request
  if (path !== '/ws' && path !== '/ws/chat') return { status: 404, reason: 'Not Found' }
  if (request.method !== 'GET') return { status: 405, reason: 'Method Not Allowed', headers: { allow: 'GET' } }
  if (request.rawHeaders.length / 2 > upgradeHeadersMax)
    return { status: 431, reason: 'Request Header Fields Too Large' }
  if (request.httpVersion !== '1.1') return { status: 400, reason: 'Bad Request' }
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') {
    return { status: 400, reason: 'Bad Request' }
  }
  if (headers['sec-websocket-version'] !== '13') {
    return { status: 426, reason: 'Upgrade Required', headers: { 'sec-websocket-version': '13', upgrade: 'websocket' } }
  }
  const client = deps.origins.clientOf(request)
  const origin = headers.origin
  if (origin !== undefined && !deps.origins.isAllowed(client, origin.toLowerCase())) {
    return { status: 403, reason: 'Forbidden' }
  }
  const offered = protocolsOf(request)
  if (offered !== undefined && !offered.includes(subprotocol)) return { status: 400, reason: 'Bad Request' }
  if (deps.isDraining()) return { status: 503, reason: 'Service Unavailable', headers: { 'retry-after': '1' } }
  const max = deps.config.SOCKETS_PER_ADDRESS
  if (max > 0 && deps.countOf(addressKey(client.address)) >= max) {
    return { status: 429, reason: 'Too Many Requests', headers: { 'retry-after': '1' } }
  }
  return undefined
}

function credentialOf(
  deps: UpgradeDeps,
  request: IncomingMessage,
  client: Client,
  offered: readonly string[] | undefined,
): Offer['credential'] {
  const token = offered?.find(p => p.startsWith(bearer))?.slice(bearer.length)
  if (token !== undefined) return { kind: 'bearer', access: deps.verifyToken(token).catch((): Access => 'away') }
  // A cookie counts only with an Origin, which was found allowed above.
  if (request.headers.origin === undefined) return undefined
  const cookie = tokenOfCookies(request.headers.cookie, client.isHttps)
  if (cookie === undefined) return undefined
  return { kind: 'cookie', access: deps.sessions.identify(cookie).catch((): Access => 'away') }
}

function pathOf(request: IncomingMessage): string {
  const path = (request.url ?? '/').split('?')[0]!
  return path.startsWith('/api/') ? path.slice(4) : path
}

function convIdOf(request: IncomingMessage): string | undefined {
  if (pathOf(request) !== '/ws/chat') return undefined
  return new URL(request.url ?? '/', 'http://x').searchParams.get('convId') ?? undefined
}

/** One for all: a closure of its own would keep the whole handshake for as long as the socket lives. */
function destroyThis(this: Duplex): void {
  this.destroy()
}

function protocolsOf(request: IncomingMessage): string[] | undefined {
  return request.headers['sec-websocket-protocol']?.split(',').map(p => p.trim())
}

function answer(socket: Duplex, { status, reason, headers = {} }: HttpRefusal): void {
  const lines = Object.entries({ connection: 'close', 'content-length': '0', ...headers })
  socket.end(`HTTP/1.1 ${status} ${reason}\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`)
}
