/** Creation, members, settings, deletion and blocks, as SPEC.md has them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assistantId, dmId } from '#protos/ids.ts'
import { ann, answer, ben, cat, dan, idOf, kinds, Scenario, sha1 } from './fixtures/scenario.ts'

const dmMembers = [
  { userId: ann, role: 'member' as const },
  { userId: ben, role: 'member' as const },
]

test('[C1] creation appends the creator first, then the others; the ack names the first', () => {
  const s = Scenario.group(ann, [cat, ben])
  assert.deepEqual(
    s.rows.map(r => [r.kind, JSON.parse(r.body).userId, JSON.parse(r.body).role]),
    [
      ['room.member_joined', ann, 'owner'],
      ['room.member_joined', cat, 'member'],
      ['room.member_joined', ben, 'member'],
    ],
  )
  assert.equal(s.sides.length, 1)
})

test('[C2] creating what exists is a duplicate for a member and nothing for others', () => {
  const s = Scenario.group()
  const create = {
    type: 'conversation.create' as const,
    kind: 'group' as const,
    members: [{ userId: ann, role: 'owner' as const }],
  }
  assert.deepEqual([answer(s.as(ann, create))['duplicate'], answer(s.as(ann, create))['seq']], [true, 1])
  assert.equal(answer(s.as(dan, create))['code'], 'NOT_FOUND')
})

test('[C3] a dm is its two people, and a block either way forbids it', () => {
  const create = { type: 'conversation.create' as const, kind: 'dm' as const, members: dmMembers }
  const s = new Scenario(dmId(ann, ben, sha1))
  assert.deepEqual(s.as(ann, create), [{ kind: 'ask', what: 'blocks' }])
  assert.equal(answer(s.as(ann, create, { blocks: [`${ben}>${ann}`] }))['code'], 'FORBIDDEN')
  assert.equal(answer(s.as(ann, create, { blocks: [] })).type, 'ack')
  const wrong = new Scenario(idOf(9, 'c'))
  assert.equal(answer(wrong.as(ann, create, { blocks: [] }))['field'], 'conversationId')
  const withAssistant = [dmMembers[0]!, { userId: assistantId, role: 'member' as const }]
  assert.equal(answer(wrong.as(ann, { ...create, members: withAssistant }))['code'], 'FORBIDDEN')
  assert.equal(answer(wrong.as(ann, { ...create, members: [dmMembers[0]!] }))['field'], 'members')
  assert.equal(answer(wrong.as(ben, create))['field'], 'members')
})

test('[C4] everybody hears conversation.added with headSeq 0 before the events', () => {
  const s = new Scenario(idOf(9, 'c'))
  const members = [
    { userId: ann, role: 'owner' as const },
    { userId: ben, role: 'admin' as const },
  ]
  const effects = s.as(ann, { type: 'conversation.create', kind: 'group', members })
  assert.deepEqual(kinds(effects), [
    'conversation.added',
    'conversation.added',
    'side',
    'room.member_joined',
    'room.member_joined',
    'ack',
  ])
  assert.deepEqual(
    effects.flatMap(e => (e.kind === 'user' ? [[e.userId, e.headSeq]] : [])),
    [
      [ann, 0],
      [ben, 0],
    ],
  )
})

test('[C5] ai and group have a default title, a dm has none', () => {
  assert.equal(Scenario.ai().state.title, 'New Conversation')
  assert.equal(Scenario.group().state.title, 'Room')
  assert.equal(Scenario.dm().state.title, null)
})

test('[C6] managers change settings; what does not change is a duplicate', () => {
  const s = Scenario.group()
  assert.equal(answer(s.as(ben, { type: 'conversation.update', title: 'B' }))['code'], 'FORBIDDEN')
  const effects = s.as(ann, { type: 'conversation.update', title: 'B', toolPolicy: 'members' })
  assert.deepEqual(kinds(effects), ['room.updated', 'side', 'ack'])
  assert.deepEqual(JSON.parse(s.rows.at(-1)!.body), { title: 'B', toolPolicy: 'members', by: ann, traceId: 'tr' })
  assert.equal(answer(s.as(ann, { type: 'conversation.update', title: 'B' }))['duplicate'], true)
  assert.equal(answer(Scenario.dm().as(ann, { type: 'conversation.update', title: 'B' }))['code'], 'FORBIDDEN')
})

test('[C7] deletion ends turns, tells members, and leaves nothing to be found', () => {
  const s = Scenario.group()
  s.chat(ann, 'q1', 1)
  const run = s.start()
  s.run({ kind: 'run.delta', runId: run, text: 'so far' })
  s.chat(ben, 'q2', 2)
  assert.equal(answer(s.as(ben, { type: 'conversation.delete' }))['code'], 'FORBIDDEN')
  const effects = s.as(ann, { type: 'conversation.delete' })
  assert.equal(effects.filter(e => e.kind === 'user' && e.frame.type === 'conversation.removed').length, 3)
  assert.deepEqual(
    s.rows.slice(-2).map(r => [JSON.parse(r.body).content, JSON.parse(r.body).finish]),
    [
      ['so far', 'stopped'],
      ['', 'stopped'],
    ],
  )
  for (const user of [ann, ben]) assert.equal(answer(s.send(user, 'x', 9))['code'], 'NOT_FOUND')
  assert.equal(answer(Scenario.dm().as(ann, { type: 'conversation.delete' }))['code'], 'FORBIDDEN')
})

test('[C8] a deletion taken again finds its own work done', () => {
  const s = Scenario.group()
  s.as(ann, { type: 'conversation.delete' })
  assert.equal(answer(s.as(ann, { type: 'conversation.delete' }))['code'], 'NOT_FOUND')
  assert.equal(answer(s.as(ann, { type: 'conversation.delete' }, { isAgain: true }))['duplicate'], true)
})

test('[M1] the added user hears of it before the event, numbering starts there', () => {
  const s = Scenario.group()
  assert.equal(answer(s.as(ben, { type: 'member.add', userId: dan, role: 'member' }))['code'], 'FORBIDDEN')
  const effects = s.as(ann, { type: 'member.add', userId: dan, role: 'admin' })
  assert.deepEqual(kinds(effects), ['conversation.added', 'room.member_joined', 'side', 'ack'])
  const [added] = effects
  assert.ok(added?.kind === 'user' && added.userId === dan && added.headSeq === 3)
  assert.equal(answer(s.send(dan, 'hi', 1))['seq'], 5)
})

test('[M2] adding a member again is a duplicate with the joining seq', () => {
  const s = Scenario.group()
  const again = answer(s.as(ann, { type: 'member.add', userId: ben, role: 'member' }))
  assert.deepEqual([again['seq'], again['duplicate']], [2, true])
})

test('[M3] members of a dm and of an ai conversation are fixed', () => {
  for (const s of [Scenario.dm(), Scenario.ai()]) {
    assert.equal(answer(s.as(ann, { type: 'member.add', userId: dan, role: 'member' }))['code'], 'FORBIDDEN')
  }
  assert.equal(answer(Scenario.dm().as(ann, { type: 'member.remove', userId: ann }))['code'], 'FORBIDDEN')
  assert.equal(answer(Scenario.dm().as(ann, { type: 'member.role', userId: ben, role: 'admin' }))['code'], 'FORBIDDEN')
})

test('[M4] the assistant is no member', () => {
  const s = Scenario.group()
  assert.equal(answer(s.as(ann, { type: 'member.add', userId: assistantId, role: 'member' }))['code'], 'FORBIDDEN')
  assert.equal(answer(s.as(ann, { type: 'member.remove', userId: assistantId }))['code'], 'NOT_FOUND')
})

test('[M5] the removed user gets the event, then the notice; owners stay; anybody leaves', () => {
  const s = Scenario.group()
  const effects = s.as(ann, { type: 'member.remove', userId: cat })
  assert.deepEqual(kinds(effects), ['room.member_left', 'side', 'conversation.removed', 'ack'])
  assert.equal(answer(s.as(ben, { type: 'member.remove', userId: ann }))['code'], 'FORBIDDEN')
  s.as(ann, { type: 'member.role', userId: ben, role: 'admin' })
  assert.equal(answer(s.as(ben, { type: 'member.remove', userId: ann }))['code'], 'FORBIDDEN')
  assert.equal(answer(s.as(ben, { type: 'member.remove', userId: ben })).type, 'ack')
  assert.equal(answer(s.as(ann, { type: 'member.remove', userId: ben }))['code'], 'NOT_FOUND')
})

test('[M6] the last owner cannot leave', () => {
  const s = Scenario.group()
  assert.equal(answer(s.as(ann, { type: 'member.remove', userId: ann }))['code'], 'CONFLICT')
  s.as(ann, { type: 'member.role', userId: ben, role: 'owner' })
  assert.equal(answer(s.as(ann, { type: 'member.remove', userId: ann })).type, 'ack')
})

test('[M7] roles change by managers, never an owner’s, and only an owner makes owners', () => {
  const s = Scenario.group()
  const role = (by: string, userId: string, to: 'owner' | 'admin' | 'member') =>
    answer(s.as(by, { type: 'member.role', userId, role: to }))
  assert.equal(role(ben, cat, 'admin')['code'], 'FORBIDDEN')
  assert.equal(role(ann, ben, 'admin')['seq'], 4)
  assert.deepEqual([role(ann, ben, 'admin')['seq'], role(ann, ben, 'admin')['duplicate']], [4, true])
  assert.equal(role(ben, ann, 'member')['code'], 'FORBIDDEN')
  assert.equal(role(ben, cat, 'owner')['code'], 'FORBIDDEN')
  assert.equal(answer(s.as(ben, { type: 'member.add', userId: dan, role: 'owner' }))['code'], 'FORBIDDEN')
  assert.equal(role(ann, dan, 'admin')['code'], 'NOT_FOUND')
})

test('[M8] a full group refuses the next', () => {
  const s = Scenario.group(ann, [ben, cat], { groupMembersMax: 3 })
  const refused = answer(s.as(ann, { type: 'member.add', userId: dan, role: 'member' }))
  assert.equal(refused['code'], 'CONFLICT')
  assert.match(String(refused['message']), /3/)
})

test('[B1] a block needs no dm, stores a row and no event', () => {
  const s = new Scenario(dmId(ann, ben, sha1))
  const block = { type: 'block.set' as const, userId: ben, blocked: true }
  assert.deepEqual(s.as(ann, block), [{ kind: 'ask', what: 'blocks' }])
  assert.deepEqual(kinds(s.as(ann, block, { blocks: [] })), ['side', 'ack'])
  assert.equal(s.state.head, 0)
  assert.deepEqual(kinds(s.as(ann, block)), ['ack'])
  const create = { type: 'conversation.create' as const, kind: 'dm' as const, members: dmMembers.toReversed() }
  assert.equal(answer(s.as(ben, create))['code'], 'FORBIDDEN')
  assert.equal(answer(s.as(ann, { ...block, userId: cat }))['field'], 'userId')
})

test('[B2] a block forbids sends both ways; duplicates are still acked', () => {
  const s = Scenario.dm()
  s.send(ann, 'before', 1)
  s.as(ann, { type: 'block.set', userId: ben, blocked: true })
  for (const user of [ann, ben]) assert.equal(answer(s.send(user, 'after', 2))['code'], 'FORBIDDEN')
  assert.equal(answer(s.send(ann, 'before', 1))['duplicate'], true)
  assert.equal(answer(s.as(ann, { type: 'message.status', clientMessageId: idOf(1, 'd') }))['seq'], 3)
})

test('[B3] unblocking opens the dm again, unless the other blocks too', () => {
  const s = Scenario.dm()
  s.as(ann, { type: 'block.set', userId: ben, blocked: true })
  s.as(ben, { type: 'block.set', userId: ann, blocked: true })
  s.as(ann, { type: 'block.set', userId: ben, blocked: false })
  assert.equal(answer(s.send(ann, 'x', 1))['code'], 'FORBIDDEN')
  s.as(ben, { type: 'block.set', userId: ann, blocked: false })
  assert.equal(answer(s.send(ann, 'x', 1)).type, 'ack')
})
