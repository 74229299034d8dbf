/**
 * One gateway process of the simulated cluster: the composition of gateway/main.ts around production's hub, sockets and
 * engine client; its WebSockets end in the simulated network. Refuses to hold a rule of its own.
 */
import { EventEmitter } from 'node:events'
import type { WebSocket } from 'ws'
import { createEngineClient } from '#engine/client/engine.ts'
import type { EngineClient } from '#engine/client/port.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { openLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { createMemoryStore } from '#engine/soft/memory.ts'
import { openOrm } from '#engine/storage/orm.ts'
import { readRoutes, suspectAddress, watchRouteMap } from '#engine/storage/route-map.ts'
import { Connection } from '#gateway/connection.ts'
import { drainSockets } from '#gateway/drain.ts'
import { Hub } from '#gateway/hub.ts'
import { Flusher } from '#gateway/outbox.ts'
import { Positions } from '#gateway/positions.ts'
import { Presence } from '#gateway/presence.ts'
import { createReads, type Reads } from '#gateway/reads.ts'
import { scaledRules } from '#gateway/session.ts'
import { Sockets } from '#gateway/sockets.ts'
import { presenceTtlMs, socketsPerUserMax } from '#protos/limits.ts'
import { type Kernel, Proc } from './kernel.ts'
import type { End } from './network.ts'

export type Up = { kind: 'text'; text: string } | { kind: 'pong' } | { kind: 'close'; code: number }
export type Down =
  | { kind: 'open' }
  | { kind: 'bytes'; bytes: Buffer }
  | { kind: 'ping' }
  | { kind: 'close'; code: number }

/** The server's side of a WebSocket, as far as gateway/ uses it. */
class ServerWs extends EventEmitter {
  readyState = 1
  readonly _socket: { write(bytes: Buffer): boolean; readonly writableLength: number }
  readonly #end: End<Down, Up>
  #unsent = 0

  constructor(end: End<Down, Up>) {
    super()
    this.#end = end
    const isHeld = () => end.unsent > 0
    const wrote = (bytes: number) => {
      this.#unsent = isHeld() ? this.#unsent + bytes : 0
    }
    const held = () => (isHeld() ? this.#unsent : 0)
    this._socket = {
      write: bytes => {
        end.send({ kind: 'bytes', bytes: Buffer.from(bytes) })
        wrote(bytes.length)
        return true
      },
      get writableLength() {
        return held()
      },
    }
    end.listen({
      message: m => {
        if (this.readyState === 3) return
        if (m.kind === 'text') this.emit('message', Buffer.from(m.text), false)
        else if (m.kind === 'pong') this.emit('pong')
        else this.#over(m.code)
      },
      ended: () => this.#over(1006),
    })
  }

  ping(): void {
    if (this.readyState === 1) this.#end.send({ kind: 'ping' })
  }

  close(code: number): void {
    if (this.readyState !== 1) return
    this.readyState = 2
    this.#end.send({ kind: 'close', code })
    setTimeout(() => this.#over(code), 10_000)
  }

  terminate(): void {
    this.#over(1006)
  }

  #over(code: number): void {
    if (this.readyState === 3) return
    this.readyState = 3
    this.#end.close()
    this.emit('close', code)
  }
}

interface Running {
  proc: Proc
  engine: EngineClient
  reads: Reads
  sockets: Sockets
  accept(end: End<Down, Up>, token: string): void
}

export class GatewayNode {
  readonly name: string
  readonly #kernel: Kernel
  proc: Proc
  running: Running | undefined
  #starts = 0
  #skewMs = 0

  constructor(kernel: Kernel, name: string) {
    this.#kernel = kernel
    this.name = name
    this.proc = new Proc(`${name}/0`, name)
    this.proc.isDead = true
  }

  start(): void {
    if (!this.proc.isDead) return
    const k = this.#kernel
    const proc = new Proc(`${this.name}/${++this.#starts}`, this.name)
    proc.skewMs = this.#skewMs
    this.proc = proc
    this.running = undefined
    k.note(`${proc.name} starts`)
    k.at(proc, k.random.between(1, 50), () => {
      this.#run(proc).catch(error => {
        k.note(`${proc.name} could not start: ${String((error as Error).stack)}`)
        this.kill()
        k.at(k.world, 500, () => this.start())
      })
    })
  }

  skew(ms: number): void {
    this.#skewMs = ms
    this.proc.skewMs = ms
  }

  kill(): void {
    this.#kernel.note(`${this.proc.name} is killed`)
    this.#kernel.kill(this.proc)
    this.running = undefined
  }

  /** SIGTERM: what gateway/main.ts does. */
  drain(): void {
    const { running, proc } = this
    if (!running || proc.isDead) return
    this.#kernel.note(`${proc.name} drains`)
    this.#kernel.at(proc, 0, () => {
      void drainSockets(running.sockets.open, 1000, systemClock).finally(() => this.kill())
    })
    this.#kernel.at(proc, 10_000, () => this.kill())
  }

  async #run(proc: Proc): Promise<void> {
    const clock = systemClock
    const log = openLog('info')
    const metrics = openMetrics()
    const nodeId = `${this.name}-${clock.id()}`
    const database = await openOrm({ url: '', name: 'gateway', poolMax: 4, waitMs: 10_000, log })
    const positions = new Positions(clock.mono)
    const reads = createReads(database.pool as never, positions)
    const store = createMemoryStore(clock, { ttlMs: presenceTtlMs, socketsMax: socketsPerUserMax })
    const engine = createEngineClient({
      clock,
      log,
      metrics,
      nodeId,
      readRoutes: () => readRoutes(database.pool, database.named),
      suspect: addr => suspectAddress(database.pool, addr, nodeId, database.named),
      listen: changed => watchRouteMap(() => database.connect(), log, changed),
    })
    const sockets = new Sockets(clock)
    const hub = new Hub({
      ...{ clock, log, metrics, reads, positions, engine },
      answered: (label, body, note) => sockets.open.get(label.socket)?.answered(label, body, note),
    })
    const presence = new Presence({ clock, log, store, reads, nodeId, evict: id => sockets.open.get(id)?.end(4409) })
    const verifyToken = async (token: string) => {
      const [userId, sessionId] = token.split(' ') as [string, string]
      return { userId, sessionId, sessionExpiresAt: Number.MAX_SAFE_INTEGER }
    }
    const deps = {
      ...{
        clock,
        log,
        metrics,
        engine,
        hub,
        presence,
        positions,
        flusher: new Flusher(metrics),
        rules: scaledRules(1000),
      },
      verifyToken,
      takeSend: () => 0,
      isRevoked: () => false,
      identified: (connection: Connection) => sockets.identified(connection),
      ended: (connection: Connection) => sockets.ended(connection),
    }
    await engine.start(hub)
    setInterval(() => {
      if (engine.isCutOff?.()) for (const connection of sockets.open.values()) connection.end(1012)
    }, 500)
    let last = 0
    const accept = (end: End<Down, Up>, token: string) => {
      end.send({ kind: 'open' })
      const ws = new ServerWs(end) as unknown as WebSocket
      const given = { id: ++last, ws, address: 'sim', convId: undefined, credential: 'bearer' as const }
      const connection = new Connection(deps, given)
      sockets.add(connection)
      void verifyToken(token).then(access => connection.judged(access))
    }
    if (!proc.isDead) this.running = { proc, engine, reads, sockets, accept }
  }
}
