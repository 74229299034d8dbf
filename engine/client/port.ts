/**
 * The engine as a gateway sees it. Behind it: the route map (shard → worker, epoch), one link per worker, held and replayed
 * sends (go-back-n), credits, re-attachment after a lost link or a moved shard. The caller never learns of a move; it sees
 * a late answer. The twin for tests of gateway rooms may implement this without a network.
 */
import type { Label } from '#protos/letter.ts'

export interface CommandIn {
  conversation: string
  /** The authenticated user; written on the label, so it cannot be forged in the body. */
  principal: string
  /** The connection's number within this gateway, ≥ 1; 0 for REST (then each command stands alone, no order is kept). */
  socket: number
  /** A fresh UUID per attempt. */
  attempt: string
  trace: string
  /** The command as JSON bytes (a Command of protos/catalogue.ts). */
  body: Uint8Array
  /** Sends and other durable commands: kept in order per (socket, conversation), held up to HOLD, replayed after a move until answered or the socket closes. */
  durable: boolean
  /** Monotonic ms at which the gateway read it. */
  readAt: number
  /** A send, which its client repeats: it may be refused because the worker is behind. */
  isSend?: boolean
  /** Comes back with the answer. */
  note?: unknown
}

export type Taken = { taken: true } | { taken: false; reason: 'conversation' | 'socket' | 'gateway' }

export interface EngineClient {
  /** Reads the route map, opens links. Resolves when the map was read once; owners may still be missing. */
  start(sink: EngineSink): Promise<void>
  /** Forwards, or holds while no owner is known. Not taken: too many unanswered (limits.ts), or a send for a worker that is behind ('gateway'); nothing was done. Never awaits. */
  command(command: CommandIn): Taken
  /** A command without a socket: resolves with the answer frame's JSON text (ack or error). An error frame UNAVAILABLE after HOLD when it provably was never forwarded; else it waits until known or until `timeoutMs`, then resolves undefined (unknown). */
  request(command: Omit<CommandIn, 'socket' | 'readAt'>, timeoutMs: number): Promise<string | undefined>
  /** Interest in conversations, each from its last known seq. Idempotent; kept up over moves and lost links with the seq that `position` answers then. */
  attach(items: readonly (readonly [conversation: string, lastSeq: number])[]): void
  detach(conversation: string): void
  /** Forgets everything of a closed socket: what was not forwarded is never forwarded. */
  closeSocket(socket: number): void
  /** At least one owner is reachable, or the map is fresh and every shard has one. */
  isReady(): boolean
  /** Living owners are known and none has been reached for a while: clients are better off elsewhere. */
  isCutOff?(): boolean
  /** Sends held or forwarded without an answer, for the metric and for admission. */
  pending(): { letters: number; bytes: number }
  close(): Promise<void>
}

/** Called on the gateway's one thread, in the order of the link. Bodies are views: copy what outlives the call. */
export interface EngineSink {
  /**
   * ack, error, room.joined or resync_required for one command of a socket, with the command's note. Also made by the client
   * itself (UNAVAILABLE after HOLD).
   */
  answer(label: Label, body: Uint8Array, note?: unknown): void
  /** One event of a joining socket's replay; they come in order before its answer. */
  replay(label: Label, body: Uint8Array): void
  fact(label: Label, body: Uint8Array): void
  delta(label: Label, body: Uint8Array): void
  done(label: Label, body: Uint8Array): void
  typing(label: Label, body: Uint8Array): void
  receipt(label: Label, body: Uint8Array): void
  user(label: Label, body: Uint8Array): void
  /** The owner says that the log is at `head`: fetch what is missing. */
  head(conversation: string, head: number): void
  /** Facts to users may have been lost (a link was down): read the directory of connected users again. */
  usersDoubtful(): void
  /** The hub's last delivered seq, asked when a conversation is attached anew. */
  position(conversation: string): number
}
