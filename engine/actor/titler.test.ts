/** Titles over the whole actor: after the first answer, once, and out of everybody's way. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ann, idOf } from '#engine/conversation/fixtures/scenario.ts'
import { assistantId } from '#protos/ids.ts'
import { titleTokensMax } from '#protos/limits.ts'
import { tokens, Worker } from './fixtures/world.ts'
import type { TurnEvent, TurnRequest } from './ports.ts'
import { titleIn } from './titler.ts'

const room = idOf(1, 'c')
const members = [{ userId: ann, role: 'owner' as const }]
const ai = { type: 'conversation.create' as const, conversationId: room, kind: 'ai' as const, members }
const ask = (n: number) => ({
  type: 'chat.send' as const,
  conversationId: room,
  clientMessageId: idOf(n, 'd'),
  content: `q${n}`,
})
const end: TurnEvent = { kind: 'end', finish: 'stop', tokens }
const isTitle = (request: TurnRequest) => request.outputTokensMax === titleTokensMax

test('[T23] after its first answer a conversation gets a title from a small call, once', async t => {
  const w = new Worker(undefined, { titles: true })
  t.after(() => w.close())
  w.provider.script = async function* (request) {
    yield { kind: 'delta', text: isTitle(request) ? '"Plans for spring"\n\nand more' : 'yes' }
    yield end
  }
  await w.ask(ann, ai)
  await w.ask(ann, ask(1))
  const { frame } = await w.until(o => o.frame.type === 'room.updated')
  assert.deepEqual([frame['title'], frame['by']], ['Plans for spring', assistantId])
  assert.deepEqual(
    w.log(room).map(r => r.kind),
    ['room.member_joined', 'message.new', 'chat.started', 'message.new', 'room.updated'],
  )
  assert.equal(w.database.conversations.get(room)!.title, 'Plans for spring')
  assert.equal(w.database.slots.size, 0)
  const request = w.provider.requests.find(isTitle)!
  assert.match(request.messages.at(-1)!.content, /q1[\s\S]*yes/)
  assert.deepEqual(request.tools, [])
  const done = w.out.filter(o => o.frame.type === 'chat.done').length
  await w.ask(ann, ask(2))
  await w.until(() => w.out.filter(o => o.frame.type === 'chat.done').length > done)
  await sleep(1200)
  assert.equal(w.provider.requests.filter(isTitle).length, 1)
})

test('[T23] a next question goes before the title, which then comes after it; a title that was given stays', async t => {
  const w = new Worker(undefined, { titles: true })
  t.after(() => w.close())
  w.provider.script = async function* (request) {
    if (isTitle(request)) return yield { kind: 'end', finish: 'failed', reason: 'refused', tokens }
    yield { kind: 'delta', text: 'yes' }
    yield end
  }
  await w.ask(ann, ai)
  for (const n of [1, 2]) {
    await w.ask(ann, ask(n))
    await w.until(() => w.out.filter(o => o.frame.type === 'chat.done').length === n)
  }
  assert.equal(w.provider.requests.filter(isTitle).length, 0)
  await w.until(() => w.provider.requests.some(isTitle))
  // It failed, and nobody hears of it; the owner names the room, so nothing is asked any more.
  assert.equal(w.out.filter(o => o.frame.type === 'error').length, 0)
  await w.ask(ann, { type: 'conversation.update', conversationId: room, title: 'Mine' })
  await w.ask(ann, ask(3))
  await w.until(() => w.out.filter(o => o.frame.type === 'chat.done').length === 3)
  await sleep(1200)
  assert.equal(w.provider.requests.filter(isTitle).length, 1)
  assert.equal(w.database.conversations.get(room)!.title, 'Mine')
})

test('[T23] a title is what the model says without what it puts around it', () => {
  const titles = {
    '"Milk and bread"': 'Milk and bread',
    'Title: **Spring plans.**\nmore': 'Spring plans',
    '# «Où est le chat ?»': 'Où est le chat ?',
    '': '',
    '"" ': '',
    ['😀'.repeat(100)]: '😀'.repeat(80),
  }
  for (const [said, title] of Object.entries(titles)) assert.equal(titleIn(said), title)
})
