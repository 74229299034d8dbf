/**
 * One engine process of the simulated cluster: the composition of engine/main.ts around production's membership and workers,
 * with threads as processes of the kernel. It is killed, paused and started again as a supervisor would.
 * Refuses to decide anything that membership or worker decide.
 */
import { EventEmitter } from 'node:events'
import { joinCluster, type Membership } from '#engine/cluster/membership.ts'
import { openOwnershipStore } from '#engine/cluster/store.ts'
import { type FromWorker, processMono, type ToWorker, type WorkerData } from '#engine/control.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { readConfig } from '#engine/ops/config.ts'
import { openLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import work from '#engine/worker.ts'
import { type Kernel, Proc } from './kernel.ts'

const grpcPort = 7000
const threadMs = 0.03

/** One end of a MessagePort between two threads. */
class Port extends EventEmitter {
  readonly #kernel: Kernel
  readonly #peer: () => { proc: Proc; port: Port } | undefined
  #isClosed = false

  constructor(kernel: Kernel, peer: () => { proc: Proc; port: Port } | undefined) {
    super()
    this.#kernel = kernel
    this.#peer = peer
  }

  postMessage(message: unknown): void {
    const to = this.#peer()
    if (to && !this.#isClosed)
      this.#kernel.at(to.proc, threadMs, () => to.port.emit('message', structuredClone(message)))
  }

  close(): void {
    this.#isClosed = true
  }
}

interface Thread {
  proc: Proc
  port: Port
  drained: boolean
}

export class EngineNode {
  readonly name: string
  readonly #kernel: Kernel
  readonly #threadCount: number
  main: Proc
  threads: (Thread | undefined)[] = []
  membership: Membership | undefined
  /** Times that this node was declared dead and noticed. */
  buried = 0
  #starts = 0
  #isStopping = false
  #skewMs = 0

  constructor(kernel: Kernel, name: string, threadCount: number) {
    this.#kernel = kernel
    this.name = name
    this.#threadCount = threadCount
    this.main = new Proc(`${name}/0`, name)
    this.main.isDead = true
  }

  get isDead(): boolean {
    return this.main.isDead
  }

  get procs(): Proc[] {
    return [this.main, ...this.threads.flatMap(t => (t ? [t.proc] : []))]
  }

  start(): void {
    if (!this.main.isDead) return
    const k = this.#kernel
    const main = new Proc(`${this.name}/${++this.#starts}`, this.name)
    main.skewMs = this.#skewMs
    this.main = main
    this.#isStopping = false
    this.membership = undefined
    this.threads = Array.from({ length: this.#threadCount }, () => undefined)
    k.note(`${main.name} starts`)
    k.at(main, k.random.between(1, 50), () => void this.#run(main).catch(error => this.#failed(main, error)))
  }

  skew(ms: number): void {
    this.#skewMs = ms
    for (const proc of this.procs) proc.skewMs = ms
  }

  /** SIGKILL. */
  kill(): void {
    this.#kernel.note(`${this.main.name} is killed`)
    for (const proc of this.procs) this.#kernel.kill(proc)
  }

  /** A thread ends by a throw, an exit or its heap limit; the supervisor puts another in its place. */
  killThread(index: number, afterMs: number): void {
    const thread = this.threads[index]
    const { main } = this
    if (!thread || main.isDead) return
    this.#kernel.note(`${thread.proc.name} ends`)
    this.#kernel.kill(thread.proc)
    this.threads[index] = undefined
    this.#kernel.at(main, afterMs, () => this.#thread(index, main))
  }

  pause(): void {
    this.#kernel.note(`${this.main.name} stops`)
    for (const proc of this.procs) this.#kernel.pause(proc)
  }

  resume(): void {
    this.#kernel.note(`${this.main.name} goes on`)
    for (const proc of this.procs) this.#kernel.resume(proc)
  }

  /** SIGTERM: what engine/main.ts does. */
  drain(): void {
    const { main, membership } = this
    if (main.isDead || !membership || this.#isStopping) return
    this.#isStopping = true
    this.#kernel.note(`${main.name} drains`)
    this.#kernel.at(main, 0, () => {
      const end = async () => {
        await membership.drain(5000).catch(() => {})
        for (const thread of this.threads) thread?.port.postMessage({ kind: 'drain' } satisfies ToWorker)
        for (let i = 0; i < 100 && this.threads.some(t => t && !t.drained); i++) {
          await new Promise(go => setTimeout(go, 50))
        }
        for (const thread of this.threads) thread?.port.postMessage({ kind: 'stop' } satisfies ToWorker)
        await new Promise(go => setTimeout(go, 50))
        await membership.close(true).catch(() => {})
        this.kill()
      }
      void end()
    })
    this.#kernel.at(main, 15_000, () => this.kill())
  }

  #failed(main: Proc, error: unknown): void {
    this.#kernel.note(`${main.name} could not start: ${String(error)}`)
    this.kill()
  }

  #env(): Record<string, string> {
    return {
      DATABASE_URL: 'postgresql://sim/sim',
      RATE_LIMIT_SCALE: '1000',
      AI_TITLES: '0',
      // An address of its own, and one that needs no certificates.
      ENGINE_HOST: `127.0.1.${this.name.slice(1)}`,
      ENGINE_PORT: String(grpcPort),
      NODE_ID: this.name,
    }
  }

  async #run(main: Proc): Promise<void> {
    const clock = systemClock
    const log = openLog('info')
    const incarnation = clock.id()
    this.#incarnation = incarnation
    for (let i = 0; i < this.#threadCount; i++) this.#thread(i, main)
    const store = await openOwnershipStore(readConfig(this.#env()), log, clock)
    await store.enter({ incarnation, nodeId: this.name, version: 'sim', isAlone: true })
    const membership = joinCluster({
      store,
      me: incarnation,
      workers: this.#threadCount,
      clock,
      log,
      metrics: openMetrics(),
      own: (worker, shards) => this.#tell(worker, { kind: 'own', shards: shards.map(s => [s.shard, s.epoch]) }),
      disown: (worker, shards) => this.#tell(worker, { kind: 'disown', shards }),
      onRenewed: sentAt => {
        const mono = processMono() - (clock.mono() - sentAt)
        for (let i = 0; i < this.#threadCount; i++) this.#tell(i, { kind: 'renewed', mono })
      },
      onSettled: () => {},
      onBuried: () => {
        this.#kernel.note(`${main.name} was buried`)
        this.buried++
        this.kill()
      },
    })
    this.membership = membership
    for (const [worker, addr] of this.#early.splice(0)) membership.listening(worker, addr)
  }

  #incarnation = ''
  #early: [number, string][] = []

  #tell(worker: number, message: ToWorker): void {
    this.threads[worker]?.port.postMessage(message)
  }

  #thread(index: number, main: Proc): void {
    if (main !== this.main || main.isDead) return
    const k = this.#kernel
    const proc = new Proc(`${main.name}w${index}`, this.name)
    proc.skewMs = main.skewMs
    const mine: Port = new Port(k, () => ({ proc, port: theirs }))
    const theirs: Port = new Port(k, () => ({ proc: main, port: mine }))
    const thread: Thread = { proc, port: mine, drained: false }
    this.threads[index] = thread
    mine.on('message', (message: FromWorker) => this.#heard(index, thread, message))
    const data = {
      port: theirs,
      beat: new SharedArrayBuffer(4),
      worker: index,
      nodeId: this.name,
      incarnation: this.#incarnation,
      env: this.#env(),
    } as unknown as WorkerData
    k.at(proc, k.random.between(2, 60), () => {
      work(data).catch(error => {
        k.note(`${proc.name} failed: ${String((error as Error).stack)}`)
        this.killThread(index, 100)
      })
    })
  }

  #heard(index: number, thread: Thread, message: FromWorker): void {
    if (this.threads[index] !== thread) return
    switch (message.kind) {
      case 'listening':
        if (this.membership) this.membership.listening(index, message.addr)
        else this.#early.push([index, message.addr])
        return
      case 'fenced':
        this.membership?.fenced(message.shards)
        return
      case 'stamped':
        this.membership?.stamped(message.shards)
        return
      case 'busy':
        break
      case 'drained':
        thread.drained = true
        return
      default:
        return
    }
  }
}
