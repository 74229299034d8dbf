/**
 * The fetch that the SDK is given, over Node's own HTTP client: a token's way through web streams costs more CPU than all the
 * rest of it. Says when a request has really left (so that a connection that never comes about is told from a model that
 * thinks) and bounds what a response may weigh. Refuses to follow redirects and to look into bodies.
 */
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { upstreamBytesMax } from '#protos/limits.ts'
import { readBody } from './upstream-body.ts'

const idHeader = 'x-client-request-id'

export interface UpstreamOptions {
  bytesMax?: number
  /** Told how many bytes more, or fewer, were read and wait to be pulled. */
  onAhead(bytes: number): void
}

export class Upstream {
  readonly #bytesMax: number
  readonly #onAhead: (bytes: number) => void
  /** By the id of a request: whoever waits for it to leave. */
  readonly #watched = new Map<string, () => void>()

  constructor({ bytesMax = upstreamBytesMax, onAhead }: UpstreamOptions) {
    this.#bytesMax = bytesMax
    this.#onAhead = onAhead
  }

  /** Resolves once the request with these headers is on an open connection. Close it in any case. */
  watchSent(requestId: string): { headers: Record<string, string>; promise: Promise<void>; close(): void } {
    const promise = new Promise<void>(resolve => this.#watched.set(requestId, resolve))
    return { headers: { [idHeader]: requestId }, promise, close: () => void this.#watched.delete(requestId) }
  }

  readonly fetch: typeof fetch = (input, init = {}) =>
    new Promise((resolve, reject) => {
      const { body, signal } = init
      if (typeof input !== 'string' || (typeof body !== 'string' && body)) throw new TypeError('a text to an address')
      const url = new URL(input)
      const isSecure = url.protocol === 'https:'
      const headers = Object.fromEntries(new Headers(init.headers))
      const request = (isSecure ? https : http).request(url, {
        method: init.method ?? 'GET',
        headers,
        ...(signal && { signal }),
      })
      const sent = () => this.#watched.get(headers[idHeader] ?? '')?.()
      request.on('socket', socket => {
        if (socket.connecting) socket.once(isSecure ? 'secureConnect' : 'connect', sent)
        else sent()
      })
      request.on('error', reject)
      request.on('response', response => {
        this.#answer(response).then(resolve, reject)
      })
      request.end(body || undefined)
    })

  async #answer(response: IncomingMessage): Promise<Response> {
    const body = readBody(response, this.#bytesMax, this.#onAhead)
    const { statusCode: status = 0, statusMessage: statusText = '', rawHeaders } = response
    const headers = new Headers()
    for (let i = 0; i < rawHeaders.length; i += 2) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!)
    if (status === 200) {
      // The SDK iterates the body of a stream and asks nothing else of it.
      return Object.defineProperty(new Response(null, { status, statusText, headers }), 'body', { value: body })
    }
    const pieces: Uint8Array[] = []
    for await (const piece of body) pieces.push(piece)
    return new Response(pieces.length === 0 ? null : Buffer.concat(pieces), { status, statusText, headers })
  }
}
