/** The total table: every command of a member, in every kind of conversation, has one first answer. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command, CommandType } from '#protos/catalogue.ts'
import { dmId } from '#protos/ids.ts'
import type { Effect } from './effects.ts'
import { ann, ben, dan, idOf, Scenario, sha1 } from './fixtures/scenario.ts'

type Phase = 'absent' | 'dm' | 'blocked' | 'group' | 'ai' | 'deleted'

const make: Record<Phase, () => Scenario> = {
  absent: () => new Scenario(dmId(ann, ben, sha1)),
  dm: () => Scenario.dm(),
  blocked: () => {
    const s = Scenario.dm()
    s.as(ben, { type: 'block.set', userId: ann, blocked: true })
    return s
  },
  group: () => Scenario.group(),
  ai: () => Scenario.ai(),
  deleted: () => {
    const s = Scenario.group()
    s.as(ann, { type: 'conversation.delete' })
    return s
  },
}

type Body<T> = T extends unknown ? Omit<T, 'conversationId'> : never
const commands: { [T in CommandType]: Body<Command<T>> } = {
  'conversation.create': {
    type: 'conversation.create',
    kind: 'dm',
    members: [
      { userId: ann, role: 'member' },
      { userId: ben, role: 'member' },
    ],
  },
  'conversation.update': { type: 'conversation.update', title: 'Other' },
  'conversation.delete': { type: 'conversation.delete' },
  'member.add': { type: 'member.add', userId: dan, role: 'member' },
  'member.remove': { type: 'member.remove', userId: ben },
  'member.role': { type: 'member.role', userId: ben, role: 'admin' },
  'block.set': { type: 'block.set', userId: ben, blocked: true },
  'message.send': { type: 'message.send', clientMessageId: idOf(1, 'd'), content: 'x' },
  'chat.send': { type: 'chat.send', clientMessageId: idOf(1, 'd'), content: 'x' },
  'chat.stop': { type: 'chat.stop', messageId: idOf(2) },
  'message.status': { type: 'message.status', clientMessageId: idOf(1, 'd') },
  'room.join': { type: 'room.join', afterSeq: 0 },
  'typing.start': { type: 'typing.start' },
  'typing.stop': { type: 'typing.stop' },
  'receipt.read': { type: 'receipt.read', seq: 1 },
  'receipt.delivered': { type: 'receipt.delivered', seq: 1 },
  'message.edit': { type: 'message.edit', messageId: idOf(2), content: 'y' },
  'message.delete': { type: 'message.delete', messageId: idOf(2) },
  'reaction.add': { type: 'reaction.add', messageId: idOf(2), emoji: '👍' },
  'reaction.remove': { type: 'reaction.remove', messageId: idOf(2), emoji: '👍' },
  'tool.decide': { type: 'tool.decide', callId: 'c', decision: 'approve' },
}

const notServed = {
  absent: 'VALIDATION',
  dm: 'VALIDATION',
  blocked: 'VALIDATION',
  group: 'VALIDATION',
  ai: 'VALIDATION',
  deleted: 'VALIDATION',
}

/** ack, dup, an error's code, or the kind of the first letter; '-' for nothing. */
const table: Record<CommandType, Record<Phase, string>> = {
  'conversation.create': { absent: 'ack', dm: 'dup', blocked: 'dup', group: 'dup', ai: 'dup', deleted: 'NOT_FOUND' },
  'conversation.update': {
    absent: 'NOT_FOUND',
    dm: 'FORBIDDEN',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'ack',
    deleted: 'NOT_FOUND',
  },
  'conversation.delete': {
    absent: 'NOT_FOUND',
    dm: 'FORBIDDEN',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'ack',
    deleted: 'NOT_FOUND',
  },
  'member.add': {
    absent: 'NOT_FOUND',
    dm: 'FORBIDDEN',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'FORBIDDEN',
    deleted: 'NOT_FOUND',
  },
  'member.remove': {
    absent: 'NOT_FOUND',
    dm: 'FORBIDDEN',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'NOT_FOUND',
    deleted: 'NOT_FOUND',
  },
  'member.role': {
    absent: 'NOT_FOUND',
    dm: 'FORBIDDEN',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'NOT_FOUND',
    deleted: 'NOT_FOUND',
  },
  'block.set': {
    absent: 'ack',
    dm: 'ack',
    blocked: 'ack',
    group: 'VALIDATION',
    ai: 'VALIDATION',
    deleted: 'VALIDATION',
  },
  'message.send': {
    absent: 'NOT_FOUND',
    dm: 'ack',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'ack',
    deleted: 'NOT_FOUND',
  },
  'chat.send': {
    absent: 'NOT_FOUND',
    dm: 'VALIDATION',
    blocked: 'FORBIDDEN',
    group: 'ack',
    ai: 'ack',
    deleted: 'NOT_FOUND',
  },
  'chat.stop': {
    absent: 'NOT_FOUND',
    dm: 'NOT_FOUND',
    blocked: 'NOT_FOUND',
    group: 'NOT_FOUND',
    ai: 'NOT_FOUND',
    deleted: 'NOT_FOUND',
  },
  'message.status': {
    absent: 'NOT_FOUND',
    dm: 'NOT_FOUND',
    blocked: 'NOT_FOUND',
    group: 'NOT_FOUND',
    ai: 'NOT_FOUND',
    deleted: 'NOT_FOUND',
  },
  'room.join': { absent: 'NOT_FOUND', dm: 'join', blocked: 'join', group: 'join', ai: 'join', deleted: 'NOT_FOUND' },
  'typing.start': {
    absent: 'NOT_FOUND',
    dm: 'typing',
    blocked: '-',
    group: 'typing',
    ai: 'typing',
    deleted: 'NOT_FOUND',
  },
  'typing.stop': { absent: 'NOT_FOUND', dm: '-', blocked: '-', group: '-', ai: '-', deleted: 'NOT_FOUND' },
  'receipt.read': {
    absent: 'NOT_FOUND',
    dm: 'receipt',
    blocked: 'user',
    group: 'receipt',
    ai: 'receipt',
    deleted: 'NOT_FOUND',
  },
  'receipt.delivered': { absent: '-', dm: 'receipt', blocked: 'user', group: 'receipt', ai: 'receipt', deleted: '-' },
  'message.edit': notServed,
  'message.delete': notServed,
  'reaction.add': notServed,
  'reaction.remove': notServed,
  'tool.decide': {
    absent: 'NOT_FOUND',
    dm: 'NOT_FOUND',
    blocked: 'NOT_FOUND',
    group: 'NOT_FOUND',
    ai: 'NOT_FOUND',
    deleted: 'NOT_FOUND',
  },
}

