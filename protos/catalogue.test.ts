/** Every kind of envelope: a good one passes and is normalised, each bad field is named, nothing unknown slips in. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { catalogue, checkServerFrame, clientTypes, durableTypes, parseClientFrame, parseCommand } from './catalogue.ts'
import { contentCharsMax, presenceWatchMax, requestIdCharsMax } from './limits.ts'

const upper = '6BA7B810-9DAD-11D1-80B4-00C04FD430C8'
const id = upper.toLowerCase()
const ts = '2026-01-02T03:04:05.678Z'

/** A good value for every field by its name. */
const good: Record<string, unknown> = {
  token: 'jwt',
  conversationId: id,
  clientMessageId: id,
  messageId: id,
  userId: id,
  senderId: id,
  id,
  by: id,
  content: 'hello',
  replyTo: 3,
  afterSeq: 0,
  seq: 5,
  attachments: [],
  emoji: '👍',
  callId: 'c1',
  decision: 'approve',
  userIds: [id],
  kind: 'group',
  title: 'Room',
  toolPolicy: 'admins',
  role: 'member',
  members: [{ userId: id, role: 'owner' }],
  blocked: true,
  added: true,
  requestedBy: id,
  model: 'm',
  inReplyTo: 1,
  finish: 'stop',
  tokens: { input: 1, output: 2, total: 3 },
  bytes: 5,
  sha256: 'a'.repeat(64),
  sessionId: id,
  serverTime: ts,
  heartbeatMs: 15_000,
  conversations: [],
  others: [],
  headSeq: 1,
  firstSeq: 1,
  position: 1,
  offset: 0,
  on: true,
  status: 'online',
  lastSeen: null,
  reason: 'too_far',
  reconnectInMs: 5,
  conversation: { id, type: 'dm', headSeq: 0 },
  code: 'SERVER',
  message: 'text',
  retryable: true,
}
const special: Record<string, Record<string, unknown>> = {
  'message.new': { role: 'assistant' },
  'tool.decided': { status: 'success' },
  'tool.called': { status: 'success' },
  'tool.returned': { status: 'success' },
}

function example(table: Record<string, Record<string, object>>, type: string): Record<string, unknown> {
  const frame: Record<string, unknown> = { type }
  for (const [name, field] of Object.entries(table[type]!)) {
    const isOptional = 'optional' in field
    const value = special[type]?.[name] ?? good[name]
    if (value === undefined && isOptional) continue
    assert.notEqual(value, undefined, `no example for ${type}.${name}`)
    if (isOptional && !(name in { ...special[type], replyTo: 1, afterSeq: 1, title: 1 })) continue
    frame[name] = value
  }
  return frame
}

const client = catalogue.client as unknown as Record<string, Record<string, object>>
const internal = catalogue.internal as unknown as Record<string, Record<string, object>>
const server = { ...catalogue.durable, ...catalogue.fleeting } as unknown as Record<string, Record<string, object>>
const fieldOf = (source: unknown) => {
  const parsed = parseClientFrame(typeof source === 'string' ? source : JSON.stringify(source))
  return 'frame' in parsed ? 'accepted' : (parsed.field ?? 'no field')
}
const send = (over: Record<string, unknown>) => ({
  type: 'message.send',
  conversationId: id,
  clientMessageId: id,
  content: 'x',
  ...over,
})

test('C1 a good frame of every client type is accepted, with its requestId and traceId', () => {
  assert.equal(clientTypes.length, 17)
  for (const type of clientTypes) {
    const frame = { ...example(client, type), requestId: 'r', traceId: 't' }
    const parsed = parseClientFrame(JSON.stringify(frame))
    assert.ok('frame' in parsed, `${type}: ${JSON.stringify(parsed)}`)
    assert.deepEqual({ ...parsed.frame }, frame)
  }
})

test('C2 without a field that is required, or with one that is unknown, a frame names that field', () => {
  for (const type of clientTypes) {
    const frame = example(client, type)
    for (const [name, field] of Object.entries(client[type]!)) {
      if ('optional' in field) continue
      const { [name]: _, ...rest } = frame
      assert.equal(fieldOf(rest), name, type)
      assert.equal(fieldOf({ ...frame, [name]: null }), name, type)
      assert.equal(fieldOf({ ...frame, [name]: { a: 1 } }), name, type)
    }
    for (const extra of ['v', 'constructor', 'toString', 'senderId', 'ts', 'epoch', 'lastSeq']) {
      assert.equal(fieldOf({ ...frame, [extra]: 'x' }), extra, type)
    }
    assert.equal(fieldOf(`{"__proto__":{"a":1},${JSON.stringify(frame).slice(1)}`), '__proto__', type)
  }
})

