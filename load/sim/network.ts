/**
 * Connections between processes: ordered within one, late, held while a path is cut, ended when an end dies. What was sent
 * on a path that is cut arrives when it heals, unless an end gave up before. Refuses to reorder within a connection.
 */
import type { Kernel, Proc } from './kernel.ts'

export interface Receiver<In> {
  message(data: In): void
  /** The other end closed it, or is gone. */
  ended(): void
}

export class Net {
  readonly #kernel: Kernel
  /** Paths as `from>to` by host. */
  readonly #cut = new Set<string>()
  readonly #slow = new Map<string, number>()
  readonly #waiting = new Map<string, Set<Pipe<unknown>>>()

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`)
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`)
  }

  slow(from: string, to: string, ms: number): void {
    this.#slow.set(`${from}>${to}`, ms)
  }

  heal(from: string, to: string): void {
    const path = `${from}>${to}`
    this.#slow.delete(path)
    if (!this.#cut.delete(path)) return
    const waiting = this.#waiting.get(path)
    this.#waiting.delete(path)
    for (const pipe of waiting ?? []) pipe.flush()
  }

  healAll(): void {
    for (const path of [...this.#cut, ...this.#slow.keys()]) {
      const [from, to] = path.split('>')
      this.heal(from!, to!)
    }
  }

  latency(from: string, to: string): number {
    const { random } = this.#kernel
    const usual = random.chance(0.02) ? random.between(1, 20) : random.between(0.05, 0.8)
    return usual + (this.#slow.get(`${from}>${to}`) ?? 0) * random.next()
  }

  wait(pipe: Pipe<unknown>, path: string): void {
    let waiting = this.#waiting.get(path)
    if (!waiting) this.#waiting.set(path, (waiting = new Set()))
    waiting.add(pipe)
  }

  /** Two ends of one connection. */
  connect<A, B>(a: Proc, b: Proc): [End<A, B>, End<B, A>] {
    const toB = new Pipe<A>(this.#kernel, this, a, b)
    const toA = new Pipe<B>(this.#kernel, this, b, a)
    const ends = [new End<A, B>(a, toB, toA), new End<B, A>(b, toA, toB)] as const
    a.onDeath.push(() => ends[0].close())
    b.onDeath.push(() => ends[1].close())
    return [ends[0], ends[1]]
  }
}

/** One direction. */
class Pipe<T> {
  readonly #kernel: Kernel
  readonly #net: Net
  readonly #from: Proc
  readonly #to: Proc
  #held: (T | typeof fin)[] = []
  #lastAt = 0
  #isEnded = false
  receiver: Receiver<T> | undefined
  /** Since when something waits behind a cut. */
  heldSince: number | undefined

  constructor(kernel: Kernel, net: Net, from: Proc, to: Proc) {
    this.#kernel = kernel
    this.#net = net
    this.#from = from
    this.#to = to
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  get held(): number {
    return this.#held.length
  }

  send(data: T | typeof fin): void {
    if (this.#isEnded) return
    if (data === fin) this.#isEnded = true
    if (this.#held.length > 0 || this.#net.isCut(this.#from.host, this.#to.host)) {
      this.#held.push(data)
      this.heldSince ??= this.#kernel.now
      this.#net.wait(this as Pipe<unknown>, `${this.#from.host}>${this.#to.host}`)
    } else this.#carry(data)
  }

  /** What comes from now on is for nobody. */
  deaf(): void {
    this.receiver = undefined
    this.#held = []
  }

  flush(): void {
    const held = this.#held
    this.#held = []
    this.heldSince = undefined
    for (const data of held) this.#carry(data)
  }

  #carry(data: T | typeof fin): void {
    const { now } = this.#kernel
    const at = Math.max(this.#lastAt + 0.001, now + this.#net.latency(this.#from.host, this.#to.host))
    this.#lastAt = at
    this.#kernel.at(this.#to, at - now, () => {
      const to = this.receiver
      if (!to) return
      this.#kernel.events++
      if (data === fin) {
        this.receiver = undefined
        to.ended()
      } else to.message(data as T)
    })
  }
}

const fin = Symbol('fin')

/** One side of a connection. */
export class End<Out, In> {
  readonly proc: Proc
  readonly #out: Pipe<Out>
  readonly #in: Pipe<In>

  constructor(proc: Proc, out: Pipe<Out>, into: Pipe<In>) {
    this.proc = proc
    this.#out = out
    this.#in = into
  }

  listen(receiver: Receiver<In>): void {
    this.#in.receiver = receiver
  }

  send(data: Out): void {
    this.#out.send(data)
  }

  get isClosed(): boolean {
    return this.#out.isEnded
  }

  /** Messages that wait behind a cut. */
  get unsent(): number {
    return this.#out.held
  }

  /** ms for which nothing got through, either way; 0 when nothing waits. */
  silentMs(now: number): number {
    const since = Math.min(this.#out.heldSince ?? now, this.#in.heldSince ?? now)
    return now - since
  }

  /** What was sent before still arrives; nothing is heard any more. */
  close(): void {
    this.#in.deaf()
    this.#out.send(fin)
  }
}
