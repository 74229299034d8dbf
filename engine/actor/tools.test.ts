/** Tools over the whole actor: rounds, parallel calls, approval, take-over, stop, repeated ids. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ann, ben, idOf } from '#engine/conversation/fixtures/scenario.ts'
import { answerBytesMax, approvalMsMax, toolResultBytesMax } from '#protos/limits.ts'
import { tokens, Worker } from './fixtures/world.ts'
import type { ModelCall, Toolbox, TurnEvent, TurnRequest } from './ports.ts'

const room = idOf(1, 'c')
const create = {
  type: 'conversation.create' as const,
  conversationId: room,
  kind: 'group' as const,
  members: [
    { userId: ann, role: 'owner' as const },
    { userId: ben, role: 'member' as const },
  ],
}
const question = { type: 'chat.send' as const, conversationId: room, clientMessageId: idOf(1, 'd'), content: 'do it' }
const calls = (...list: ModelCall[]): TurnEvent => ({ kind: 'calls', calls: list, tokens })
const say = (text: string): TurnEvent => ({ kind: 'delta', text })
const stop: TurnEvent = { kind: 'end', finish: 'stop', tokens }
const add = (id: string, title = id): ModelCall => ({ id, name: 'add', arguments: JSON.stringify({ title }) })
const remove = (id: string): ModelCall => ({ id, name: 'delete', arguments: '{}' })

/** Tools in memory: `delete` asks. Effects are counted by call id, as the ledger of a real one keeps them. */
class Box implements Toolbox {
  offers = [{ name: 'add', description: 'adds', parameters: {} }]
  made: { callId: string; name: string; requester: string; hint: string }[] = []
  effects = new Map<string, string>()
  running = 0
  most = 0
  wait: Promise<void> = Promise.resolve()
  bound = false

  isBound() {
    return this.bound
  }

  read({ name, arguments: args }: ModelCall) {
    return {
      name,
      arguments: args,
      hash: Buffer.from(name + args)
        .toString('hex')
        .padEnd(64, '0')
        .slice(0, 64),
      approval: name === 'delete' ? ('required' as const) : ('auto' as const),
    }
  }

  async run({ callId, name, requester, hint }: Parameters<Toolbox['run']>[0]) {
    this.made.push({ callId, name, requester, hint })
    this.running++
    this.most = Math.max(this.most, this.running)
    await sleep(5)
    await this.wait
    this.running--
    const result = this.effects.get(callId) ?? JSON.stringify({ success: true, n: this.effects.size })
    this.effects.set(callId, result)
    return { status: 'success' as const, result }
  }
}

/** One list of events a round. */
function script(rounds: TurnEvent[][]) {
  return async function* (request: TurnRequest): AsyncIterable<TurnEvent> {
    const round = request.messages.filter(m => m.role === 'assistant' && 'calls' in m).length
    yield* rounds[round] ?? [stop]
  }
}

async function start(rounds: TurnEvent[][], given?: { box?: Box; database?: Worker['database'] }) {
  const box = given?.box ?? new Box()
  const w = new Worker(given?.database, { toolbox: box })
  w.provider.script = script(rounds)
  if (!given?.database) {
    await w.ask(ann, create)
    await w.ask(ann, question)
  }
  return { w, box }
}
const done = (w: Worker) => w.until(o => o.frame.type === 'chat.done')
const kindsOf = (w: Worker) =>
  w
    .log(room)
    .map(r => r.kind)
    .filter(k => k.startsWith('tool.') || k === 'message.new')
    .slice(1)
const bodies = (w: Worker, kind: string) =>
  w
    .log(room)
    .filter(r => r.kind === kind)
    .map(r => JSON.parse(r.body))
async function waiting(w: Worker): Promise<string> {
  const { frame } = await w.until(o => o.frame.type === 'tool.called' && o.frame['approval'] === 'required')
  return String(frame['callId'])
}
const decide = (callId: string, decision: 'approve' | 'reject' = 'approve') => ({
  type: 'tool.decide' as const,
  conversationId: room,
  callId,
  decision,
})

test('[T13] calls of a round run together, their results go to the model, the answer lists them', async t => {
  const { w, box } = await start([
    [say('Moment. '), calls(add('a'), add('b'), add('c'))],
    [say('All done.'), stop],
  ])
  t.after(() => w.close())
  const end = (await done(w)).frame
  assert.deepEqual([end['finish'], end['tokens']], ['stop', { input: 2, output: 4, total: 6 }])
  const kinds = kindsOf(w)
  assert.deepEqual(kinds.slice(0, 3), ['tool.called', 'tool.called', 'tool.called'])
  assert.deepEqual([kinds.filter(k => k === 'tool.returned').length, kinds.at(-1)], [3, 'message.new'])
  assert.equal(box.most, 3)
  assert.deepEqual(new Set(box.made.map(m => m.requester)), new Set([ann]))
  assert.equal(box.made[0]!.hint, 'do it')
  const [, second] = w.provider.requests
  const [assistant, ...results] = second!.messages.slice(-4)
  assert.deepEqual(
    [assistant!.role, assistant!.content, results.map(m => m.role)],
    ['assistant', 'Moment. ', ['tool', 'tool', 'tool']],
  )
  assert.equal(second!.tools.length, 1)
  const answer = bodies(w, 'message.new').at(-1)
  assert.deepEqual([answer.content, answer.toolCalls.length], ['Moment. All done.', 3])
})

