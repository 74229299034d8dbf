/**
 * Raw SQL with types that suit us: bigint as number, JSON as the text it is, times as text. Used where a unit of work
 * would cost more than the statement. Refuses to build SQL: statements are constants.
 */
import type { CustomTypesConfig, QueryResultRow } from 'pg'

/** Anything that runs a statement: a pool, a client, a client inside a transaction. */
export interface Queryable {
  query<R extends QueryResultRow>(config: {
    text: string
    values?: unknown[]
    name?: string
    types?: CustomTypesConfig
  }): Promise<{ rows: R[]; rowCount: number | null }>
}

const int8 = 20
const numeric = 1700
const asText = (value: string) => value
const asArray = (value: string) => (value === '{}' ? [] : value.slice(1, -1).split(','))
const parsers = new Map<number, (text: string) => unknown>([
  [16, text => text === 't'],
  [17, text => Buffer.from(text.slice(2), 'hex')],
  [int8, Number],
  [21, Number],
  [23, Number],
  [700, Number],
  [701, Number],
  [numeric, Number],
  [1016, text => asArray(text).map(Number)],
  [1007, text => asArray(text).map(Number)],
  [2951, asArray],
  [1009, text => asArray(text).map(item => item.replace(/^"(.*)"$/, '$1'))],
])

export const rawTypes: CustomTypesConfig = {
  getTypeParser: ((oid: number) => parsers.get(oid) ?? asText) as CustomTypesConfig['getTypeParser'],
}

/** A statement without a name is parsed by the server each time; the reads below run often enough to be worth one. */
export interface Statement {
  name: string
  text: string
}

/** Rows of one statement. `named` must be false behind a pooler that hands each transaction another connection. */
export async function rows<R extends QueryResultRow>(
  at: Queryable,
  statement: Statement,
  values: unknown[],
  named = true,
): Promise<R[]> {
  const config = { text: statement.text, values, types: rawTypes }
  return (await at.query<R>(named ? { ...config, name: statement.name } : config)).rows
}