test('C3 what is no JSON object, or nests too deep, has no field to name', () => {
  const sources = [
    '',
    '{',
    '{"type":"ping",}',
    '{"type":"ping"} {}',
    '/* */{}',
    'NaN',
    '[]',
    '"ping"',
    '5',
    'null',
    'true',
  ]
  for (const source of sources) assert.equal(fieldOf(source), 'no field', source)
  assert.equal(fieldOf('['.repeat(60_000)), 'no field')
  assert.equal(fieldOf(`{"type":"ping","a":${'['.repeat(16)}${']'.repeat(16)}}`), 'no field')
  assert.equal(fieldOf(`{"type":"ping","a":${'['.repeat(15)}${']'.repeat(15)}}`), 'a')
  assert.equal(fieldOf(`{"type":"ping","requestId":"${'['.repeat(40)}\\""}`), 'accepted')
})

test('C4 a type that is unknown, missing or inherited is field type', () => {
  for (const type of ['nope', '', 'toString', '__proto__', 'constructor', 5, null, ['ping'], 'ack', 'member.add']) {
    assert.equal(fieldOf({ type }), 'type', String(type))
  }
  assert.equal(fieldOf({}), 'type')
})

test('C5 of duplicate keys the last counts', () => {
  const parsed = parseClientFrame(`{"type":"ping","type":"typing.start","conversationId":"x","conversationId":"${id}"}`)
  assert.ok('frame' in parsed)
  assert.equal(parsed.frame.type, 'typing.start')
})

test('C6 ids: any version and nil, lowered; nothing else', () => {
  const parsed = parseClientFrame(JSON.stringify(send({ conversationId: upper })))
  assert.ok('frame' in parsed && parsed.frame.type === 'message.send')
  assert.equal(parsed.frame.conversationId, id)
  assert.equal(fieldOf(send({ clientMessageId: '00000000-0000-0000-0000-000000000000' })), 'accepted')
  for (const wrong of ['', 'x', `{${id}}`, `${id}0`, `${id} `, [id], 7, null, {}]) {
    assert.equal(fieldOf(send({ clientMessageId: wrong })), 'clientMessageId', JSON.stringify(wrong))
  }
})

test('C7 numbers: safe integers; −0 and 5.0 are 0 and 5', () => {
  const join = (afterSeq: string) => `{"type":"room.join","conversationId":"${id}","afterSeq":${afterSeq}}`
  for (const wrong of ['-1', '1.5', '"5"', '9007199254740992', '1e400', 'null', 'true', '[1]']) {
    assert.equal(fieldOf(join(wrong)), 'afterSeq', wrong)
  }
  for (const [text, value] of [
    ['-0', 0],
    ['5.0', 5],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ] as const) {
    const parsed = parseClientFrame(join(text))
    assert.ok('frame' in parsed && parsed.frame.type === 'room.join')
    assert.ok(Object.is(parsed.frame.afterSeq, value), text)
  }
})

test('C8 content: code points and bytes both have limits, and only what can be stored passes', () => {
  const accepted = ['x', ' x ', 'a'.repeat(contentCharsMax), '😀'.repeat(contentCharsMax), '\t.', 'e\u0301']
  const refused = [
    '',
    ' \n\t',
    '\u00a0',
    'a'.repeat(contentCharsMax + 1),
    '😀'.repeat(contentCharsMax + 1),
    5,
    null,
    ['x'],
  ]
  for (const content of accepted) assert.equal(fieldOf(send({ content })), 'accepted', String(content).slice(0, 9))
  for (const content of refused) assert.equal(fieldOf(send({ content })), 'content', String(content).slice(0, 9))
  for (const written of ['\\u0000', 'a\\ud800', '\\udc00b', '\\ud83dx']) {
    const frame = `{"type":"message.send","conversationId":"${id}","clientMessageId":"${id}","content":"${written}"}`
    assert.equal(fieldOf(frame), 'content', written)
  }
  const paired = `{"type":"message.send","conversationId":"${id}","clientMessageId":"${id}","content":"\\ud83d\\ude00"}`
  assert.equal(fieldOf(paired), 'accepted')
})

