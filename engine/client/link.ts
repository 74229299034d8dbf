/**
 * One stream to one worker: dials, greets, gathers letters, keeps credit both ways, dials again with back-off. A link never
 * replays anything: what it carried when it broke is told to nobody but `down`.
 */
import { Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js'
import type { Clock } from '#engine/ops/clock.ts'
import type { Identity } from '#engine/ops/identity.ts'
import { CreditPurse, CreditTab, LetterWriter } from '#engine/ops/letter-writer.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { type Label, type Letter, LetterError, label, letterBytes, letterKinds, readBatch } from '#protos/letter.ts'
import {
  hopProbeMs,
  linkBackoffMaxMs,
  linkBackoffMinMs,
  linkConnectMs,
  linkCreditBytes,
  linkKeepaliveMs,
  linkMessageBytesMax,
  linkSilentMs,
} from '#protos/limits.ts'
import { type Hello, linkService, linkVersion, relayTarget } from '#protos/link.ts'

export interface WorkerLink {
  readonly addr: string
  /** The peer has greeted and the stream stands. */
  readonly isUp: boolean
  /** It goes over another worker, because the direct way is not open. */
  readonly isRelayed: boolean
  /** How long the direct way has not been open, ms; 0 while it is. */
  readonly unreachedMs: number
  /** Up, and the peer has granted credit for more. */
  readonly hasRoom: boolean
  /** Leaves with all others of this turn. Only while `hasRoom`. */
  send(what: Label, body: Uint8Array): void
  close(): void
}

export interface LinkDeps {
  addr: string
  nodeId: string
  identity: Identity
  clock: Clock
  log: Log
  metrics: Metrics
  /** Another worker that may pass letters on to this one. */
  hop?(addr: string): string | undefined
  up(link: WorkerLink): void
  /** It was up and is not any more. */
  down(link: WorkerLink): void
  letter(link: WorkerLink, letter: Letter): void
  /** Credit came back after there was none. */
  room(link: WorkerLink): void
}

interface Standing {
  client: Client
  stream: ClientDuplexStream<Buffer, Buffer>
  writer: LetterWriter
  purse: CreditPurse
  tab: CreditTab
  isGreeted: boolean
  upSince: number
  /** The worker that it goes over; undefined: direct. */
  hop: string | undefined
}

const { requestSerialize, responseDeserialize } = linkService.link
/** So many failed dials before another worker is asked; then every other one is direct again. */
const directTries = 2
const noBody = new Uint8Array(0)
const options = {
  'grpc.keepalive_time_ms': linkKeepaliveMs,
  'grpc.keepalive_timeout_ms': linkSilentMs,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': linkMessageBytesMax,
  'grpc.max_send_message_length': -1,
  'grpc-node.flow_control_window': linkCreditBytes,
  // A connection of its own; and no retries by the library, which would keep copies of what was written.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
  'grpc.service_config_disable_resolution': 1,
}

export function createLink(deps: LinkDeps): WorkerLink {
  const { addr, clock, log, metrics } = deps
  let standing: Standing | undefined
  let timer: NodeJS.Timeout | undefined
  let failures = 0
  /** The dial before this one went over another worker. */
  let wasOverHop = false
  let isClosed = false
  /** Monotonic ms since which the direct way is not open. */
  let unreachedSince: number | undefined = clock.mono()
  let probe: NodeJS.Timeout | undefined

  function dial(): void {
    const hop = failures >= directTries && !wasOverHop ? deps.hop?.(addr) : undefined
    wasOverHop = hop !== undefined
    let client: Client
    try {
      const own = deps.identity.client()
      client = new Client(hop ?? addr, own.credentials, { ...options, ...own.options })
    } catch (error) {
      log.error('the certificates cannot be used', { err: error })
      timer = setTimeout(dial, linkBackoffMaxMs)
      return
    }
    const metadata = new Metadata()
    if (hop) metadata.set(relayTarget, addr)
    const { path } = hop ? linkService.relay : linkService.link
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata)
    const writer = new LetterWriter(stream, letters => {
      metrics.parley_link_batches_total.inc({ direction: 'up' })
      metrics.parley_link_letters_total.inc({ direction: 'up' }, letters)
    })
    const now: Standing = {
      client,
      stream,
      writer,
      purse: new CreditPurse(),
      tab: new CreditTab(),
      isGreeted: false,
      upSince: 0,
      hop,
    }
    standing = now
    stream.on('data', (bytes: Buffer) => {
      if (standing === now) receive(now, bytes)
    })
    // An error is followed by no second event that matters; both mean that this stream is over.
    stream.on('error', () => lost(now))
    stream.on('end', () => lost(now))
    timer = setTimeout(() => lost(now), linkConnectMs)
    const hello: Hello = { version: linkVersion, nodeId: deps.nodeId, role: 'gateway' }
    writer.push(label(letterKinds.hello), Buffer.from(JSON.stringify(hello)))
  }

  function receive(now: Standing, bytes: Buffer): void {
    let letters: Letter[]
    try {
      letters = readBatch(bytes)
    } catch (error) {
      if (!(error instanceof LetterError)) throw error
      log.error('a worker sent letters that cannot be read', { err: error })
      lost(now)
      return
    }
    metrics.parley_link_batches_total.inc({ direction: 'down' })
    metrics.parley_link_letters_total.inc({ direction: 'down' }, letters.length)
    // Pieces of answers follow the model's pace: many at once do not mean that the worker is busy with what people send.
    let answering = 0
    for (const letter of letters) {
      if (standing !== now) return
      if (letter.label.kind !== letterKinds.delta) answering++
      take(now, letter)
    }
    if (answering > 0) now.writer.heard(answering)
  }

  function take(now: Standing, letter: Letter): void {
    const { kind, seq, age } = letter.label
    if (kind === letterKinds.hello) {
      if (now.isGreeted) return
      clearTimeout(timer)
      now.isGreeted = true
      now.upSince = clock.mono()
      if (now.hop) {
        log.warn('a worker is reached over another one', { node: addr })
        probe = setTimeout(() => tryDirect(now), hopProbeMs)
      } else unreachedSince = undefined
      deps.up(link)
    } else if (kind === letterKinds.credit) {
      const wasEmpty = now.purse.isEmpty
      now.purse.give(seq, age)
      if (wasEmpty && !now.purse.isEmpty) deps.room(link)
    } else {
      if (kind !== letterKinds.lagged) {
        const due = now.tab.read(letterBytes(letter.label, letter.body))
        if (due) now.writer.push(label(letterKinds.credit, { seq: due.bytes, age: due.letters }), noBody)
      }
      deps.letter(link, letter)
    }
  }

  /** A connection, nothing said on it: when it stands, the link is made again over it. */
  function tryDirect(now: Standing): void {
    if (standing !== now) return
    let client: Client
    try {
      const { credentials, options: own } = deps.identity.client()
      client = new Client(addr, credentials, { ...options, ...own })
    } catch (error) {
      log.error('the certificates cannot be used', { err: error })
      probe = setTimeout(() => tryDirect(now), hopProbeMs)
      return
    }
    client.waitForReady(Date.now() + linkConnectMs, error => {
      client.close()
      if (standing !== now) return
      if (error) probe = setTimeout(() => tryDirect(now), hopProbeMs)
      else {
        failures = 0
        lost(now)
      }
    })
  }

  function lost(now: Standing): void {
    if (standing !== now) return
    end(now)
    unreachedSince ??= clock.mono()
    if (now.isGreeted) {
      log.warn('a link to a worker is down', { node: addr })
      deps.down(link)
    }
    if (isClosed) return
    // A link that breaks as soon as it stands is no better than one that never stood.
    if (now.isGreeted && clock.mono() - now.upSince >= linkBackoffMaxMs) failures = 0
    const wait = Math.min(linkBackoffMaxMs, linkBackoffMinMs * 2 ** failures) * (0.5 + clock.random() / 2)
    failures = Math.min(failures + 1, 10)
    timer = setTimeout(dial, wait)
  }

  function end(now: Standing): void {
    clearTimeout(timer)
    clearTimeout(probe)
    standing = undefined
    now.writer.close()
    now.stream.on('error', () => {})
    now.stream.cancel()
    now.client.close()
  }

  const link: WorkerLink = {
    addr,
    get isUp() {
      return standing?.isGreeted === true
    },
    get isRelayed() {
      return standing?.hop !== undefined
    },
    get unreachedMs() {
      return unreachedSince === undefined ? 0 : clock.mono() - unreachedSince
    },
    get hasRoom() {
      return standing?.isGreeted === true && !standing.purse.isEmpty
    },
    send(what, body) {
      if (!standing?.isGreeted) throw new Error('a letter for a link that is down')
      standing.purse.spend(standing.writer.push(what, body))
    },
    close() {
      if (isClosed) return
      isClosed = true
      clearTimeout(timer)
      const now = standing
      if (now === undefined) return
      end(now)
      if (now.isGreeted) deps.down(link)
    },
  }
  dial()
  return link
}
