/**
 * What every journal promises, whatever store is under it: run by journal.test.ts on memory and by journal.pg.test.ts on
 * Postgres.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Bench, checkLog, openBench, settled, until, type World } from '#load/kit/journal-bench.ts'
import { batchRowsMax } from '#protos/limits.ts'

export function journalContract(name: string, open: () => Promise<World>): void {
  const contract = (title: string, body: (bench: Bench) => Promise<void>) =>
    void test(`${name}: ${title}`, { timeout: 30_000 }, async () => {
      const bench = await openBench(await open())
      try {
        await body(bench)
      } finally {
        await bench.close()
      }
    })

  contract('J1 what is offered is stored, dense and in order, and settled once', async b => {
    const s = b.source()
    await b.own(s)
    const ids = Array.from({ length: 20 }, () => s.send())
    await settled(s)
    assert.deepEqual([...s.acked.keys()], ids)
    await checkLog(b.world, s)
  })

  contract('J2 what one turn of the event loop offers goes in one statement', async b => {
    const sources = Array.from({ length: 30 }, () => b.source())
    await b.own(...sources)
    for (const s of sources) s.send()
    await settled(...sources)
    assert.equal(b.store.commits.length, 1)
    for (const s of sources) await checkLog(b.world, s)
  })

  contract('J3 one statement is in flight, of at most 256 rows, and all of a flood arrives', async b => {
    const sources = Array.from({ length: 5 }, () => b.source())
    await b.own(...sources)
    for (let i = 0; i < 300; i++) for (const s of sources) s.send()
    await settled(...sources)
    assert.equal(b.store.inFlightMax, 1)
    for (const batch of b.store.commits) {
      assert.ok(batch.reduce((n, c) => n + c.events.length, 0) <= batchRowsMax)
    }
    assert.ok(b.store.commits.length >= 6)
    for (const s of sources) {
      assert.equal(s.acked.size, 300)
      await checkLog(b.world, s)
    }
  })

  contract('J4 a fenced shard stores nothing and is dropped; its neighbours are stored', async b => {
    const mine = b.source()
    let other = b.source()
    while (other.shard === mine.shard) other = b.source()
    await b.own(mine, other)
    await b.world.steal(other.shard)
    mine.send()
    const id = other.send()
    await settled(mine, other)
    assert.equal(mine.acked.size, 1)
    assert.equal(other.answered.get(id), 'fenced')
    assert.deepEqual(b.fenced, [other.shard])
    assert.equal(b.journal.epochOf(other.shard), undefined)
    assert.deepEqual(await b.world.log(other.conversation), [])
  })

  contract('J5 a duplicate id is told apart, and its neighbours are stored all the same', async b => {
    const [s, neighbour] = [b.source(), b.source()]
    await b.own(s, neighbour)
    const first = s.send()
    await settled(s)
    s.send({ clientId: first })
    const fresh = s.send()
    neighbour.send()
    await settled(s, neighbour)
    assert.equal(s.answered.get(first), 'duplicate')
    assert.equal(s.answered.get(fresh), 'stored')
    assert.equal(neighbour.acked.size, 1)
    await checkLog(b.world, s)
    await checkLog(b.world, neighbour)
  })

  contract('J5 whoever brought a duplicate goes alone the next time, whoever waits before it', async b => {
    const neighbours = Array.from({ length: 10 }, () => b.source())
    const s = b.source()
    await b.own(s, ...neighbours)
    const first = s.send()
    await settled(s)
    // First in line, so that they are before it when all of it is taken again.
    for (const n of neighbours) n.send()
    s.send({ clientId: first })
    s.send()
    await settled(s, ...neighbours)
    const after = b.store.commits.slice(2).filter(batch => batch.some(c => c.conversation === s.conversation))
    assert.ok(after.length > 0)
    for (const batch of after) assert.equal(batch.length, 1)
  })

  contract('J11 a database that takes no connections refuses what waits, which reached no statement', async b => {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    b.store.connectFaults = Array.from({ length: 6 }, () => ({ code: '53300' }))
    b.store.discard()
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'refused')
    assert.equal(s.acked.size, 1)
  })

  contract('J6 a row that can never be stored is refused alone', async b => {
    const [s, neighbour] = [b.source(), b.source()]
    await b.own(s, neighbour)
    const ids = [s.send(), s.send({ body: '{"role":"user","content":"\\u0000"}' }), s.send()]
    neighbour.send()
    await settled(s, neighbour)
    assert.deepEqual(
      ids.map(id => s.answered.get(id)),
      ['stored', 'culprit 22P05', 'stored'],
    )
    assert.equal(neighbour.acked.size, 1)
    await checkLog(b.world, s)
    // The care ends with the culprit: the next burst is one statement again.
    const before = b.store.commits.length
    for (let i = 0; i < 10; i++) s.send()
    await settled(s)
    assert.ok(b.store.commits.length - before <= 3)
  })

  for (const when of ['before', 'after'] as const) {
    contract(`J7 an answer lost ${when} the commit is resolved: stored once, acked once`, async b => {
      const sources = Array.from({ length: 5 }, () => b.source())
      await b.own(...sources)
      for (const s of sources) s.send()
      await settled(...sources)
      const generation = b.journal.generation
      b.store.faults.push(when)
      for (const s of sources) for (let i = 0; i < 3; i++) s.send()
      await settled(...sources)
      assert.ok(b.journal.generation > generation)
      assert.ok(b.stamped.length > 0)
      for (const s of sources) {
        assert.equal(s.acked.size, 4)
        await checkLog(b.world, s)
      }
    })

    contract(`J8 an answer lost ${when} the commit with the shard lost too is not_owner, never an ack`, async b => {
      const s = b.source()
      await b.own(s)
      s.send()
      await settled(s)
      b.store.faults.push(when)
      b.store.connectFaults = [{ code: '57P03' }, { code: 'ECONNREFUSED' }]
      const id = s.send()
      await until(() => b.store.commits.length === 2 && b.store.inFlight === 0, 'the statement is lost')
      await b.world.steal(s.shard)
      await settled(s)
      assert.equal(s.answered.get(id), 'fenced')
      assert.deepEqual(b.fenced, [s.shard])
      assert.equal((await b.world.log(s.conversation)).length, when === 'after' ? 2 : 1)
    })
  }

  contract('J9 a statement that met a deadlock is sent again; a full database refuses', async b => {
    const s = b.source()
    await b.own(s)
    b.store.faults.push('retry', 'retry')
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'stored')
    b.store.faults.push('full')
    const refused = s.send()
    await settled(s)
    assert.equal(s.answered.get(refused), 'refused')
    await checkLog(b.world, s)
  })

  contract('J10 a wrong head is counted, stamped and read again', async b => {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    s.head = 0
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'stored')
    assert.equal((await b.metrics.parley_head_conflict_total.get()).values[0]?.value, 1)
    assert.deepEqual(b.stamped, [s.shard])
    await checkLog(b.world, s)
  })

  contract('J11 nothing is taken while the database is away, and all of it is stored when it is back', async b => {
    const s = b.source()
    await b.own(s)
    s.send()
    await settled(s)
    b.store.connectFaults = [{ code: 'ECONNREFUSED' }, { code: '57P03' }, { code: 'ENOENT' }]
    b.store.discard()
    s.send()
    s.send()
    await settled(s)
    assert.equal(s.acked.size, 3)
    await checkLog(b.world, s)
  })

  contract('J12 a shard that is not ours is fenced without a statement', async b => {
    const s = b.source()
    const id = s.send()
    await settled(s)
    assert.equal(s.answered.get(id), 'fenced')
    assert.equal(b.store.commits.length, 0)
  })

  contract('J13 under random losses every ack holds, nothing doubles, no gap is left', async b => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    console.log(`# seed ${seed}`)
    let state = seed
    const random = () => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
      return state / 0x7fffffff
    }
    const sources = Array.from({ length: 8 }, () => b.source())
    await b.own(...sources)
    for (let round = 0; round < 60; round++) {
      const roll = random()
      if (roll < 0.1) b.store.faults.push('before')
      else if (roll < 0.2) b.store.faults.push('after')
      else if (roll < 0.3) b.store.faults.push('retry')
      for (const s of sources) {
        if (random() < 0.5) s.send()
        if (random() < 0.1 && s.acked.size > 0) s.send({ clientId: [...s.acked.keys()][0]! })
        if (random() < 0.03) s.send({ body: '{"role":"user","content":"\\u0000"}' })
      }
      if (random() < 0.5) await settled(...sources)
    }
    await settled(...sources)
    for (const s of sources) await checkLog(b.world, s)
  })
}
