/** Sends, duplicates and status, as SPEC.md has them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command } from '#protos/catalogue.ts'
import type { Effect } from './effects.ts'
import { ann, answer, ben, cat, dan, idOf, kinds, Scenario } from './fixtures/scenario.ts'
import { sendHash } from './send.ts'
import { transition } from './transition.ts'

test('[S1] a send appends one message, acks with its seq and goes to all', () => {
  const s = Scenario.dm()
  const effects = s.send(ann, 'hello', 1)
  assert.deepEqual(kinds(effects), ['message.new', 'ack'])
  const { messageId } = s.rows.at(-1)!
  assert.deepEqual(answer(effects), {
    type: 'ack',
    conversationId: s.state.id,
    clientMessageId: idOf(1, 'd'),
    messageId,
    seq: 3,
    duplicate: false,
  })
  assert.deepEqual(JSON.parse(s.rows.at(-1)!.body), {
    messageId,
    senderId: ann,
    role: 'user',
    content: 'hello',
    clientMessageId: idOf(1, 'd'),
    traceId: 'tr',
  })
})

test('[N1] numbers are dense from 1, and [N2] refusals use none', () => {
  const s = Scenario.group()
  s.send(ann, 'a', 1)
  s.send(dan, 'b', 2)
  s.as(ann, { type: 'message.send', clientMessageId: idOf(3, 'd'), content: 'c', replyTo: 99 })
  s.send(ben, 'd', 4)
  assert.deepEqual(
    s.rows.map(r => r.seq),
    [1, 2, 3, 4, 5],
  )
})

test('[S2] a reply names a message that the log knows and that is not deleted', () => {
  const s = Scenario.dm()
  const reply = (replyTo: number, n: number, replied?: boolean) => {
    const command = { type: 'message.send', clientMessageId: idOf(n, 'd'), content: `r${n}`, replyTo } as const
    return s.as(ann, command, replied === undefined ? {} : { replied })
  }
  const refused = (effects: Effect[]) => [answer(effects)['code'], answer(effects)['field']]
  s.send(ben, 'hello', 9)
  assert.deepEqual(reply(3, 1), [{ kind: 'ask', what: 'replied' }])
  assert.deepEqual(refused(reply(3, 1, false)), ['NOT_FOUND', 'replyTo'])
  assert.equal(answer(reply(3, 1, true))['seq'], 4)
  // Above the head nobody needs to be asked.
  assert.deepEqual(refused(reply(5, 2)), ['NOT_FOUND', 'replyTo'])
  assert.deepEqual(refused(reply(5, 2, true)), ['NOT_FOUND', 'replyTo'])
})

test('[S2] what the same draft sent can be replied to before the log has it', () => {
  const s = Scenario.dm()
  const send = (n: number, replyTo?: number) => {
    const command = {
      type: 'message.send',
      clientMessageId: idOf(n, 'd'),
      content: `r${n}`,
      ...(replyTo ? { replyTo } : {}),
    }
    return transition(s.state, s.event(ann, command as Command), s.world)
  }
  s.state = send(1).state
  const { effects } = send(2, 3)
  assert.equal(answer(effects)['seq'], 4)
})

test('[S3] the fourth equal text in 30 s is refused with the time to wait', () => {
  const s = Scenario.dm()
  for (let i = 1; i <= 3; i++) {
    s.send(ann, 'same', i)
    s.wait(1000)
  }
  assert.equal(answer(s.send(ann, 'same', 1))['duplicate'], true)
  assert.deepEqual(answer(s.send(ann, 'same', 4)), { type: 'refused', code: 'RLIMIT', ms: 27_000 })
  assert.equal(answer(s.send(ann, 'other', 5)).type, 'ack')
  assert.equal(answer(s.send(ben, 'same', 6)).type, 'ack')
  s.wait(27_000)
  assert.equal(answer(s.send(ann, 'same', 4)).type, 'ack')
})

test('[S4] attachments are refused by name, an empty list is none', () => {
  const s = Scenario.dm()
  const send = (attachments: string[], n: number) =>
    answer(s.as(ann, { type: 'message.send', clientMessageId: idOf(n, 'd'), content: 'x', attachments }))
  assert.equal(send([], 1).type, 'ack')
  assert.equal(send([idOf(9)], 2)['field'], 'attachments')
})

test('[S5] a letter too old is refused, unless its id is stored', () => {
  const s = Scenario.dm()
  assert.equal(answer(s.send(ann, 'late', 1, { isExpired: true }))['code'], 'UNAVAILABLE')
  s.send(ann, 'late', 1)
  assert.equal(answer(s.send(ann, 'late', 1, { isExpired: true }))['duplicate'], true)
  const add = s.as(ann, { type: 'member.add', userId: dan, role: 'member' }, { isExpired: true })
  assert.equal(answer(add)['code'], 'UNAVAILABLE')
})

test('[S6] what is not served yet says so by its type', () => {
  const s = Scenario.dm()
  const messageId = idOf(5)
  for (const command of [
    { type: 'message.edit', messageId, content: 'x' },
    { type: 'message.delete', messageId },
    { type: 'reaction.add', messageId, emoji: '👍' },
    { type: 'reaction.remove', messageId, emoji: '👍' },
  ] as const) {
    const { code, field } = answer(s.as(ann, command))
    assert.deepEqual([code, field], ['VALIDATION', 'type'])
  }
})

test('[D1] the same send again is acked with the same seq, and stored once', () => {
  const s = Scenario.dm()
  const first = answer(s.send(ann, 'hello', 1))
  const again = s.send(ann, 'hello', 1)
  assert.deepEqual(kinds(again), ['ack'])
  assert.deepEqual(answer(again), { ...first, duplicate: true })
  assert.equal(answer(s.send(ben, 'hello', 1))['duplicate'], false, 'another sender, another id')
})

test('[D2] duplicates are seen within a draft, in memory and by what the log says', () => {
  const s = Scenario.dm()
  const command = { type: 'message.send' as const, clientMessageId: idOf(1, 'd'), content: 'x' }
  const draft = transition(s.state, s.event(ann, command), s.world).state
  const twice = transition(draft, s.event(ann, command), s.world)
  assert.deepEqual([answer(twice.effects)['seq'], answer(twice.effects)['duplicate']], [3, true])
  const bodyHash = sendHash({ ...command, conversationId: s.state.id }, s.world)
  const stored = { seq: 2, messageId: idOf(6), kind: 'message.new', bodyHash }
  const known = answer(s.as(ann, command, { stored }))
  assert.deepEqual([known['seq'], known['messageId'], known['duplicate']], [2, idOf(6), true])
})

test('[D3] the same id with another kind, text or reply is a conflict', () => {
  const s = Scenario.group()
  s.send(ann, 'hello', 1)
  assert.equal(answer(s.send(ann, 'hullo', 1))['code'], 'IDEMPOTENCY_CONFLICT')
  assert.equal(answer(s.chat(ann, 'hello', 1))['code'], 'IDEMPOTENCY_CONFLICT')
  const reply = s.as(ann, { type: 'message.send', clientMessageId: idOf(1, 'd'), content: 'hello', replyTo: 1 })
  assert.equal(answer(reply)['code'], 'IDEMPOTENCY_CONFLICT')
})

test('[D2] an id that was stored here lately is asked for, and again when the answer is older than the row', () => {
  const s = Scenario.dm()
  s.send(ann, 'one', 1)
  const command = { type: 'message.send' as const, clientMessageId: idOf(1, 'd'), content: 'one' }
  const ask = [{ kind: 'ask', what: 'stored' }]
  assert.deepEqual(s.step(s.event(ann, command)), ask)
  const seq = s.state.head
  assert.deepEqual(s.step(s.event(ann, command, { stored: null, lookedUpAt: seq - 1 })), ask)
  // Another's id: the log was asked after that row and knows none of this sender.
  assert.equal(answer(s.step(s.event(ben, command, { stored: null, lookedUpAt: seq })))['seq'], seq + 1)
})

test('[D4] an old v7 id is looked up, then refused for good', () => {
  const s = Scenario.dm()
  const time = Math.floor(s.at - 31 * 86_400_000)
    .toString(16)
    .padStart(12, '0')
  const clientMessageId = `${time.slice(0, 8)}-${time.slice(8)}-7000-8000-000000000001`
  const command = { type: 'message.send' as const, clientMessageId, content: 'x' }
  const asked = s.as(ann, command)
  assert.deepEqual(asked, [{ kind: 'ask', what: 'stored' }])
  assert.equal(answer(s.as(ann, command, { stored: null }))['code'], 'IDEMPOTENCY_EXPIRED')
  const bodyHash = sendHash({ ...command, conversationId: s.state.id }, s.world)
  const stored = { seq: 2, messageId: idOf(6), kind: 'message.new', bodyHash }
  assert.equal(answer(s.as(ann, command, { stored }))['duplicate'], true)
})

test('[D5] a replayed attempt is acked with the event that it made', () => {
  const s = Scenario.group()
  const stored = { seq: 3, messageId: idOf(6), kind: 'room.member_joined', bodyHash: '00'.repeat(32) }
  const effects = s.as(ann, { type: 'member.add', userId: dan, role: 'member' }, { stored })
  assert.deepEqual(kinds(effects), ['ack'])
  assert.deepEqual([answer(effects)['seq'], answer(effects)['messageId']], [3, idOf(6)])
})

test('[D6] status is answered from memory, by a look-up, or not found', () => {
  const s = Scenario.dm()
  s.send(ann, 'x', 1)
  const status = (n: number, stored?: null) =>
    s.as(ann, { type: 'message.status', clientMessageId: idOf(n, 'd') }, stored === undefined ? {} : { stored })
  assert.deepEqual([answer(status(1))['seq'], answer(status(1))['duplicate']], [3, true])
  assert.deepEqual(status(2), [{ kind: 'ask', what: 'stored' }])
  assert.equal(answer(status(2, null))['code'], 'NOT_FOUND')
})

test('[D1] a replayed send whose sender was removed since is acked, not refused: it is stored', () => {
  const s = Scenario.group()
  const command = { type: 'message.send' as const, clientMessageId: idOf(1, 'd'), content: 'x' }
  const { seq, messageId } = answer(s.as(cat, command))
  const bodyHash = sendHash({ ...command, conversationId: s.state.id }, s.world)
  s.as(ann, { type: 'member.remove', userId: cat })
  const stored = { seq: Number(seq), messageId: String(messageId), kind: 'message.new', bodyHash }
  assert.equal(answer(s.as(cat, command, { stored }))['seq'], seq)
  assert.equal(answer(s.as(cat, { ...command, content: 'y' }, { stored }))['code'], 'NOT_FOUND')
  assert.equal(answer(s.as(cat, { ...command, clientMessageId: idOf(2, 'd') }))['code'], 'NOT_FOUND')
})

test('[D7] a draft thrown away leaves no trace', () => {
  const s = Scenario.dm()
  const command = { type: 'message.send' as const, clientMessageId: idOf(1, 'd'), content: 'x' }
  transition(s.state, s.event(ann, command), s.world)
  assert.equal(answer(s.as(ann, command))['duplicate'], false)
  assert.equal(s.state.head, 3)
})

test('[M9] strangers and removed members get NOT_FOUND for everything', () => {
  const s = Scenario.group()
  s.as(ann, { type: 'member.remove', userId: cat })
  for (const user of [dan, cat]) {
    for (const command of [
      { type: 'message.send', clientMessageId: idOf(1, 'd'), content: 'x' },
      { type: 'chat.send', clientMessageId: idOf(1, 'd'), content: 'x' },
      { type: 'message.status', clientMessageId: idOf(1, 'd') },
      { type: 'chat.stop', messageId: idOf(1) },
      { type: 'room.join' },
      { type: 'receipt.read', seq: 1 },
      { type: 'typing.start' },
      { type: 'typing.stop' },
      { type: 'conversation.update', title: 'x' },
      { type: 'conversation.delete' },
      { type: 'member.add', userId: dan, role: 'member' },
      { type: 'member.remove', userId: ben },
      { type: 'member.role', userId: ben, role: 'admin' },
    ] as const) {
      assert.equal(answer(s.as(user, command))['code'], 'NOT_FOUND', command.type)
    }
    assert.deepEqual(s.as(user, { type: 'receipt.delivered', seq: 1 }), [])
  }
})

test('[M10] in one draft a send before a removal stands, one after it is refused', () => {
  const s = Scenario.group()
  const content = { type: 'message.send' as const, content: 'x' }
  const one = transition(s.state, s.event(cat, { ...content, clientMessageId: idOf(1, 'd') }), s.world)
  const two = transition(one.state, s.event(ann, { type: 'member.remove', userId: cat }), s.world)
  const three = transition(two.state, s.event(cat, { ...content, clientMessageId: idOf(2, 'd') }), s.world)
  assert.equal(answer(one.effects)['seq'], 4)
  assert.equal(answer(three.effects)['code'], 'NOT_FOUND')
  assert.equal(three.state.head, 5)
})