test('[T13] results that are long together are shown to the model from the latest back, and history gives way to them', async t => {
  const box = new Box()
  const w = new Worker(undefined, { toolbox: box })
  t.after(() => w.close())
  const long = JSON.stringify({ success: true, text: 'x'.repeat(toolResultBytesMax - 40) })
  box.run = async ({ callId }) => ({ status: 'success', result: box.effects.get(callId) ?? long })
  w.provider.script = script([
    [calls(add('a'), add('b'))],
    [calls(add('c'), add('d'))],
    [calls(add('e'), add('f'))],
    [say('All done.'), stop],
  ])
  await w.ask(ann, create)
  for (const [n, content] of ['first', 'second', 'third', 'fourth', 'latest'].entries()) {
    const said = `${content} ${'y'.repeat(4000)}`
    await w.ask(ben, { type: 'message.send', conversationId: room, clientMessageId: idOf(10 + n, 'd'), content: said })
  }
  await w.ask(ann, question)
  assert.equal((await done(w)).frame['finish'], 'stop')
  const sizes = (n: number) =>
    w.provider.requests[n]!.messages.filter(m => m.role === 'tool').map(m => m.content.length)
  const words = (n: number, said: string) => w.provider.requests[n]!.messages.some(m => m.content.includes(said))
  assert.deepEqual(sizes(2), Array(4).fill(long.length))
  assert.deepEqual([words(0, 'first'), words(2, 'first')], [true, false], 'what is shown has one budget')
  assert.ok(words(3, 'latest'), 'half of it is for what was said, whatever tools gave')
  assert.ok(w.provider.requests[2]!.messages.some(m => m.content.includes('do it')))
  const [first, second, ...rest] = sizes(3)
  assert.ok(first! < 200 && second! < 200, `${first} ${second}`)
  assert.deepEqual(rest, Array(4).fill(long.length))
})

test('[T6] the rounds of a turn share the room of one answer', async t => {
  const { w } = await start([
    [say('é'.repeat(100)), calls(add('a'))],
    [say('done'), stop],
  ])
  t.after(() => w.close())
  await done(w)
  assert.deepEqual(
    w.provider.requests.map(r => r.textBytesMax),
    [answerBytesMax, answerBytesMax - 200],
  )
})

test('[T14] nothing is called without approval; approved by the requester it is called once', async t => {
  const { w, box } = await start([[calls(remove('a'))], [say('Gone.'), stop]])
  t.after(() => w.close())
  const callId = await waiting(w)
  assert.equal((await w.ask(ben, decide(callId)))['code'], 'FORBIDDEN')
  await sleep(30)
  assert.equal(box.made.length, 0)
  const ack = await w.ask(ann, decide(callId))
  assert.equal(ack['duplicate'], false)
  await done(w)
  assert.equal(box.effects.size, 1)
  assert.deepEqual(await w.ask(ann, decide(callId)).then(f => [f['duplicate'], f['seq']]), [true, ack['seq']])
  assert.equal((await w.ask(ann, decide(callId, 'reject')))['code'], 'CONFLICT')
  assert.equal((await w.ask(ben, decide(callId)))['code'], 'FORBIDDEN', 'also when the turn is over')
  assert.equal((await w.ask(ann, decide('none')))['code'], 'NOT_FOUND')
})

test('[T16] rejected, the model hears of it and goes on; nobody in five minutes is the same', async t => {
  const { w, box } = await start([[calls(remove('a'))], [say('Kept.'), stop]])
  t.after(() => w.close())
  await w.ask(ann, decide(await waiting(w), 'reject'))
  await done(w)
  assert.equal(box.made.length, 0)
  assert.match(w.provider.requests[1]!.messages.at(-1)!.content, /Unauthorized/)
  const late = await start([[calls(remove('a'))], [say('Kept.'), stop]])
  t.after(() => late.w.close())
  const callId = await waiting(late.w)
  late.w.ahead = approvalMsMax + 1
  assert.equal((await late.w.ask(ann, decide(callId)))['code'], 'CONFLICT')
  await done(late.w)
  assert.equal(late.box.made.length, 0)
  assert.equal(bodies(late.w, 'tool.decided')[0].by, undefined)
})

test('[T19] a turn that waits is taken over with its question to people, and goes on', async t => {
  const rounds = [
    [say('Sure? '), calls(remove('a'))],
    [say('Gone.'), stop],
  ]
  const { w, box } = await start(rounds)
  const callId = await waiting(w)
  await w.registry.drain()
  await w.close()
  const next = await start(rounds, { database: w.database, box })
  t.after(() => next.w.close())
  await next.w.registry.adopt(Array.from({ length: 256 }, (_, s) => s))
  assert.equal((await next.w.ask(ann, decide(callId)))['duplicate'], false)
  const end = await done(next.w)
  assert.equal(end.frame['finish'], 'stop')
  assert.equal(bodies(next.w, 'message.new').at(-1).content, 'Sure? Gone.')
  assert.equal(box.effects.size, 1)
})

