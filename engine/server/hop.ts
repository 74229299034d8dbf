/**
 * Passes the stream of a gateway on to another worker that the gateway cannot reach: byte for byte, one hop, back-pressure
 * both ways. Refuses to look into what it carries and to dial anything that is not a living engine's address.
 */
import { Client, type ServerDuplexStream, status } from '@grpc/grpc-js'
import type { Identity } from '#engine/ops/identity.ts'
import { linkConnectMs, linkCreditBytes, linkKeepaliveMs, linkMessageBytesMax, linkSilentMs } from '#protos/limits.ts'
import { linkService, relayTarget } from '#protos/link.ts'

type Stream = ServerDuplexStream<Buffer, Buffer>

const options = {
  'grpc.keepalive_time_ms': linkKeepaliveMs,
  'grpc.keepalive_timeout_ms': linkSilentMs,
  'grpc.max_receive_message_length': linkMessageBytesMax,
  'grpc.max_send_message_length': -1,
  'grpc-node.flow_control_window': linkCreditBytes,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
}

export interface HopDeps {
  identity: Identity
  /** Whether a living engine listens at this address. */
  isEngine(addr: string): Promise<boolean>
  fail(stream: Stream, code: status, details: string): void
}

/** Resolves with what ends it, when both sides are set up; undefined when it was refused. */
export async function openHop(stream: Stream, deps: HopDeps): Promise<(() => void) | undefined> {
  const { identity, fail } = deps
  const [target] = stream.metadata.get(relayTarget)
  stream.pause()
  const addr = typeof target === 'string' ? target : ''
  const isKnown = addr !== '' && (await deps.isEngine(addr).catch(() => false))
  if (!isKnown) {
    fail(stream, status.NOT_FOUND, 'no engine listens there')
    return undefined
  }
  let client: Client
  try {
    const own = identity.client()
    client = new Client(addr, own.credentials, { ...options, ...own.options })
  } catch {
    // Certificates are being replaced at this moment; the gateway dials again.
    fail(stream, status.UNAVAILABLE, 'the certificates cannot be used')
    return undefined
  }
  const { path, requestSerialize, responseDeserialize } = linkService.link
  const onward = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
  let isOver = false
  const end = (error?: Error) => {
    if (isOver) return
    isOver = true
    clearTimeout(timer)
    onward.on('error', () => undefined)
    onward.cancel()
    client.close()
    if (error) fail(stream, status.UNAVAILABLE, 'the other worker is not reached')
    else stream.end()
  }
  const timer = setTimeout(() => end(new Error('silent')), linkConnectMs)
  stream.on('data', (bytes: Buffer) => {
    if (isOver || onward.write(bytes)) return
    stream.pause()
    onward.once('drain', () => stream.resume())
  })
  onward.on('data', (bytes: Buffer) => {
    clearTimeout(timer)
    if (isOver || stream.write(bytes)) return
    onward.pause()
    stream.once('drain', () => onward.resume())
  })
  stream.on('end', () => end())
  stream.on('cancelled', () => end())
  stream.on('error', () => end())
  onward.on('end', () => end())
  onward.on('error', end)
  stream.resume()
  return end
}
