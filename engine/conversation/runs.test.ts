/** Turns of the assistant, as SPEC.md has them. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { assistantId } from '#protos/ids.ts'
import { letterFlags } from '#protos/letter.ts'
import { mentionsAssistant } from '#protos/mention.ts'
import type { Effect } from './effects.ts'
import { ann, answer, answers, ben, cat, idOf, kinds, Scenario, utf8Bytes } from './fixtures/scenario.ts'
import { answerClientId, runIdOf } from './runs.ts'

const last = (s: Scenario) => JSON.parse(s.rows.at(-1)!.body) as Record<string, unknown>
const dones = (effects: readonly Effect[]) => effects.flatMap(e => (e.kind === 'done' ? [e.frame] : []))
const places = (effects: readonly Effect[]) =>
  effects.flatMap(e =>
    e.kind === 'user' && e.frame.type === 'chat.queued' ? [[e.userId, e.frame.clientMessageId, e.frame.position]] : [],
  )

test('[T1] a question queues one run with the ids that follow from it', () => {
  const s = Scenario.ai()
  const effects = s.chat(ann, 'hi', 1)
  assert.deepEqual(kinds(effects), ['message.new', 'ack', 'side'])
  const [run] = s.state.runs
  assert.equal(run!.id, runIdOf(s.rows.at(-1)!.messageId, s.world))
  assert.notEqual(run!.answerId, run!.questionId)
  assert.deepEqual(s.sides.at(-1), {
    kind: 'run.queued',
    run: {
      id: run!.id,
      requester: ann,
      questionId: s.rows.at(-1)!.messageId,
      questionSeq: 2,
      clientMessageId: idOf(1, 'd'),
      answerId: run!.answerId,
      status: 'queued',
      trace: 'tr',
      createdAt: s.at,
    },
  })
  const started = s.run({ kind: 'run.start', runId: run!.id, model: 'm' })
  assert.deepEqual(kinds(started), ['chat.started', 'side', 'run.begin', 'typing'])
  assert.deepEqual(last(s), { messageId: run!.answerId, inReplyTo: 2, requestedBy: ann, model: 'm', traceId: 'tr' })
})

test('[T2] a dm has no assistant', () => {
  const refused = answer(Scenario.dm().chat(ann, 'hi', 1))
  assert.deepEqual([refused['code'], refused['field']], ['VALIDATION', 'conversationId'])
  const s = Scenario.dm()
  s.send(ann, '@assistant hi', 2)
  assert.equal(s.state.runs.length, 0)
})

test('[T3] a mention is a word of its own, in any case, once', () => {
  for (const yes of ['@assistant', 'hey @Assistant, x', '(@ASSISTANT)', '@assistant @assistant', 'ask @assistant.'])
    assert.equal(mentionsAssistant(yes), true, yes)
  for (const no of ['assistant', '@assistants', 'a@assistant', '@assistant_x', '@assistänt', 'é@assistant'])
    assert.equal(mentionsAssistant(no), false, no)
  const s = Scenario.group()
  s.send(ben, 'so @Assistant and @assistant', 1)
  s.send(ben, 'no mention', 2)
  assert.equal(s.state.runs.length, 1)
  const ai = Scenario.ai()
  ai.send(ann, 'just a note', 1)
  assert.equal(ai.state.runs.length, 0)
})

test('[T4] one runs, five wait, the next is BUSY; a mention is stored all the same', () => {
  const s = Scenario.group()
  for (let i = 1; i <= 6; i++) assert.equal(answer(s.chat(ann, `q${i}`, i)).type, 'ack')
  const busy = answer(s.chat(ann, 'q7', 7))
  assert.deepEqual([busy['code'], busy['retryable'], typeof busy['retryAfterMs']], ['BUSY', true, 'number'])
  const effects = s.send(ann, '@assistant too', 8)
  assert.deepEqual(kinds(effects), ['message.new', 'ack', 'error'])
  const error = effects.at(-1)!
  assert.ok(error.kind === 'user' && error.only && error.frame.type === 'error')
  assert.deepEqual([error.frame.code, error.frame.messageId], ['BUSY', s.rows.at(-1)!.messageId])
  assert.deepEqual(kinds(s.send(ann, '@assistant by REST', 9, { socket: 0 })), ['message.new', 'ack'])
  assert.equal(s.state.runs.length, 6)
})

test('[T5] whoever waits is told the place, and each move', () => {
  const s = Scenario.group()
  assert.deepEqual(places(s.chat(ann, 'q1', 1)), [])
  assert.deepEqual(places(s.chat(ben, 'q2', 2)), [[ben, idOf(2, 'd'), 2]])
  const run = s.state.runs[0]!.id
  assert.deepEqual(places(s.run({ kind: 'run.waiting', runId: run })), [[ann, idOf(1, 'd'), 1]])
  assert.deepEqual(places(s.run({ kind: 'run.waiting', runId: run })), [])
  assert.deepEqual(places(s.run({ kind: 'run.start', runId: run, model: 'm' })), [[ben, idOf(2, 'd'), 1]])
  assert.deepEqual(places(s.chat(cat, 'q3', 3)), [[cat, idOf(3, 'd'), 2]])
  assert.deepEqual(places(s.as(cat, { type: 'chat.stop', messageId: s.state.runs[1]!.answerId })), [
    [cat, idOf(3, 'd'), 1],
  ])
})

test('[T6] deltas are contiguous segments in UTF-8 bytes, and make up the answer', () => {
  const s = Scenario.ai()
  s.chat(ann, 'hi', 1)
  const run = s.start()
  const pieces = ['héllo ', '🙂', ' 漢字']
  const deltas: Effect[] = []
  for (const text of pieces) {
    const effects = s.run({ kind: 'run.delta', runId: run, text })
    assert.deepEqual(kinds(effects).slice(0, 2), ['segment', 'delta'])
    deltas.push(effects[1]!)
  }
  let offset = 0
  for (const [i, d] of deltas.entries()) {
    assert.ok(d.kind === 'delta')
    assert.deepEqual([d.offset, d.text, d.bytes], [offset, pieces[i], utf8Bytes(pieces[i]!)])
    offset += d.bytes
  }
  const effects = s.end(run, 'stop', ' end')
  assert.deepEqual(kinds(effects), ['segment', 'delta', 'message.new', 'side', 'done'])
  const content = `${pieces.join('')} end`
  assert.equal(last(s)['content'], content)
  assert.equal(s.segments.map(x => x.text).join(''), content)
})

test('[T7] stopping a running turn aborts it; every stop is acked with the answer', () => {
  const s = Scenario.group()
  s.chat(ann, 'hi', 1)
  const run = s.start()
  const { answerId, questionId } = s.state.runs[0]!
  s.run({ kind: 'run.delta', runId: run, text: 'part' })
  assert.deepEqual(s.as(ben, { type: 'chat.stop', messageId: answerId }), [{ kind: 'run.abort', runId: run }])
  s.as(ann, { type: 'chat.stop', messageId: questionId })
  const effects = s.end(run, 'stopped')
  assert.deepEqual(
    answers(effects).map(a => [a['messageId'], a['seq'], a['duplicate']]),
    [
      [answerId, 6, false],
      [answerId, 6, false],
    ],
  )
  assert.deepEqual([last(s)['content'], last(s)['finish']], ['part', 'stopped'])
})

test('[T5] only turns behind the one that went are told that they moved', () => {
  const s = Scenario.group()
  for (let n = 1; n <= 4; n++) s.chat(n % 2 ? ann : ben, `q${n}`, n)
  s.start()
  // Queued: 2, 3, 4.
  const stopped = s.as(cat, { type: 'chat.stop', messageId: s.state.runs[2]!.answerId })
  assert.deepEqual(places(stopped), [[ben, idOf(4, 'd'), 2]])
  const last = s.as(cat, { type: 'chat.stop', messageId: s.state.runs[2]!.answerId })
  assert.deepEqual(places(last), [])
})

test('[T8] stopping a queued turn ends it without a start', () => {
  const s = Scenario.group()
  s.chat(ann, 'q1', 1)
  s.start()
  s.chat(ben, 'q2', 2)
  const { answerId, questionId } = s.state.runs[1]!
  const effects = s.as(cat, { type: 'chat.stop', messageId: questionId })
  assert.deepEqual(kinds(effects), ['message.new', 'side', 'done', 'ack'])
  assert.deepEqual([last(s)['content'], last(s)['finish'], last(s)['messageId']], ['', 'stopped', answerId])
  assert.equal(s.rows.filter(r => r.kind === 'chat.started').length, 1)
})

test('[T9] a turn ends once: one answer, one chat.done with its bytes and hash; late events change nothing', () => {
  const s = Scenario.ai()
  s.chat(ann, 'hi', 1)
  const run = s.start()
  const { answerId } = s.state.runs[0]!
  const [done] = dones(s.end(run, 'stop', 'héllo'))
  assert.deepEqual(done, {
    type: 'chat.done',
    conversationId: s.state.id,
    messageId: answerId,
    seq: s.state.head,
    finish: 'stop',
    tokens: { input: 1, output: 2, total: 3 },
    bytes: 6,
    sha256: createHash('sha256').update('héllo').digest('hex'),
  })
  assert.deepEqual(last(s), {
    messageId: answerId,
    senderId: assistantId,
    role: 'assistant',
    content: 'héllo',
    tokens: { input: 1, output: 2, total: 3 },
    finish: 'stop',
    inReplyTo: 2,
    traceId: 'tr',
  })
  assert.equal(s.rows.at(-1)!.clientId, answerClientId(run, s.world))
  for (const late of [s.end(run), s.run({ kind: 'run.delta', runId: run, text: 'x' })]) assert.deepEqual(late, [])
  assert.deepEqual(s.run({ kind: 'run.start', runId: run, model: 'm' }), [])
})

test('[T10] stopping an ended turn is a duplicate; an unknown one is looked up first', () => {
  const s = Scenario.ai()
  s.chat(ann, 'hi', 1)
  const run = s.start()
  const { answerId, questionId } = s.state.runs[0]!
  s.end(run)
  for (const messageId of [answerId, questionId]) {
    const again = answer(s.as(ann, { type: 'chat.stop', messageId }))
    assert.deepEqual([again['messageId'], again['seq'], again['duplicate']], [answerId, 4, true])
  }
  const stop = { type: 'chat.stop' as const, messageId: idOf(50) }
  assert.deepEqual(s.as(ann, stop), [{ kind: 'ask', what: 'stored' }])
  assert.equal(answer(s.as(ann, stop, { stored: null }))['code'], 'NOT_FOUND')
  const stored = { seq: 4, messageId: answerId, kind: 'message.new', bodyHash: '00'.repeat(32) }
  assert.deepEqual(answer(s.as(ann, stop, { stored }))['seq'], 4)
})

test('[T11] a failure is told to the requester before the answer', () => {
  const s = Scenario.ai()
  s.chat(ann, 'hi', 1)
  const effects = s.end(s.start(), 'failed', '', 'connect')
  assert.deepEqual(kinds(effects), ['error', 'message.new', 'side', 'done', 'typing'])
  const [error] = effects
  assert.ok(error?.kind === 'user' && error.frame.type === 'error')
  assert.deepEqual([error.userId, error.frame.code, error.frame.reason], [ann, 'UPSTREAM', 'connect'])
})

test('[Y4] the assistant types while its turn has shown nothing', () => {
  const s = Scenario.ai()
  s.chat(ann, 'hi', 1)
  const run = s.state.runs[0]!.id
  const typing = (effects: Effect[]) => effects.flatMap(e => (e.kind === 'typing' ? [[e.userId, e.on]] : []))
  assert.deepEqual(typing(s.run({ kind: 'run.start', runId: run, model: 'm' })), [[assistantId, true]])
  s.wait(5000)
  assert.deepEqual(typing(s.tick()), [[assistantId, true]])
  assert.deepEqual(typing(s.run({ kind: 'run.delta', runId: run, text: 'x' })), [[assistantId, false]])
  assert.deepEqual(typing(s.end(run)), [])
})

test('[M5] membership marks are what the hub needs: subject and order', () => {
  // The flag itself is set by the interpreter from the subject; its bit must not move.
  assert.equal(letterFlags.membership, 4)
  const s = Scenario.group()
  const left = s.as(ben, { type: 'member.remove', userId: ben }).find(e => e.kind === 'append')
  assert.ok(left?.kind === 'append')
  assert.equal(left.subject, ben)
})