test('[T19] its owner dies while a tool is at work: the next one calls again and finds the first result', async t => {
  const rounds = [[calls(add('a'))], [say('Added.'), stop]]
  const gate = Promise.withResolvers<void>()
  const box = new Box()
  box.wait = gate.promise
  const { w } = await start(rounds, { box })
  while (box.running === 0) await sleep(2)
  const next = await start(rounds, { database: w.database, box })
  t.after(() => next.w.close())
  await next.w.registry.adopt(Array.from({ length: 256 }, (_, s) => s))
  while (box.made.length < 2) await sleep(2)
  gate.resolve()
  assert.equal((await done(next.w)).frame['finish'], 'stop')
  await w.close()
  assert.equal(box.made[0]!.callId, box.made[1]!.callId)
  assert.equal(box.effects.size, 1)
  assert.equal(bodies(next.w, 'tool.returned').length, 1)
})

test('[T18] the same id again gives the first result without a call; twice in a round it is one', async t => {
  const { w, box } = await start([
    [calls(add('a'), add('a'))],
    [calls(add('a'))],
    [calls(add('a', 'other'))],
    [say('ok'), stop],
  ])
  t.after(() => w.close())
  await done(w)
  assert.equal(box.effects.size, 2)
  assert.equal(bodies(w, 'tool.called').length, 3)
  const [first, again] = bodies(w, 'tool.returned')
  assert.deepEqual(first.result, again.result)
  assert.notEqual(first.callId, again.callId)
})

test('[T17] a model that never stops calling is ended', async t => {
  const { w, box } = await start(Array.from({ length: 20 }, (_, i) => [calls(add(`c${i}`))]))
  t.after(() => w.close())
  assert.equal((await done(w)).frame['finish'], 'tool_limit')
  assert.equal(box.effects.size, 8)
})

test('[T20] a stop while people are asked ends the turn at once; approving later does nothing', async t => {
  const { w, box } = await start([[calls(remove('a'))], [say('no'), stop]])
  t.after(() => w.close())
  const callId = await waiting(w)
  const messageId = bodies(w, 'chat.started')[0].messageId
  await w.ask(ann, { type: 'chat.stop', conversationId: room, messageId })
  assert.equal((await done(w)).frame['finish'], 'stopped')
  assert.equal((await w.ask(ann, decide(callId)))['code'], 'NOT_FOUND')
  await sleep(30)
  assert.equal(box.made.length, 0)
})

test('[T20] a stop while a tool is at work tells its result first', async t => {
  const gate = Promise.withResolvers<void>()
  const box = new Box()
  box.wait = gate.promise
  const { w } = await start([[calls(add('a'))]], { box })
  t.after(() => w.close())
  while (box.running === 0) await sleep(2)
  const messageId = bodies(w, 'chat.started')[0].messageId
  const stopped = w.ask(ann, { type: 'chat.stop', conversationId: room, messageId })
  await sleep(30)
  gate.resolve()
  await stopped
  assert.deepEqual(kindsOf(w), ['tool.called', 'tool.returned', 'message.new'])
  assert.equal(bodies(w, 'tool.returned')[0].status, 'success')
})

test('[T19] a turn at a call that only its maker can finish is not handed over before', async t => {
  for (const bound of [false, true]) {
    const gate = Promise.withResolvers<void>()
    const box = new Box()
    box.wait = gate.promise
    box.bound = bound
    const { w } = await start([[calls(add('a'))]], { box })
    t.after(() => w.close())
    while (box.running === 0) await sleep(2)
    assert.equal(w.registry.busyShards().length, bound ? 1 : 0)
    gate.resolve()
    await done(w)
    assert.deepEqual(w.registry.busyShards(), [])
  }
})

test('[X5] blocked people’s words are not shown to the model, and what was shown is kept by position', async t => {
  const box = new Box()
  const w = new Worker(undefined, { toolbox: box })
  t.after(() => w.close())
  w.provider.script = script([[calls(add('a'))], [say('ok'), stop]])
  await w.ask(ann, create)
  w.database.blocks.add(`${ann}>${ben}`)
  await w.ask(ben, { type: 'message.send', conversationId: room, clientMessageId: idOf(2, 'd'), content: 'hear me' })
  await w.ask(ann, { type: 'message.send', conversationId: room, clientMessageId: idOf(3, 'd'), content: 'first' })
  await w.ask(ann, question)
  await done(w)
  const shown = w.provider.requests[0]!.messages.map(m => m.content)
  assert.deepEqual([shown.some(c => c.includes('hear me')), shown.some(c => c.includes('first'))], [false, true])
  assert.deepEqual(
    [...w.database.contexts.values()],
    [
      [4, 5],
      [4, 5],
    ],
  )
})
