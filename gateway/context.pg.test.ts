/** What the model saw for an answer, and what a turn that broke off had done, as whoever asked can read it, on real processes. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { type ScriptedModel, scriptedModel } from '#load/kit/scripted-model.ts'
import { type Stack, startStack } from '#load/kit/stack.ts'

let model: ScriptedModel
let stack: Stack

before(async () => {
  model = await scriptedModel()
  stack = await startStack({ OPENAI_BASE_URL: model.url })
})
after(async () => {
  await (stack as Stack | undefined)?.stop()
  await model.close()
})

test('I-13 what the model was shown is told to whoever asked, and to nobody else', async () => {
  const [ana, ben] = [await stack.user('ana'), await stack.user('ben')]
  const group = { type: 'group', title: 'Trip', usernames: [ben.username] }
  const { body: room } = await ana.rest('POST', '/conversations', group)
  const blocked = await ana.rest('POST', `/blocks/${ben.username}`)
  assert.ok(blocked.status < 300, JSON.stringify(blocked.body))
  const say = async (user: typeof ana, content: string) =>
    (await user.rest('POST', `/conversations/${room.id}/messages`, { content })).body.seq as number
  const bens = await say(ben, 'hear me')
  const anas = await say(ana, 'flights are 900')
  model.script([[{ name: 'list_tasks', args: {} }]])
  const body = { conversation_id: room.id, message: 'what do flights cost?', client_message_id: randomUUID() }
  const answer = (await ana.rest('POST', `/api/${ana.id}/chat`, body)).body.message_id as string

  const read = (user: typeof ana, id = answer) => user.rest('GET', `/messages/${id}/context`)
  const { status, body: context } = await read(ana)
  assert.equal(status, 200, JSON.stringify(context))
  const { body: events } = await ana.rest('GET', `/conversations/${room.id}/events?after=0`)
  const question = events.items.find((f: { content?: string }) => f.content === body.message).seq as number
  assert.deepEqual(
    context.items.map((i: { round: number; seqs: number[] }) => [i.round, i.seqs]),
    [
      [0, [anas, question]],
      [1, [anas, question]],
    ],
  )
  const upstream = model.asked.at(-1)!.messages.map(m => String(m.content))
  assert.deepEqual(
    [upstream.some(c => c.includes('flights are 900')), upstream.some(c => c.includes('hear me'))],
    [true, false],
  )
  assert.ok(bens < anas)
  // What is left out tells whom she has blocked.
  assert.equal((await read(ben)).status, 404)
  const first = events.items.find((f: { seq: number }) => f.seq === anas).messageId as string
  assert.equal((await read(ana, first)).status, 404)
  assert.equal((await read(ana, randomUUID())).status, 404)
})

test('J-05 a turn whose model failed after a tool had acted is answered with what was done; before that it is 503', async () => {
  const user = await stack.user('cut')
  model.script([[{ name: 'add_task', args: { title: 'milk' } }]], 1)
  const body = { message: 'add milk', client_message_id: randomUUID() }
  const answer = await user.rest('POST', `/api/${user.id}/chat`, body)
  assert.equal(answer.status, 200, JSON.stringify(answer.body))
  const [call] = answer.body.tool_calls
  assert.deepEqual(
    [answer.body.response, call.tool_name, call.status, call.result.title],
    ['', 'add_task', 'success', 'milk'],
  )
  const again = await user.rest('POST', `/api/${user.id}/chat`, body)
  assert.deepEqual([again.status, again.body], [200, answer.body])
  assert.equal((await user.rest('GET', '/tasks')).body.items.length, 1)
  model.script([], 0)
  assert.equal((await user.rest('POST', `/api/${user.id}/chat`, { message: 'and eggs' })).status, 503)
})
