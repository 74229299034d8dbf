/**
 * The log on Postgres, through one connection that is this worker's only writer. Owns the connection's life: a statement
 * without an answer in time, a warning about the standby or a lost socket end it, and the next is a fresh one.
 */
import type { Client, ClientConfig } from 'pg'
import type { Contribution } from '#engine/actor/ports.ts'
import type { Log } from '#engine/ops/log.ts'
import { commitTimerMs } from '#protos/limits.ts'
import { classify, type StatementError } from './classify.ts'
import { commitStatement } from './commit-statement.ts'
import type { ClientKey, CommitResult, LogStore } from './log-store.ts'
import { type ShardEpoch, stamp } from './ownership.ts'
import { rawTypes, rows, type Statement } from './query.ts'

export interface PostgresLogOptions {
  /** A fresh connection; Database.connect. */
  connect(extra?: ClientConfig): Promise<Client>
  incarnation: string
  worker: number
  /** Whether statements may have names (false behind a transaction pooler). */
  named: boolean
  log: Log
}

/** Below the client's own timer: a stamp that nobody waits for any more must not move an epoch later. */
const doubtfulStatementMs = commitTimerMs - 500

const syncSql = `select set_config('synchronous_commit', 'on', false)
                  where current_setting('synchronous_commit') in ('off', 'local')`

const sql = {
  positions: {
    name: 'log_positions',
    text: `select w.i::int as i from unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[]) as w(i, conversation, seq, epoch)
             join event e on e.conversation_id = w.conversation and e.seq = w.seq and e.epoch = w.epoch`,
  },
  segments: {
    name: 'log_segments',
    text: `select w.i::int as i from unnest($1::int[], $2::uuid[], $3::bigint[]) as w(i, run, at)
             join ai_segment s on s.run_id = w.run and s."offset" = w.at`,
  },
  clients: {
    name: 'log_clients',
    text: `select w.i::int as i from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[]) as w(i, conversation, sender, client)
             join event e on e.sender_id = w.sender and e.conversation_id = w.conversation and e.client_id = w.client`,
  },
} as const satisfies Record<string, Statement>

export class PostgresLog implements LogStore {
  onLost = (): void => {}
  readonly #options: PostgresLogOptions
  #client: Client | undefined
  /** A warning 01000 came with the statement in flight. */
  #warned = false
  /** The connection still has the short server-side timer of a recovery. */
  #doubtful = false

  constructor(options: PostgresLogOptions) {
    this.#options = options
  }

  get connected(): boolean {
    return this.#client !== undefined
  }

  async connect(doubtful: boolean): Promise<void> {
    if (this.#client) return
    const extra = doubtful && this.#options.named ? { statement_timeout: doubtfulStatementMs } : {}
    const client = await this.#options.connect(extra)
    client.on('notice', notice => {
      if (notice.code === '01000') this.#warned = true
    })
    const lost = () => {
      if (this.#client === client) this.discard()
    }
    client.on('error', lost)
    client.on('end', lost)
    await this.#insistOnDisk(client)
    this.#warned = false
    this.#doubtful = 'statement_timeout' in extra
    this.#client = client
  }

  /** An ack says that it is on disk, whatever the server or the role is set to. */
  async #insistOnDisk(client: Client): Promise<void> {
    try {
      const { rowCount } = await this.#timed(client.query(syncSql))
      if (rowCount) this.#options.log.warn('the database was set to commit before it is on disk; not so for messages')
    } catch (error) {
      client.end().catch(() => {})
      throw error
    }
  }

  discard(): void {
    const client = this.#client
    if (!client) return
    this.#client = undefined
    // Not end(): that would wait for the statement in flight, which may be the very one that hangs.
    ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
    this.onLost()
  }

  async commit(contributions: readonly Contribution[]): Promise<CommitResult> {
    const client = this.#client
    if (!client) return { kind: 'retry' }
    const { name, text, values } = commitStatement(contributions)
    const config = { text, values, types: rawTypes }
    this.#warned = false
    try {
      const answer = await this.#timed(
        client.query<{ shard_id: number }>(this.#options.named ? { ...config, name } : config),
      )
      if (!this.#warned) return { kind: 'done', shards: new Set(answer.rows.map(row => row.shard_id)) }
      this.discard()
      return { kind: 'unknown' }
    } catch (error) {
      const result = classify(error as StatementError, this.#warned)
      const { code } = error as StatementError
      if (result.kind === 'unknown') this.discard()
      if (result.kind === 'full') {
        this.#options.log.error('a commit was refused by the database', { err: error })
        // A server that became read-only is a demoted primary: ask for the address again.
        if (code === '25006') this.discard()
      }
      if (result.kind === 'data') this.#options.log.warn('rows were refused by the database', { code: code ?? '' })
      return result
    }
  }

  async stamp(held: readonly ShardEpoch[]): Promise<ShardEpoch[]> {
    const ordered = [...held].sort((a, b) => a.shard - b.shard)
    return this.#ask(client => stamp(client, ordered, this.#options, this.#options.named))
  }

  async areStored(contributions: readonly Contribution[]): Promise<boolean[]> {
    const stored = contributions.map(() => false)
    const at: [number[], string[], number[], number[]] = [[], [], [], []]
    const pieces: [number[], string[], number[]] = [[], [], []]
    contributions.forEach((c, i) => {
      const first = c.events[0]
      const segment = c.segments[0]
      if (first) {
        at[0].push(i)
        at[1].push(c.conversation)
        at[2].push(first.seq)
        at[3].push(c.epoch)
      } else if (segment) {
        pieces[0].push(i)
        pieces[1].push(segment.runId)
        pieces[2].push(segment.offset)
      }
    })
    await this.#ask(async client => {
      const { named } = this.#options
      const found = at[0].length > 0 ? await rows<{ i: number }>(client, sql.positions, at, named) : []
      const more = pieces[0].length > 0 ? await rows<{ i: number }>(client, sql.segments, pieces, named) : []
      for (const { i } of [...found, ...more]) stored[i] = true
      if (this.#doubtful) {
        await client.query('set statement_timeout = 0')
        this.#doubtful = false
      }
    })
    return stored
  }

  async findClients(keys: readonly ClientKey[]): Promise<ClientKey[]> {
    const values = [
      keys.map((_, i) => i),
      keys.map(k => k.conversation),
      keys.map(k => k.senderId),
      keys.map(k => k.clientId),
    ]
    const found = await this.#ask(client => rows<{ i: number }>(client, sql.clients, values, this.#options.named))
    return found.map(({ i }) => keys[i]!)
  }

  async close(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    await client?.end().catch(() => {})
  }

  /** A question on the writer's connection, under the same timer as a commit. Any failure gives the connection up. */
  async #ask<T>(question: (client: Client) => Promise<T>): Promise<T> {
    const client = this.#client
    if (!client) throw new Error('no connection to the database')
    try {
      return await this.#timed(question(client))
    } catch (error) {
      if (this.#client === client) this.discard()
      throw error
    }
  }

  async #timed<T>(work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer within the commit timer')), commitTimerMs)
    })
    try {
      return await Promise.race([work, late])
    } finally {
      clearTimeout(timer)
      // When the timer won, the statement itself fails later, with the socket.
      work.catch(() => {})
    }
  }
}
