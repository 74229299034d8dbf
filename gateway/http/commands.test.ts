import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#engine/ops/clock.ts'
import { Refusal } from '#gateway/auth/failure.ts'
import { type ErrorCode, errorCodes } from '#protos/errors.ts'
import { createCommands } from './commands.ts'
import { answerOf, retryAfter } from './errors.ts'

const conversationId = '018f3b20-11aa-7c3e-8b57-2d9c5f60a7e1'
const send = { type: 'message.send', conversationId, clientMessageId: conversationId, content: 'x' } as const

function commandsAnswering(answer: object | undefined) {
  const engine = {
    request: async () => answer && JSON.stringify(answer),
    command: () => ({ taken: true }) as const,
  }
  return createCommands({ engine, clock: systemClock, groupMembersMax: 500 })
}
async function refusalOf(answer: object | undefined): Promise<Refusal> {
  try {
    await commandsAnswering(answer).ask('u', send, 't')
  } catch (error) {
    assert.ok(error instanceof Refusal)
    return error
  }
  throw new Error('not refused')
}

test('J-07 every code of the engine becomes its status, with the code where the protocol names it', async () => {
  for (const [code, row] of Object.entries(errorCodes)) {
    const refusal = await refusalOf({ type: 'error', code, message: 'm', retryable: row.retryable, field: 'replyTo' })
    assert.deepEqual([refusal.status, refusal.code], [row.http.status, row.http.code])
    assert.equal(refusal.details?.['field'], 'reply_to')
    const isNamed = (code as ErrorCode) === 'BUSY' || code.startsWith('IDEMPOTENCY_')
    assert.equal(refusal.details?.['code'], isNamed ? code : undefined)
    if (refusal.status === 503 || refusal.status === 429) assert.equal(refusal.retryAfterMs, 1000)
  }
})

test('J-06 a refusal without anything to add has no details', async () => {
  const refusal = await refusalOf({ type: 'error', code: 'FORBIDDEN', message: 'm', retryable: false })
  assert.equal(refusal.details, undefined)
})

test('R1 an outcome that stays unknown is 503 and says so', async () => {
  const refusal = await refusalOf(undefined)
  assert.equal(refusal.status, 503)
  assert.deepEqual(refusal.details, { outcome: 'unknown' })
  assert.ok(refusal.retryAfterMs! > 0)
})

test('R1 what the catalogue refuses never reaches the engine', async () => {
  const commands = commandsAnswering({ type: 'ack' })
  await assert.rejects(commands.ask('u', { ...send, content: '  ' }, 't'), (e: Refusal) => {
    assert.deepEqual([e.status, e.details], [400, { field: 'content' }])
    return true
  })
})

test('O-03 a database that is away is 503, anything unforeseen 500, and neither tells its text', () => {
  for (const code of ['57P01', '08006', '53300', 'ECONNREFUSED', 'ENOENT']) {
    const answer = answerOf(Object.assign(new Error('secret at /tmp/x'), { code }))
    assert.deepEqual([answer.status, answer.isFault], [503, true])
    assert.ok(!answer.message.includes('secret'))
  }
  for (const error of [new Error('secret'), Object.assign(new Error('secret'), { code: '22021' }), 'secret', null]) {
    const answer = answerOf(error)
    assert.deepEqual([answer.status, answer.code, answer.isFault], [500, 'SERVER_ERROR', true])
    assert.ok(!answer.message.includes('secret'))
  }
  assert.deepEqual([retryAfter(1), retryAfter(1000), retryAfter(1001)], ['1', '1', '2'])
})
