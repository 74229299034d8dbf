/**
 * The database server as its clients meet it: sessions, statements one after another, and what can go wrong with each:
 * lost before or after it ran, held and run late, answered to nobody, refused, warned about; and the whole server gone.
 * Refuses to know what a statement means.
 */
import type { Kernel, Proc } from './kernel.ts'
import type { End } from './network.ts'
import { PostgresModel, SqlError } from './postgres-model.ts'
import type { Row } from './postgres-tables.ts'

export interface Ask {
  id: number
  name: string
  text: string
  values: readonly unknown[]
}

export type Reply =
  | { kind: 'ready' }
  | { kind: 'rows'; id: number; rows: Row[] }
  | { kind: 'error'; id: number; error: Error }
  | { kind: 'notice'; code: string }
  | { kind: 'notification' }

export type StatementFault = 'before' | 'after' | 'held' | 'silent' | 'deadlock' | 'full' | 'cancelled' | 'warned'

/** The next statements whose name begins so meet this. */
export interface Armed {
  prefix: string
  fault: StatementFault
  left: number
  ms: number
}

interface Session {
  end: End<Reply, Ask>
  isListening: boolean
  statementTimeoutMs: number
  /** When it is free for the next statement. */
  freeAt: number
  isGone: boolean
}

/** Keep-alives of both ends find out within this. */
const silentMs = 15_000

export class PostgresServer {
  readonly proc: Proc
  readonly model = new PostgresModel()
  readonly armed: Armed[] = []
  /** How often each fault has struck. */
  readonly struck = new Map<string, number>()
  isUp = true
  /** Called after each statement that may have written. */
  onCommit: () => void = () => {}
  readonly #kernel: Kernel
  readonly #sessions = new Set<Session>()

  constructor(kernel: Kernel, proc: Proc) {
    this.#kernel = kernel
    this.proc = proc
  }

  /** A connection came; the server's end of it. */
  accept(end: End<Reply, Ask>, statementTimeoutMs: number): void {
    const session: Session = { end, isListening: false, statementTimeoutMs, freeAt: 0, isGone: false }
    this.#sessions.add(session)
    end.listen({
      message: ask => this.#take(session, ask),
      ended: () => this.#drop(session),
    })
    end.send({ kind: 'ready' })
  }

  /** All connections break; what has not run never runs. */
  crash(): void {
    this.isUp = false
    for (const session of this.#sessions) this.#drop(session)
  }

  start(): void {
    this.isUp = true
  }

  /** One backend is killed. */
  killOne(): void {
    const all = [...this.#sessions]
    if (all.length > 0) this.#drop(this.#kernel.random.pick(all))
  }

  #drop(session: Session): void {
    if (session.isGone) return
    session.isGone = true
    this.#sessions.delete(session)
    session.end.close()
  }

  #take(session: Session, ask: Ask): void {
    if (session.isGone) return
    const { random, now } = this.#kernel
    const fault = this.#fault(ask)
    let wait = Math.max(0, session.freeAt - now) + random.between(0.05, 0.8)
    let isTimedOut = false
    if (fault?.fault === 'held') {
      isTimedOut = session.statementTimeoutMs > 0 && fault.ms > session.statementTimeoutMs
      wait += isTimedOut ? session.statementTimeoutMs : fault.ms
    }
    session.freeAt = now + wait
    this.#kernel.at(this.proc, wait, () => {
      if (!this.isUp) return
      // A backend whose client is gone still runs what it has taken; a killed one does not.
      if (session.isGone && fault?.fault !== 'held') return
      if (fault?.fault === 'before') return this.#drop(session)
      if (isTimedOut) return this.#reply(session, { kind: 'error', id: ask.id, error: new SqlError('57014') })
      const code = { deadlock: '40P01', full: '53100', cancelled: '57014' }[fault?.fault as 'full']
      if (code) return this.#reply(session, { kind: 'error', id: ask.id, error: new SqlError(code) })
      const reply = this.#run(session, ask)
      if (fault?.fault === 'after') return this.#drop(session)
      // Nobody hears the answer; in the end the connection is given up for dead.
      if (fault?.fault === 'silent') return void this.#kernel.at(this.proc, silentMs, () => this.#drop(session))
      if (fault?.fault === 'warned') this.#reply(session, { kind: 'notice', code: '01000' })
      this.#reply(session, reply)
    })
  }

  #run(session: Session, ask: Ask): Reply {
    const { id, name, text, values } = ask
    this.#kernel.events++
    if (text.startsWith('listen ')) session.isListening = true
    if (/^(listen |set |select pg_notify|select 1$)/.test(text)) {
      if (text.startsWith('set statement_timeout = 0')) session.statementTimeoutMs = 0
      if (text.startsWith('select pg_notify')) this.#notify()
      return { kind: 'rows', id, rows: [] }
    }
    try {
      const rows = this.model.execute(name, text, values, this.#wall())
      if (this.model.hasMoved) this.#notify()
      if (name.startsWith('parley_commit_')) this.onCommit()
      return { kind: 'rows', id, rows }
    } catch (error) {
      if (error instanceof SqlError) return { kind: 'error', id, error }
      throw error
    }
  }

  #wall(): number {
    return this.#kernel.now + this.proc.skewMs + 1_767_225_600_000
  }

  #notify(): void {
    for (const session of this.#sessions) if (session.isListening) this.#reply(session, { kind: 'notification' })
  }

  #reply(session: Session, reply: Reply): void {
    if (!session.isGone) session.end.send(reply)
  }

  #fault(ask: Ask): Armed | undefined {
    const at = this.armed.findIndex(a => ask.name.startsWith(a.prefix))
    const armed = this.armed[at]
    if (!armed) return undefined
    if (--armed.left <= 0) this.armed.splice(at, 1)
    this.struck.set(armed.fault, (this.struck.get(armed.fault) ?? 0) + 1)
    this.#kernel.note(`postgres: ${ask.name} meets "${armed.fault}"`)
    return armed
  }
}
