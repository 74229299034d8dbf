/**
 * What accounts and REST need of Postgres: parameterised queries and, where two statements must agree, one connection.
 * A pg.Pool fits it. Refuses to know a table.
 */

export interface Sql {
  // biome-ignore lint/suspicious/noExplicitAny: rows are typed by the statement that asks for them
  query<R = any>(text: string, values?: unknown[]): Promise<{ rows: R[]; rowCount: number | null }>
}

export interface Db extends Sql {
  connect(): Promise<Sql & { release(destroy?: boolean): void }>
}

/** Runs `work` in one transaction; a connection that failed is thrown away, never reused. */
export async function transaction<T>(db: Db, work: (sql: Sql) => Promise<T>): Promise<T> {
  const connection = await db.connect()
  let isClean = false
  try {
    await connection.query('begin')
    const result = await work(connection)
    await connection.query('commit')
    isClean = true
    return result
  } finally {
    connection.release(!isClean)
  }
}

/** Whether an error says that the database cannot be reached or takes no work now, as opposed to refusing this statement. */
export function isDatabaseAway(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  if (typeof code === 'string') {
    if (/^(08|53|57P|25006)/.test(code)) return true
    if (/^(ECONN|EPIPE|ETIMEDOUT|ENOENT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN)/.test(code)) return true
  }
  const message = error instanceof Error ? error.message : ''
  return /connection (terminated|timeout)|query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|not queryable/i.test(
    message,
  )
}
