/**
 * `fetch` for servers that are not ours: only to addresses that may be reached, checked where the connection is made, no
 * redirects, no compression, bounded in bytes and in time. Refuses to hold credentials: the caller gives headers.
 */
import http from 'node:http'
import https from 'node:https'
import { Readable, Transform } from 'node:stream'
import { checkHost, guardedLookup, type MayReach, type Resolve } from '#engine/ops/public-address.ts'
import { mcpCallsMax, mcpMessageBytesMax, mcpRequestMs } from '#protos/limits.ts'

export interface GuardedFetch {
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
  close(): void
}

/** `ca`: certificates to trust instead of the public ones, for tests. */
export function createGuardedFetch(may: MayReach, given: { resolve?: Resolve; ca?: string } = {}): GuardedFetch {
  // A connection is used once: one that its server has just closed would leave the outcome of a call unknown.
  const options = { keepAlive: false, maxSockets: mcpCallsMax + 4, lookup: guardedLookup(may, given.resolve) }
  const agents = {
    'http:': new http.Agent(options),
    'https:': new https.Agent({ ...options, ...(given.ca === undefined ? {} : { ca: given.ca }) }),
  }

  async function send(target: string | URL, init: RequestInit = {}): Promise<Response> {
    const url = new URL(target)
    checkHost(url, may)
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
    const method = init.method ?? 'GET'
    const isPlain = url.protocol === 'http:'
    const request = (isPlain ? http : https).request(url, {
      agent: agents[isPlain ? 'http:' : 'https:'],
      method,
      headers: Object.fromEntries(new Headers(init.headers)),
      ...(init.signal ? { signal: init.signal } : {}),
    })
    request.on('response', resolve)
    request.on('error', reject)
    // A stream that is only listened to may last; everything else ends in time, whatever the server does.
    const timer = setTimeout(() => request.destroy(new Error('the server took too long')), mcpRequestMs)
    request.on('close', () => clearTimeout(timer))
    request.end(typeof init.body === 'string' ? init.body : undefined)
    const response = await promise
    const status = response.statusCode ?? 500
    if (method === 'GET') clearTimeout(timer)
    const encoding = response.headers['content-encoding'] ?? 'identity'
    if ((status >= 300 && status < 400) || encoding !== 'identity') {
      request.destroy()
      throw new Error(status < 400 ? `the server answered ${status}, ${encoding}; neither is followed` : encoding)
    }
    const headers = new Headers()
    for (const [name, value] of Object.entries(response.headersDistinct)) {
      for (const one of value ?? []) headers.append(name, one)
    }
    if ([204, 205].includes(status) || method === 'HEAD') {
      response.resume()
      return new Response(null, { status, headers })
    }
    const body = Readable.toWeb(response.pipe(bounded(response))) as ReadableStream<Uint8Array>
    return new Response(body, { status, headers })
  }

  return {
    fetch: send,
    close() {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  }
}

function bounded(source: http.IncomingMessage): Transform {
  let bytes = 0
  const limit = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      done(bytes > mcpMessageBytesMax ? new Error('the server sent too much') : null, chunk)
    },
  })
  // A pipe ends its target only when its source ends well, and leaves a source open whose target failed.
  source.on('error', error => limit.destroy(error))
  limit.on('close', () => source.destroy())
  return limit
}