function outcome(effects: readonly Effect[]): string {
  const answers = effects.filter(e => e.kind === 'answer')
  const [first] = answers
  if (first) {
    assert.equal(answers.length, 1)
    if (first.frame.type === 'error') return first.frame.code
    return first.frame.type === 'ack' && first.frame.duplicate ? 'dup' : 'ack'
  }
  return effects[0]?.kind ?? '-'
}

for (const phase of Object.keys(make) as Phase[]) {
  test(`[M9] the table holds for a member in: ${phase}`, () => {
    for (const type of Object.keys(commands) as CommandType[]) {
      const effects = make[phase]().as(ann, commands[type], { stored: null, blocks: [] })
      // A look-up that found an event answers event commands before any rule; here none did.
      assert.equal(outcome(effects), table[type][phase], `${type} in ${phase}`)
    }
  })
  test(`[M9] nothing is shown to a stranger in: ${phase}`, () => {
    for (const type of Object.keys(commands) as CommandType[]) {
      const effects = make[phase]().as(dan, commands[type], { stored: null, blocks: [] })
      const answer = outcome(effects)
      assert.ok(['NOT_FOUND', 'VALIDATION', '-'].includes(answer), `${type} in ${phase}: ${answer}`)
      assert.equal(
        effects.some(e => e.kind === 'append' || e.kind === 'side'),
        false,
      )
    }
  })
}
