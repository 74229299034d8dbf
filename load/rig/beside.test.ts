/** How the others fared: what is told to be too slow or too often, and what is not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Attempt } from '#load/kit/checkers.ts'
import { checkBeside } from './beside.ts'

const span = { code: 'F', begin: 100_000, end: 110_000, fired: 1, limitMs: 0 }
const attempt = (n: number, at: number, ms: number, id = n): Attempt => ({
  sender: 's',
  connection: 1,
  conversation: 'c',
  clientId: `${id}`,
  content: '',
  invokedAt: at,
  completedAt: at + ms,
  outcome: { kind: 'ok', seq: n, messageId: `${n}` },
})
const usual = Array.from({ length: 100 }, (_, i) => attempt(i, i * 500, 40))

test('[P10] acks beside a fault may take one and a half times as long, not more', () => {
  const during = (ms: number) => Array.from({ length: 100 }, (_, i) => attempt(1000 + i, 100_000 + i * 50, ms))
  const rules = [{ code: 'F', othersFactorMax: 1.5 }]
  assert.deepEqual(checkBeside([...usual, ...during(58)], [span], rules), [])
  assert.equal(checkBeside([...usual, ...during(70)], [span], rules).length, 1)
})

test('[F13] more than one and a half attempts for each send are a storm', () => {
  const sends = (each: number) =>
    Array.from({ length: 60 }, (_, i) => attempt(i, 100_000 + i, 10, Math.floor(i / each)))
  const rules = [{ code: 'F', attemptsPerSendMax: 1.5 }]
  assert.deepEqual(checkBeside([...usual, ...sends(1)], [span], rules), [])
  assert.equal(checkBeside([...usual, ...sends(2)], [span], rules).length, 1)
})
