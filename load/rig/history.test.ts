import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { createFolder, type Entry, openHistory, readHistory } from './history.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'parley-history-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const fold = (...entries: Entry[]) => {
  const f = createFolder()
  for (const [i, entry] of entries.entries()) f.add({ t_ns: (i + 1) * 1e6, ...entry })
  return f.end()
}
const ready: Entry = { kind: 'ready', actor: 'ana', device: 'd', connId: 1, heads: { c: 3 } }
const invoke: Entry = { kind: 'invoke', actor: 'ana', connId: 1, conv: 'c', attempt: 1, cmid: 'id', content: 'hi' }

test('[C0] what is written comes back as the checkers read it', async () => {
  const file = path.join(folder, 'history.jsonl')
  const history = openHistory(file)
  for (const entry of [
    ready,
    invoke,
    { kind: 'ok', attempt: 1, seq: 4, messageId: 'm', dup: false },
    { kind: 'event', connId: 1, conv: 'c', seq: 4, type: 'message.new', messageId: 'm', content: 'hi' },
  ] as Entry[])
    history.write(entry)
  await history.close()
  const { attempts, deliveries, streams } = await readHistory(file)
  assert.deepEqual(attempts[0]!.outcome, { kind: 'ok', seq: 4, messageId: 'm', duplicate: false })
  assert.equal(deliveries[0]!.content, 'hi')
  assert.deepEqual(
    streams[0]!.items.map(i => i.kind),
    ['head', 'event'],
  )
})

test('[C0] an answer after the client gave up is the truth nevertheless', () => {
  const { attempts, counts } = fold(
    ready,
    invoke,
    { kind: 'unknown', attempt: 1, why: 'time' },
    { kind: 'refused', attempt: 1, code: 'UNAVAILABLE' },
  )
  assert.equal(attempts[0]!.outcome.kind, 'refused')
  assert.equal(counts.unknown, 1)
})

test('[C0] an attempt without an answer is unknown', () => {
  assert.equal(fold(ready, invoke).attempts[0]!.outcome.kind, 'unknown')
})

const closed = (planned: boolean): Entry => ({
  kind: 'closed',
  actor: 'ana',
  device: 'd',
  connId: 1,
  code: 1006,
  how: 'lost',
  planned,
})

test('[C0] what was under way when a device left of its own accord is abandoned, and nothing else', () => {
  const abandoned = (...entries: Entry[]) => fold(...entries).attempts.map(a => a.abandonedAt)
  assert.deepEqual(abandoned(ready, invoke, closed(true)), [3])
  assert.deepEqual(abandoned(ready, invoke, closed(false)), [undefined])
  const refused: Entry = { kind: 'refused', attempt: 1, code: 'UNAVAILABLE' }
  assert.deepEqual(abandoned(ready, invoke, refused, closed(true)), [undefined])
})

test('[C0] only a loss that nobody planned, or the wish to come back, opens a gap', () => {
  const again: Entry = { ...ready, connId: 2 } as Entry
  assert.deepEqual(fold(ready, closed(false), again).gaps, [{ device: 'd', from: 2, to: 3 }])
  assert.deepEqual(fold(ready, closed(true), again).gaps, [])
  const wish: Entry = { kind: 'reopen', actor: 'ana', device: 'd' }
  assert.deepEqual(fold(ready, closed(true), wish, again).gaps, [{ device: 'd', from: 3, to: 4 }])
})

test('[C0] presence is true from ready to the end of the connection', () => {
  const closed: Entry = {
    kind: 'closed',
    actor: 'ana',
    device: 'd',
    connId: 1,
    code: 1000,
    how: 'clean',
    planned: true,
  }
  const { presenceTruth } = fold(ready, closed, { ...ready, connId: 2 } as Entry)
  assert.deepEqual(presenceTruth, [
    { user: 'ana', from: 1, to: 2, ended: 'clean' },
    { user: 'ana', from: 3, to: 4, ended: 'open' },
  ])
  const leaving: Entry = { kind: 'leaving', connId: 1 }
  assert.equal(fold(ready, leaving, closed).presenceTruth[0]!.to, 2, 'the goodbye ends it, not its answer')
})