test('C9 requestId, traceId, emoji and lists keep their limits', () => {
  assert.equal(fieldOf({ type: 'ping', requestId: '😀'.repeat(requestIdCharsMax) }), 'accepted')
  assert.equal(fieldOf({ type: 'ping', requestId: 'r'.repeat(requestIdCharsMax + 1) }), 'requestId')
  assert.equal(fieldOf({ type: 'ping', requestId: 5 }), 'requestId')
  assert.equal(fieldOf({ type: 'ping', traceId: 't'.repeat(65) }), 'traceId')
  const react = (emoji: unknown) => ({ type: 'reaction.add', conversationId: id, messageId: id, emoji })
  for (const emoji of ['👍', '🏳️‍🌈', 'ok']) assert.equal(fieldOf(react(emoji)), 'accepted')
  for (const emoji of ['', ' ', 'a b', '\u0007', 'a'.repeat(17), 1]) assert.equal(fieldOf(react(emoji)), 'emoji')
  const watch = (count: number) => ({ type: 'presence.watch', userIds: Array.from({ length: count }, () => id) })
  assert.equal(fieldOf(watch(presenceWatchMax)), 'accepted')
  assert.equal(fieldOf(watch(0)), 'accepted')
  assert.equal(fieldOf(watch(presenceWatchMax + 1)), 'userIds')
  assert.equal(fieldOf(send({ attachments: Array.from({ length: 11 }, () => id) })), 'attachments')
})

test('C10 a command is what concerns a conversation: client frames and internal ones, nothing of a socket', () => {
  for (const type of [...clientTypes, ...Object.keys(internal)]) {
    const isCommand = !['auth', 'ping', 'presence.watch', 'room.leave'].includes(type)
    const parsed = parseCommand(JSON.stringify(example({ ...client, ...internal }, type)))
    assert.equal('frame' in parsed, isCommand, type)
  }
  for (const type of Object.keys(internal)) assert.equal(fieldOf(example(internal, type)), 'type')
})

test('C11 every server frame has an example that passes, and is refused without ts or with a stray field', () => {
  for (const type of Object.keys(server)) {
    const isDurable = (durableTypes as string[]).includes(type)
    const frame = { ...example(server, type), ts, ...(isDurable ? { conversationId: id, seq: 5 } : {}) }
    const parsed = checkServerFrame(frame)
    assert.ok('frame' in parsed, `${type}: ${JSON.stringify(parsed)}`)
    assert.ok(!('frame' in checkServerFrame({ ...frame, ts: undefined })), type)
    assert.ok(!('frame' in checkServerFrame({ ...frame, stray: 1 })), type)
    if (isDurable) assert.ok(!('frame' in checkServerFrame({ ...frame, seq: 0 })), type)
  }
})

test('C12 what a check was given stays as it was, however deep the id that it lowers', () => {
  const views = [{ seq: 1, count: -0 }]
  const frame = { type: 'receipt.updated', ts, conversationId: id, userId: undefined, readSeq: 1, views }
  const parsed = checkServerFrame(frame)
  assert.ok('frame' in parsed && parsed.frame.type === 'receipt.updated')
  assert.ok(Object.is(parsed.frame.views?.[0]?.count, 0))
  assert.ok(Object.is(views[0]!.count, -0))
  assert.ok(!('userId' in parsed.frame) && 'userId' in frame)
  const added = {
    type: 'conversation.added',
    ts,
    conversationId: id,
    conversation: { id: upper, type: 'dm', headSeq: 0 },
  }
  const lowered = checkServerFrame(added)
  assert.ok('frame' in lowered && lowered.frame.type === 'conversation.added')
  assert.deepEqual([lowered.frame.conversation.id, added.conversation.id], [id, upper])
  const sent = parseClientFrame(JSON.stringify(send({ attachments: [id, upper] })))
  assert.ok('frame' in sent && sent.frame.type === 'message.send')
  assert.deepEqual(sent.frame.attachments, [id, id])
})
