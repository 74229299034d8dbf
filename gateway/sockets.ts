/**
 * All sockets of this gateway: one sweep for pings, silence, late authentication and ended sessions, counts per address,
 * and the ways to end many at once. It notices its own pauses: a gateway that stood still blames no client.
 * Refuses to know conversations.
 */
import type { WebSocket } from 'ws'
import type { Clock } from '#engine/ops/clock.ts'
import type { CloseCode } from '#protos/errors.ts'
import { heartbeatMs, silentMsMax, sweepEveryMs, sweepLateMs } from '#protos/limits.ts'
import type { Connection } from './connection.ts'
import { Groups } from './groups.ts'
import { QuickLane } from './quick-lane.ts'

export class Sockets {
  readonly open = new Map<number, Connection>()
  #clock: Clock
  #byWs = new WeakMap<WebSocket, Connection>()
  #addresses = new Map<string, number>()
  #sessions = new Groups<string, Connection>()
  #lane = new QuickLane<Connection>((connection, text) => {
    if (!connection.isEnded) connection.frame(text)
  })
  #timer: NodeJS.Timeout
  #sweptAt: number
  #judgeFrom = 0

  constructor(clock: Clock) {
    this.#clock = clock
    this.#sweptAt = clock.mono()
    this.#timer = setInterval(() => this.sweep(), sweepEveryMs).unref()
  }

  countOf(address: string): number {
    return this.#addresses.get(address) ?? 0
  }

  add(connection: Connection): void {
    const { ws } = connection
    this.open.set(connection.id, connection)
    this.#byWs.set(ws, connection)
    this.#addresses.set(connection.address, this.countOf(connection.address) + 1)
    // Spread over the heartbeat, so that sockets that came together are not pinged together.
    connection.nextPingAt = this.#clock.mono() + heartbeatMs * (0.5 + this.#clock.random() / 2)
    this.#lane.add(connection)
    ws.on('message', this.#onMessage)
    ws.on('ping', this.#onControl)
    ws.on('pong', this.#onControl)
    ws.on('close', this.#onClose)
    // ws closes with the right code by itself; without a listener a bad frame would end the process.
    ws.on('error', ignore)
  }

  identified(connection: Connection): void {
    const principal = connection.session.principal!
    this.#sessions.add(principal.sessionId, connection)
  }

  /** It serves no more. Its address is counted until the socket is gone. */
  ended(connection: Connection): void {
    const principal = connection.session.principal
    if (!principal) return
    this.#sessions.delete(principal.sessionId, connection)
  }

  closeSession(sessionId: string, code: CloseCode): void {
    for (const connection of this.#sessions.of(sessionId)) connection.end(code)
  }

  sweep(): void {
    const at = this.#clock.mono()
    const now = this.#clock.now()
    // Frames that came while this process stood still are read after this round; silence is judged again later.
    if (at - this.#sweptAt > sweepLateMs) this.#judgeFrom = at + heartbeatMs
    this.#sweptAt = at
    for (const connection of this.open.values()) {
      if (connection.isEnded) continue
      connection.tick(at, now)
      if (connection.isEnded) continue
      if (at >= this.#judgeFrom && at - connection.lastHeardAt >= silentMsMax) {
        connection.end(connection.unsent() > 0 ? 4420 : 4408)
      } else if (at >= connection.nextPingAt) {
        connection.nextPingAt = at + heartbeatMs
        connection.ws.ping()
      }
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }

  // Shared by all sockets; `this` of the listener is the WebSocket.
  readonly #onMessage = ((sockets: Sockets) =>
    function (this: WebSocket, data: Buffer, isBinary: boolean) {
      const connection = sockets.#byWs.get(this)
      if (!connection || connection.isEnded) return
      if (isBinary) connection.end(1003)
      else connection.frame(data.toString())
    })(this)

  readonly #onControl = ((sockets: Sockets) =>
    function (this: WebSocket) {
      const connection = sockets.#byWs.get(this)
      if (connection && !connection.isEnded) connection.control()
    })(this)

  readonly #onClose = ((sockets: Sockets) =>
    function (this: WebSocket, code: number) {
      const connection = sockets.#byWs.get(this)
      if (!connection || !sockets.open.delete(connection.id)) return
      const left = sockets.countOf(connection.address) - 1
      if (left > 0) sockets.#addresses.set(connection.address, left)
      else sockets.#addresses.delete(connection.address)
      connection.closed(code)
    })(this)
}

const ignore = () => {}
