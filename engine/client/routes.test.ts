/** The route map: what is believed, when a refusal ends, and what a late or failing read can do. */
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { shardCount } from '#protos/limits.ts'
import { createRoutes, type RouteChange, type RouteRow, type Routes } from './routes.ts'

let open: Routes[] = []
afterEach(() => {
  for (const routes of open) routes.close()
  open = []
})

const everywhere = (epoch: number, addr: string | null): RouteRow[] =>
  Array.from({ length: shardCount }, (_, shard) => ({ shard, epoch, addr }))
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 5000; !holds(); await pause(2)) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`)
  }
}

async function setUp(rows: RouteRow[]) {
  const world = { rows, reads: 0, isAway: false, hold: undefined as Promise<void> | undefined, changed: () => {} }
  const changes: RouteChange[] = []
  const routes = createRoutes({
    clock: systemClock,
    log: silentLog,
    async readRoutes() {
      world.reads++
      const read = world.rows
      await world.hold
      if (world.isAway) throw new Error('away')
      return read
    },
    listen(changed) {
      world.changed = changed
      return () => {
        world.changed = () => {}
      }
    },
    onChange: more => void changes.push(...more),
  })
  open.push(routes)
  await routes.start()
  return { routes, world, changes }
}

test('M1 a refused route is not used before a read that began after the refusal confirms it', async () => {
  const { routes, world, changes } = await setUp(everywhere(5, 'a:1'))
  let release = () => {}
  world.hold = new Promise(resolve => {
    release = resolve
  })
  const reads = world.reads
  world.changed()
  await until('a read under way', () => world.reads > reads)
  routes.refuse(7, { addr: 'a:1', epoch: 5 })
  assert.equal(routes.get(7), undefined)
  assert.deepEqual(routes.get(8), { addr: 'a:1', epoch: 5 })
  changes.length = 0
  world.hold = undefined
  release()
  await pause(1)
  assert.equal(routes.get(7), undefined, 'that read began before')
  await until('the next read', () => routes.get(7) !== undefined)
  assert.deepEqual(
    changes.map(c => c.shard),
    [7],
  )
})

test('M2 a refusal by a route that is not believed any more changes nothing', async () => {
  const { routes } = await setUp(everywhere(5, 'a:1'))
  routes.refuse(7, { addr: 'a:1', epoch: 4 })
  routes.refuse(7, { addr: 'b:1', epoch: 5 })
  assert.deepEqual(routes.get(7), { addr: 'a:1', epoch: 5 })
})

test('M3 a hint counts when its epoch is higher, at once and against older reads', async () => {
  const { routes, world, changes } = await setUp(everywhere(5, 'a:1'))
  routes.refuse(7, { addr: 'a:1', epoch: 5 })
  changes.length = 0
  routes.hint(7, { addr: 'b:1', epoch: 6 })
  assert.deepEqual(routes.get(7), { addr: 'b:1', epoch: 6 })
  assert.deepEqual(changes, [{ shard: 7, before: undefined, after: { addr: 'b:1', epoch: 6 } }])
  routes.hint(7, { addr: 'c:1', epoch: 6 })
  routes.hint(7, { addr: 'c:1', epoch: 2 })
  const reads = world.reads
  routes.refresh()
  await until('a read', () => world.reads > reads)
  await pause(2)
  assert.deepEqual(routes.get(7), { addr: 'b:1', epoch: 6 })
})

test('M4 an owner that died leaves no route; a database that is away leaves the map as it was', async () => {
  const { routes, world } = await setUp(everywhere(5, 'a:1'))
  assert.ok(routes.isComplete())
  world.isAway = true
  world.changed()
  await pause(20)
  assert.deepEqual(routes.get(1), { addr: 'a:1', epoch: 5 })
  world.isAway = false
  world.rows = everywhere(5, null)
  world.changed()
  await until('no route', () => routes.get(1) === undefined)
  assert.ok(!routes.isComplete())
  assert.deepEqual([...routes.addrs()], [])
})

test('M5 many refusals of one shard are one wait', async () => {
  const { routes, world } = await setUp(everywhere(5, 'a:1'))
  const reads = world.reads
  for (let n = 0; n < 50; n++) routes.refuse(7, { addr: 'a:1', epoch: 5 })
  const from = performance.now()
  await until('the route again', () => routes.get(7) !== undefined)
  assert.ok(performance.now() - from < 500, 'the back-off grew by one refusal, not by fifty')
  assert.ok(world.reads - reads <= 2)
})

test('M6 the first read decides whether it starts', async () => {
  const routes = createRoutes({
    clock: systemClock,
    log: silentLog,
    readRoutes: () => Promise.reject(new Error('away')),
    onChange() {},
  })
  open.push(routes)
  await assert.rejects(routes.start(), /away/)
})

test('M7 what changes during a reading is read as soon as that one is over', async () => {
  const { routes, world } = await setUp(everywhere(5, null))
  let release = () => {}
  world.hold = new Promise(resolve => {
    release = resolve
  })
  const reads = world.reads
  world.changed()
  await until('a read under way', () => world.reads > reads)
  world.rows = everywhere(6, 'b:1')
  world.changed()
  await pause(5)
  world.hold = undefined
  const began = performance.now()
  release()
  await until('the next read', () => routes.get(7) !== undefined)
  assert.ok(performance.now() - began < 40, `${performance.now() - began} ms`)
})
