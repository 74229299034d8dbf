/** A database of a test file's own, open as its owner and as a gateway, with people in it. Refuses to know what is tested. */
import { randomBytes } from 'node:crypto'
import { silentLog } from '#engine/ops/log.ts'
import { type Database, openOrm } from '#engine/storage/orm.ts'
import { testDatabase } from './postgres.ts'

export interface TestRoles {
  admin: Database
  gateway: Database
  /** Makes a person whose username begins so; answers the id. */
  user(username: string): Promise<string>
  close(): Promise<void>
}

export async function openRoles(): Promise<TestRoles> {
  const database = await testDatabase()
  const admin = await openOrm({ url: database.url, name: 'test-admin', log: silentLog })
  const gateway = await openOrm({ url: database.url, role: 'parley_gateway', name: 'test-gateway', log: silentLog })
  return {
    admin,
    gateway,
    async user(username) {
      const name = `${username}_${randomBytes(4).toString('hex')}`
      const insert = 'insert into users (username) values ($1) returning id'
      const { rows } = await gateway.pool.query<{ id: string }>(insert, [name])
      return rows[0]!.id
    },
    async close() {
      await gateway.close()
      await admin.close()
      await database.drop()
    },
  }
}
