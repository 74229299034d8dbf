/**
 * The gRPC listener of one worker: one long stream per gateway, raw bytes, and the standard health check. Turns streams into
 * calls of the relay and nothing more; refuses to look into a letter.
 */
import { Server, type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js'
import { type Identity, openIdentity } from '#engine/ops/identity.ts'
import type { Log } from '#engine/ops/log.ts'
import { LetterError } from '#protos/letter.ts'
import {
  hopsPerWorkerMax,
  linkCreditBytes,
  linkKeepaliveMs,
  linkMessageBytesMax,
  linkSilentMs,
} from '#protos/limits.ts'
import { healthNotServing, healthService, healthServing, linkService } from '#protos/link.ts'
import { openHop } from './hop.ts'
import type { Relay } from './relay.ts'

type Stream = ServerDuplexStream<Buffer, Buffer>

export interface Listener {
  /** host:port for the route map. */
  addr: string
  /** What the health check answers. */
  setServing(isServing: boolean): void
  /** Ends all streams and closes the port. */
  close(): void
}

/**
 * Listens on host:port; port 0 takes any free one. Throws when it cannot be bound. `identity`: nobody when not given;
 * `isEngine`: whom streams may be passed on to, nobody when not given.
 */
export async function openListener(
  relay: Relay,
  log: Log,
  host: string,
  port: number,
  identity: Identity = openIdentity('', 'engine'),
  isEngine?: (addr: string) => Promise<boolean>,
): Promise<Listener> {
  let isServing = true
  const open = new Set<Stream>()
  const hops = new Set<Stream>()
  const server = new Server({
    'grpc.keepalive_time_ms': linkKeepaliveMs,
    'grpc.keepalive_timeout_ms': linkSilentMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': linkMessageBytesMax,
    'grpc.max_send_message_length': -1,
    // A whole credit may be under way without waiting for HTTP/2's own window.
    'grpc-node.flow_control_window': linkCreditBytes,
    'grpc.enable_channelz': 0,
  })

  function serveLink(stream: Stream): void {
    // An engine passes a gateway's stream on.
    if (!identity.admits(stream, ['gateway', 'engine'])) {
      fail(stream, status.PERMISSION_DENIED, 'only a gateway or an engine may open a link')
      return
    }
    const link = relay.open(stream)
    if (link === undefined) {
      fail(stream, status.RESOURCE_EXHAUSTED, 'too many links')
      return
    }
    open.add(stream)
    const end = () => {
      open.delete(stream)
      relay.gone(link)
    }
    stream.on('data', (bytes: Buffer) => {
      if (link.isClosed) return
      try {
        relay.receive(link, bytes)
      } catch (error) {
        if (!(error instanceof LetterError)) throw error
        log.error('a gateway sent letters that cannot be read', { err: error })
        end()
        fail(stream, status.INVALID_ARGUMENT, error.message)
      }
    })
    stream.on('end', () => {
      link.flush()
      end()
      stream.end()
    })
    stream.on('cancelled', end)
    stream.on('close', end)
    stream.on('error', end)
  }

  async function serveRelay(stream: Stream): Promise<void> {
    if (!identity.admits(stream, ['gateway'])) fail(stream, status.PERMISSION_DENIED, 'only a gateway may ask for that')
    else if (!isEngine || hops.size >= hopsPerWorkerMax) fail(stream, status.RESOURCE_EXHAUSTED, 'too many streams')
    else {
      hops.add(stream)
      stream.on('close', () => hops.delete(stream))
      await openHop(stream, { identity, isEngine, fail })
    }
  }

  server.addService(linkService, { link: serveLink, relay: (stream: Stream) => void serveRelay(stream) })
  server.addService(healthService, {
    check: (_call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) =>
      answer(null, isServing ? healthServing : healthNotServing),
  })
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host.includes(':') ? `[${host}]` : host}:${port}`, identity.server(), (error, at) =>
      error ? reject(error) : resolve(at),
    )
  })

  return {
    addr: `${host.includes(':') ? `[${host}]` : host}:${bound}`,
    setServing(now) {
      isServing = now
    },
    close() {
      for (const stream of [...open, ...hops]) stream.end()
      server.forceShutdown()
    },
  }
}

function fail(stream: Stream, code: status, details: string): void {
  stream.emit('error', Object.assign(new Error(details), { code, details }))
}
