/** What watchers are told, by a store whose answers the test gives when it likes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import type { PresenceState, SoftStore } from '#engine/soft/store.ts'
import { type Framed, payloadOf } from './framing.ts'
import type { Peer } from './peer.ts'
import { Presence } from './presence.ts'
import type { Reads } from './reads.ts'

const stateOf = (status: PresenceState['status']): PresenceState => ({ status, lastSeen: undefined })

function makeWorld() {
  const asked: ((states: Record<string, PresenceState['status']>) => Promise<unknown>)[] = []
  let changed: (userId: string, state: PresenceState) => void = () => {}
  let known: () => void = () => {}
  const store: SoftStore = {
    kind: 'redis',
    arrive: async () => {},
    beat: async () => {},
    leave: async () => {},
    presence: () =>
      new Promise(resolve =>
        asked.push(states => {
          resolve(new Map(Object.entries(states).map(([id, status]) => [id, stateOf(status)])))
          return setImmediate()
        }),
      ),
    onPresence: listener => void (changed = listener),
    onEvicted: () => {},
    onKnown: listener => void (known = listener),
    spend: async () => undefined,
    gateways: 1,
    close: async () => {},
  }
  const reads = { sharing: async (_userId: string, wanted: readonly string[]) => new Set(wanted) }
  const clock = systemClock
  const presence = new Presence({
    clock,
    log: silentLog,
    store,
    reads: reads as unknown as Reads,
    nodeId: 'g',
    evict() {},
  })
  const told: string[] = []
  const outbox = {
    latest(_key: string, frame: Framed) {
      const { userId, status } = JSON.parse(payloadOf(frame).toString()) as { userId: string; status: string }
      told.push(`${userId} ${status}`)
    },
  }
  const peer = { id: 1, userId: 'eve', outbox } as unknown as Peer
  return {
    presence,
    told,
    asked,
    known: () => known(),
    heard: (userId: string, status: PresenceState['status']) => changed(userId, stateOf(status)),
    async watch(...ids: string[]) {
      presence.watch(peer, ids)
      await setImmediate()
    },
  }
}

test('P1 each id of a new set is answered, though a change to unknown was heard meanwhile', async () => {
  const world = makeWorld()
  await world.watch('ann', 'bob')
  world.heard('ann', 'unknown')
  await world.asked[0]!({ ann: 'offline', bob: 'online' })
  assert.deepEqual(world.told, ['ann unknown', 'bob online'])
  world.presence.close()
})

test('P5 when it is known again those who were called unknown are told, and nobody twice', async () => {
  const world = makeWorld()
  await world.watch('ann', 'bob', 'cid')
  await world.asked[0]!({ ann: 'unknown', bob: 'online', cid: 'unknown' })
  world.told.length = 0
  world.known()
  await world.asked[1]!({ ann: 'offline', bob: 'online', cid: 'online' })
  assert.deepEqual(world.told, ['ann offline', 'cid online'])
  world.presence.close()
})

test('P2 an answer that is older than a change heard since then is not told', async () => {
  const world = makeWorld()
  await world.watch('ann', 'bob')
  await world.asked[0]!({ ann: 'offline', bob: 'offline' })
  world.told.length = 0
  world.known()
  world.heard('ann', 'online')
  await world.asked[1]!({ ann: 'offline', bob: 'offline' })
  assert.deepEqual(world.told, ['ann online'])
  world.presence.close()
})
