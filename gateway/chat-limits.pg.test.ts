/** The rates of questions over HTTP, unscaled, on real processes. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { startModelServer } from '#engine/assistant/dev-model.ts'
import { type Stack, startStack } from '#load/kit/stack.ts'

let model: Awaited<ReturnType<typeof startModelServer>>
let stack: Stack

before(async () => {
  model = await startModelServer(0)
  stack = await startStack({ OPENAI_BASE_URL: `http://127.0.0.1:${model.port}/v1`, RATE_LIMIT_SCALE: '1' })
})
after(async () => {
  await (stack as Stack | undefined)?.stop()
  model.server.closeAllConnections()
  model.server.close()
})

test('J-09 a question that is asked again with its id costs nothing of what a person may ask; the 11th of a minute is 429', async () => {
  const user = await stack.user('eager')
  const body = { message: 'hello', client_message_id: randomUUID() }
  const first = await user.rest('POST', `/api/${user.id}/chat`, body)
  assert.equal(first.status, 200, JSON.stringify(first.body))
  for (let i = 0; i < 12; i++) {
    const again = await user.rest('POST', `/api/${user.id}/chat`, body)
    assert.deepEqual([again.status, again.body.message_id], [200, first.body.message_id])
  }
  const conversation_id = first.body.conversation_id
  const ask = (i: number) => user.rest('POST', `/api/${user.id}/chat`, { conversation_id, message: `hello ${i}` })
  for (let i = 2; i <= 10; i++) assert.equal((await ask(i)).status, 200, `question ${i}`)
  const over = await ask(11)
  assert.deepEqual([over.status, over.body.error_code, over.body.details.limit], [429, 'RATE_LIMITED', 'ai_user'])
})
