/**
 * What tools of further servers looked like when they were accepted, and when they were last seen. The tools of a server that
 * was never seen before are accepted as they are; whatever changes or comes later waits for the operator.
 */
import type { Pool } from 'pg'

export interface PinnedTool {
  server: string
  tool: string
  /** Hex. */
  seenHash: string
  seenSpec: string
  /** Of what is accepted; null: nothing is. */
  hash: string | null
  spec: string | null
}

export interface ToolPins {
  /** Notes what a server lists now. */
  see(server: string, tools: readonly { tool: string; hash: string; spec: string }[]): Promise<void>
  /** Accepted hashes, hex, by tool. */
  accepted(server: string): Promise<Map<string, string>>
  all(): Promise<PinnedTool[]>
  /** Accepts what was seen last under a hash that begins so. Answers the tools. */
  accept(server: string, hashBeginning: string): Promise<string[]>
}

export function openToolPins(pool: Pick<Pool, 'query' | 'connect'>): ToolPins {
  return {
    async see(server, tools) {
      if (tools.length === 0) return
      const connection = await pool.connect()
      let isClean = false
      try {
        await connection.query('begin')
        // Engines that start together see a new server at the same time; one of them is the first.
        await connection.query(`select pg_advisory_xact_lock(hashtextextended('tool_pin ' || $1, 0))`, [server])
        await connection.query(
          `with known as (select exists (select 1 from tool_pin where server = $1) as is_known)
           insert into tool_pin (server, tool, seen_hash, seen_spec, hash, spec, accepted_at)
           select $1, t.tool, decode(t.hash, 'hex'), t.spec, case when not is_known then decode(t.hash, 'hex') end,
                  case when not is_known then t.spec end, case when not is_known then clock_timestamp() end
             from known, unnest($2::text[], $3::text[], $4::text[]) as t(tool, hash, spec)
           on conflict (server, tool) do update
              set seen_hash = excluded.seen_hash, seen_spec = excluded.seen_spec, seen_at = clock_timestamp()`,
          [server, tools.map(t => t.tool), tools.map(t => t.hash), tools.map(t => t.spec)],
        )
        await connection.query('commit')
        isClean = true
      } finally {
        connection.release(!isClean)
      }
    },

    async accepted(server) {
      const { rows } = await pool.query<{ tool: string; hash: string }>(
        `select tool, encode(hash, 'hex') as hash from tool_pin where server = $1 and hash is not null`,
        [server],
      )
      return new Map(rows.map(row => [row.tool, row.hash]))
    },

    async all() {
      const { rows } = await pool.query<PinnedTool>(
        `select server, tool, encode(hash, 'hex') as hash, spec, encode(seen_hash, 'hex') as "seenHash", seen_spec as "seenSpec"
           from tool_pin order by server, tool`,
      )
      return rows
    },

    async accept(server, hashBeginning) {
      const { rows } = await pool.query<{ tool: string }>(
        `update tool_pin set hash = seen_hash, spec = seen_spec, accepted_at = clock_timestamp()
          where server = $1 and starts_with(encode(seen_hash, 'hex'), $2) and hash is distinct from seen_hash
         returning tool`,
        [server, hashBeginning],
      )
      return rows.map(row => row.tool)
    },
  }
}
