/**
 * The browser's WebSocket on the simulated network: opened at a gateway that a balancer picks, every frame told to the
 * recorder before the client may act on it. Refuses to interpret frames.
 */
import { payloadOf } from '#gateway/framing.ts'
import type { Down, GatewayNode, Up } from './gateway-node.ts'
import { kernel } from './globals.ts'
import type { Proc } from './kernel.ts'
import type { End } from './network.ts'
import type { Recorder } from './recorder.ts'
import { services } from './services.ts'

export interface Town {
  gateways: GatewayNode[]
  recorder: Recorder
}

let town: Town | undefined
export function setTown(to: Town): void {
  town = to
}

export class SimWebSocket {
  static readonly OPEN = 1
  static readonly open = new Set<SimWebSocket>()
  readyState = 0
  onopen: (() => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  readonly proc: Proc
  readonly number: number
  #end: End<Up, Down> | undefined

  /** `url`: ws://<gateway>/ws, or ws://any/ws for the balancer's pick. */
  constructor(url: string, protocols: string[]) {
    const k = kernel()
    const { net } = services()
    const { gateways, recorder } = town!
    this.proc = k.current
    const named = gateways.find(g => url.includes(`//${g.name}/`))
    const gateway = named ?? k.random.pick(gateways)
    const token = protocols.find(p => p.startsWith('bearer.'))!.slice(7)
    this.number = recorder.opened(token.split(' ')[0]!, named ? '' : this.proc.name, gateway.name)
    k.note(`socket ${this.number} of ${this.proc.name} at ${gateway.name}`)
    const { running } = gateway
    if (!running || running.proc.isDead) {
      if (!net.isCut(this.proc.host, gateway.name)) k.at(this.proc, 1, () => this.#over(1006))
      return
    }
    const [mine, theirs] = net.connect<Up, Down>(this.proc, running.proc)
    this.#end = mine
    theirs.listen({ message: () => running.accept(theirs, token), ended: () => theirs.close() })
    mine.listen({ message: m => this.#heard(m), ended: () => this.#over(1006) })
    mine.send({ kind: 'text', text: 'upgrade' })
  }

  send(text: string): void {
    if (this.readyState !== 1) return
    town!.recorder.sent(this.number, text)
    this.#end!.send({ kind: 'text', text })
  }

  close(code = 1000): void {
    if (this.readyState === 3) return
    this.readyState = 3
    SimWebSocket.open.delete(this)
    town!.recorder.closed(this.number)
    this.#end?.send({ kind: 'close', code })
    this.#end?.close()
  }

  /** The connection breaks without a word. */
  cut(): void {
    if (this.readyState === 3) return
    this.#end?.close()
    this.#over(1006)
  }

  #heard(m: Down): void {
    if (this.readyState === 3) return
    if (m.kind === 'open') {
      this.readyState = 1
      SimWebSocket.open.add(this)
      return this.onopen?.()
    }
    if (m.kind === 'ping') return this.#end!.send({ kind: 'pong' })
    if (m.kind === 'close') {
      this.#end!.send({ kind: 'close', code: m.code })
      return this.#over(m.code)
    }
    // A browser hands over one frame at a time, and lets promises run in between.
    let turn = 0
    for (const text of unframed(m.bytes)) kernel().at(this.proc, 1e-6 * turn++, () => this.#frame(text))
  }

  #frame(text: string): void {
    if (this.readyState === 3) return
    town!.recorder.got(this.number, text)
    this.onmessage?.({ data: text })
  }

  #over(code: number): void {
    if (this.readyState === 3) return
    this.readyState = 3
    SimWebSocket.open.delete(this)
    this.#end?.close()
    town!.recorder.closed(this.number)
    this.onclose?.({ code })
  }
}

/** Texts of the whole frames in these bytes. */
function* unframed(bytes: Buffer): Generator<string> {
  for (let at = 0; at < bytes.length; ) {
    const short = bytes[at + 1]!
    const [head, length] =
      short === 127 ? [10, bytes.readUIntBE(at + 4, 6)] : short === 126 ? [4, bytes.readUInt16BE(at + 2)] : [2, short]
    yield payloadOf(bytes.subarray(at, at + head + length)).toString()
    at += head + length
  }
}
