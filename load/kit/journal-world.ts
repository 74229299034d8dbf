/** The two stores that a journal is tested on: a Postgres database with claimed shards, and the in-memory twin. */
import { randomUUID } from 'node:crypto'
import { silentLog } from '#engine/ops/log.ts'
import { MemoryDatabase, MemoryLog } from '#engine/storage/log-memory.ts'
import { PostgresLog } from '#engine/storage/log-postgres.ts'
import { claim, insertNode } from '#engine/storage/ownership.ts'
import { type Connected, openPool } from '#engine/storage/pool.ts'
import { rows } from '#engine/storage/query.ts'
import type { World } from './journal-bench.ts'

/** `admin`: a connection without a role, on the same database. `writer` names the writer's connection in pg_stat_activity. */
export async function postgresWorld(admin: Connected): Promise<World & { writer: string; engine: Connected }> {
  const writer = `writer-${randomUUID()}`
  const engine = await openPool({ url: admin.url, role: 'parley_engine', name: writer, poolMax: 2, log: silentLog })
  const incarnation = randomUUID()
  await insertNode(engine.pool, { incarnation, nodeId: incarnation, addrs: [''], version: 'test' })
  const store = new PostgresLog({
    connect: extra => engine.connect(extra),
    incarnation,
    worker: 0,
    named: true,
    log: silentLog,
  })
  return {
    store,
    writer,
    engine,
    log: conversation =>
      rows(
        admin.pool,
        {
          name: 'test_log',
          text: 'select seq, epoch, client_id as "clientId" from event where conversation_id = $1 order by seq',
        },
        [conversation],
      ),
    own: async shards => {
      await admin.pool.query('update shard set owner = null where shard_id = any($1)', [shards])
      const seen = await rows<{ shard: number; epoch: number }>(
        admin.pool,
        { name: 'test_epochs', text: 'select shard_id as shard, epoch from shard where shard_id = any($1)' },
        [shards],
      )
      return new Map((await claim(engine.pool, seen, incarnation, 0)).map(s => [s.shard, s.epoch]))
    },
    steal: async shard => {
      await admin.pool.query(
        `update shard set owner = uuidv7(), worker = 0, epoch = nextval('owner_epoch') where shard_id = $1`,
        [shard],
      )
    },
    close: () => engine.close(),
  }
}

export function memoryWorld(): World & { database: MemoryDatabase } {
  const database = new MemoryDatabase()
  return {
    database,
    store: new MemoryLog(database),
    log: async conversation => database.events.get(conversation) ?? [],
    own: async shards => new Map(shards.map(shard => [shard, database.move(shard)])),
    steal: async shard => void database.move(shard),
    close: async () => {},
  }
}
