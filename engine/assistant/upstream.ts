/**
 * Two things about HTTP that the SDK does not offer: when a request has really left (so that a connection that never
 * comes about is told from a model that thinks), and a bound on what a response may weigh.
 * Refuses to read bodies.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { upstreamBytesMax } from '#protos/limits.ts'

const channel = 'undici:client:sendHeaders'

/** Resolves once the request that carries this x-client-request-id is on an open connection. Close it in any case. */
export function watchSent(requestId: string): { promise: Promise<void>; close(): void } {
  let listener: ((message: unknown) => void) | undefined
  const promise = new Promise<void>(resolve => {
    listener = message => {
      const headers = (message as { request?: { headers?: unknown } }).request?.headers
      if (Array.isArray(headers) && headers.includes(requestId)) resolve()
    }
    subscribe(channel, listener)
  })
  return {
    promise,
    close() {
      if (listener) unsubscribe(channel, listener)
      listener = undefined
    },
  }
}

/** A fetch whose responses break off above `upstreamBytesMax`: a stream without line ends would fill the heap. */
export function boundedFetch(inner: typeof fetch, bytesMax = upstreamBytesMax): typeof fetch {
  return async (input, init) => {
    const response = await inner(input, init)
    if (!response.body) return response
    let bytes = 0
    const counted = response.body.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          bytes += chunk.byteLength
          if (bytes > bytesMax) controller.error(new Error(`response above ${bytesMax} bytes`))
          else controller.enqueue(chunk)
        },
      }),
    )
    return new Response(counted, {
      status: response.status,
      statusText: response.statusText,
      headers: response.headers,
    })
  }
}
