/** What every soft store must do; run on memory and on Redis. `wait` lets real time pass. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { PresenceState, SoftOptions, SoftStore } from './store.ts'

export interface Rig {
  open(options: SoftOptions): Promise<SoftStore>
  wait(ms: number): Promise<void>
}

export function softContract(name: string, rig: Rig): void {
  const options: SoftOptions = { ttlMs: 400, socketsMax: 3 }
  const withStore = async (work: (store: SoftStore) => Promise<void>, given = options) => {
    const store = await rig.open(given)
    try {
      await work(store)
    } finally {
      await store.close()
    }
  }
  const statusOf = async (store: SoftStore, userId: string) => (await store.presence([userId])).get(userId)?.status
  async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
    for (let i = 0; i < 100; i++) {
      if (await holds()) return
      await rig.wait(10)
    }
    assert.fail('it did not become so in time')
  }

  test(`P2 ${name}: online with the first socket, offline with a last visit when the last one leaves`, () =>
    withStore(async store => {
      const user = randomUUID()
      const told: PresenceState['status'][] = []
      store.onPresence((id, state) => id === user && told.push(state.status))
      await store.arrive(user, 'g 1')
      await store.arrive(user, 'g 2')
      assert.equal(await statusOf(store, user), 'online')
      await store.leave(user, 'g 1')
      assert.equal(await statusOf(store, user), 'online')
      await store.leave(user, 'g 2')
      const state = (await store.presence([user])).get(user)!
      assert.equal(state.status, 'offline')
      assert.ok(state.lastSeen! > 0)
      await until(() => told.length === 2)
      assert.deepEqual(told, ['online', 'offline'])
    }))

  test(`P2 ${name}: a socket that is silent for its time to live counts no more, a beat keeps it`, () =>
    withStore(async store => {
      const [quiet, lively] = [randomUUID(), randomUUID()]
      await store.arrive(quiet, 'g 1')
      await store.arrive(lively, 'g 2')
      for (let i = 0; i < 4; i++) {
        await rig.wait(150)
        await store.beat([[lively, 'g 2']])
      }
      assert.equal(await statusOf(store, quiet), 'offline')
      assert.equal(await statusOf(store, lively), 'online')
    }))

  test(`P2 ${name}: a beat does not bring back a socket that left`, () =>
    withStore(async store => {
      const [stays, leaves] = [randomUUID(), randomUUID()]
      await store.arrive(stays, 'g 1')
      await store.arrive(leaves, 'g 2')
      const sockets = [[stays, 'g 1'] as const, [leaves, 'g 2'] as const]
      await store.leave(leaves, 'g 2')
      await store.beat(sockets)
      assert.equal(await statusOf(store, stays), 'online')
      assert.equal(await statusOf(store, leaves), 'offline')
    }))

  test(`H15 ${name}: beyond the most sockets of a user the oldest are told to go`, () =>
    withStore(async store => {
      const user = randomUUID()
      const evicted: string[] = []
      store.onEvicted(socket => socket.startsWith(user) && evicted.push(socket))
      for (let i = 1; i <= 5; i++) await store.arrive(user, `${user} ${i}`)
      await until(() => evicted.length === 2)
      assert.deepEqual(evicted, [`${user} 1`, `${user} 2`])
      await store.leave(user, `${user} 1`)
      assert.equal(await statusOf(store, user), 'online')
    }))

  test(`P1 ${name}: every id that is asked for is in the answer`, () =>
    withStore(async store => {
      const ids = Array.from({ length: 30 }, () => randomUUID())
      await store.arrive(ids[3]!, 'g 1')
      const found = await store.presence(ids)
      assert.deepEqual([...found.keys()], ids)
      assert.equal([...found.values()].filter(s => s.status === 'online').length, 1)
    }))
}
