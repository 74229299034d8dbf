/** Tools within turns: announced, decided, returned, bounded. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { approvalMsMax, toolCallsPerTurnMax, toolRoundsMax } from '#protos/limits.ts'
import { decisionHash, isAtTools } from './calls.ts'
import { ann, answer, answers, ben, cat, dan, idOf, kinds, Scenario } from './fixtures/scenario.ts'
import { stateFrom } from './state.ts'

const tokens = { input: 1, output: 2, total: 3 }
const callOf = (callId: string, approval: 'auto' | 'required' = 'auto', more = {}) => ({
  callId,
  name: 'add_task',
  arguments: `{"title":"${callId}"}`,
  hash: 'ab'.repeat(32),
  approval,
  ...more,
})
const done = (callId: string, result = '{"success":true}') => ({ callId, status: 'success' as const, result })

/** A turn of ann's in a group with ben and cat, running. */
function running() {
  const s = Scenario.group()
  s.chat(ann, 'help', 1)
  const runId = s.start()
  return {
    s,
    runId,
    call: (...calls: ReturnType<typeof callOf>[]) => s.run({ kind: 'run.called', runId, text: '', calls, tokens }),
  }
}
const last = (s: Scenario, kind: string) => JSON.parse(s.rows.findLast(r => r.kind === kind)!.body)
const decide = (s: Scenario, user: string, decision: 'approve' | 'reject', callId = 'c1', extra = {}) =>
  s.as(user, { type: 'tool.decide', callId, decision }, extra)

test('[T13] calls are announced together, each returns once, and the round is over', () => {
  const { s, runId } = running()
  const effects = s.run({
    kind: 'run.called',
    runId,
    text: 'Let me see. ',
    calls: [callOf('c1'), callOf('c2')],
    tokens,
  })
  assert.deepEqual(
    kinds(effects).filter(k => k !== 'side' && k !== 'typing'),
    ['segment', 'delta', 'tool.called', 'tool.called'],
  )
  assert.deepEqual(last(s, 'tool.called'), {
    callId: 'c2',
    messageId: s.state.runs[0]!.answerId,
    name: 'add_task',
    arguments: { title: 'c2' },
    approval: 'auto',
    traceId: 'tr',
  })
  assert.equal(s.state.runs[0]!.status, 'running')
  s.run({ kind: 'run.returned', runId, results: [done('c2'), done('c1'), done('c3')] })
  const again = s.run({ kind: 'run.returned', runId, results: [done('c1', '{"success":false}')] })
  assert.deepEqual(kinds(again), [])
  assert.equal(s.rows.filter(r => r.kind === 'tool.returned').length, 2)
  assert.ok(s.state.runs[0]!.calls.every(c => c.status === 'success'))
})

test('[T14] the turn waits; requester or policy decide, others may not, strangers see nothing', () => {
  for (const [policy, may] of [
    ['requester', [ann]],
    ['admins', [ann, ben]],
    ['members', [ann, ben, cat]],
  ] as const) {
    for (const user of [ann, ben, cat]) {
      const { s, call } = running()
      s.as(ann, { type: 'member.role', userId: ben, role: 'admin' })
      s.as(ann, { type: 'conversation.update', toolPolicy: policy })
      call(callOf('c1', 'required'))
      assert.equal(s.state.runs[0]!.status, 'waiting')
      const given = answer(decide(s, user, 'approve'))
      if ((may as readonly string[]).includes(user)) {
        assert.deepEqual([given['duplicate'], given['seq']], [false, s.state.head], `${policy} ${user}`)
        assert.deepEqual([last(s, 'tool.decided')['decision'], last(s, 'tool.decided')['by']], ['approve', user])
        assert.equal(s.state.runs[0]!.status, 'running')
      } else {
        assert.equal(given['code'], 'FORBIDDEN', `${policy} ${user}`)
        assert.equal(s.state.runs[0]!.calls[0]!.decision, null)
      }
      assert.equal(answer(decide(s, dan, 'approve'))['code'], 'NOT_FOUND')
    }
  }
})

test('[T15] the same decision again is a duplicate with its seq, another a conflict, none of ours is not found', () => {
  const { s, call } = running()
  call(callOf('c1', 'required'), callOf('auto'))
  const first = answer(decide(s, ann, 'approve'))
  assert.deepEqual(kinds(decide(s, ann, 'approve')), ['ask'])
  const row = s.rows[(first['seq'] as number) - 1]!
  const stored = { seq: row.seq, messageId: row.messageId, kind: row.kind, bodyHash: row.bodyHash }
  assert.deepEqual(answer(decide(s, ann, 'approve', 'c1', { stored })), { ...first, duplicate: true })
  assert.equal(answer(decide(s, ann, 'reject', 'c1', { stored }))['code'], 'CONFLICT')
  // The turn is over, so only the log knows whose it was; who may not decide learns nothing of it.
  const over = { ...s.state, runs: [] }
  const now = s.state
  s.state = over
  for (const decision of ['approve', 'reject'] as const) {
    const found = { stored: { ...stored, requester: ann } }
    assert.equal(answer(decide(s, ben, decision, 'c1', found))['code'], 'FORBIDDEN')
  }
  assert.equal(answer(decide(s, ann, 'approve', 'c1', { stored: { ...stored, requester: ann } }))['duplicate'], true)
  s.state = now
  assert.equal(answer(decide(s, ann, 'approve', 'auto', { stored: null }))['code'], 'NOT_FOUND')
  assert.equal(answer(decide(s, ann, 'approve', 'nobody', { stored: null }))['code'], 'NOT_FOUND')
  assert.notDeepEqual(decisionHash('c1', 'approve', s.world), decisionHash('c2', 'approve', s.world))
})

test('[T16] rejected, or undecided for five minutes, it returns an error and the turn goes on', () => {
  const { s, runId, call } = running()
  call(callOf('c1', 'required'), callOf('c2', 'required'))
  assert.deepEqual(
    kinds(decide(s, ann, 'reject')).filter(k => k !== 'side'),
    ['tool.decided', 'tool.returned', 'ack'],
  )
  assert.equal(last(s, 'tool.returned')['result'].error, 'Unauthorized')
  assert.equal(s.state.runs[0]!.status, 'waiting')
  s.wait(approvalMsMax)
  assert.equal(answer(decide(s, ann, 'approve', 'c2'))['code'], 'CONFLICT')
  s.run({ kind: 'run.expired', runId, callIds: ['c1', 'c2'] })
  assert.deepEqual(
    [last(s, 'tool.decided')['callId'], last(s, 'tool.decided')['decision'], last(s, 'tool.decided')['by']],
    ['c2', 'reject', undefined],
  )
  assert.equal(s.state.runs[0]!.status, 'running')
  assert.deepEqual(kinds(s.run({ kind: 'run.expired', runId, callIds: ['c1', 'c2'] })), [])
  assert.equal(s.rows.filter(r => r.kind === 'tool.returned').length, 2)
})

test('[T17] the ninth round, and too many calls, end the turn', () => {
  const { s, runId, call } = running()
  for (let round = 0; round < toolRoundsMax; round++) {
    call(callOf(`c${round}`))
    s.run({ kind: 'run.returned', runId, results: [done(`c${round}`)] })
  }
  const effects = call(callOf('one more'))
  assert.ok(!kinds(effects).includes('tool.called'))
  assert.equal(last(s, 'message.new')['finish'], 'tool_limit')
  const other = running()
  other.call(...Array.from({ length: toolCallsPerTurnMax + 1 }, (_, i) => callOf(`c${i}`)))
  assert.equal(last(other.s, 'message.new')['finish'], 'tool_limit')
  assert.equal(other.s.rows.filter(r => r.kind === 'tool.called').length, 0)
})

test('[T18] a call that repeats an earlier one gets its result, asks nobody and is never pending', () => {
  const { s, runId, call } = running()
  call(callOf('c1', 'required'))
  decide(s, ann, 'approve')
  s.run({ kind: 'run.returned', runId, results: [done('c1', '{"success":true,"n":1}')] })
  const effects = call(callOf('c1-again', 'required', { repeats: 'c1' }))
  assert.deepEqual(
    kinds(effects).filter(k => k !== 'side'),
    ['tool.called', 'tool.returned'],
  )
  assert.deepEqual(last(s, 'tool.returned')['result'], { success: true, n: 1 })
  assert.equal(s.state.runs[0]!.status, 'running')
})

test('[T19] a turn read from the log is at its tools while nothing was written after its calls', () => {
  const { s, runId, call } = running()
  s.run({ kind: 'run.delta', runId, text: 'Wait. ' })
  assert.equal(isAtTools(s.state.runs[0]!), false)
  call(callOf('c1', 'required'))
  assert.equal(isAtTools(s.state.runs[0]!), true)
  const { runs, members, ...rest } = s.state
  const snapshot = {
    ...rest,
    deleted: false,
    members: [...members].map(([userId, m]) => ({
      userId,
      role: m.role,
      joinedSeq: m.joinedSeq,
      readSeq: 0,
      deliveredSeq: 0,
    })),
    runs: runs.map(({ text, ...run }) => ({ ...run, calls: [...run.calls], prefix: text })),
    blocks: [],
  }
  const again = stateFrom(s.state.id, snapshot, undefined, text => Buffer.byteLength(text))
  assert.deepEqual(
    [again.runs[0]!.status, again.runs[0]!.calls, isAtTools(again.runs[0]!)],
    ['waiting', runs[0]!.calls, true],
  )
  s.run({ kind: 'run.returned', runId, results: [done('c1')] })
  s.run({ kind: 'run.delta', runId, text: 'Done.' })
  assert.equal(isAtTools(s.state.runs[0]!), false)
})

test('[T20] an end answers open calls, lists every call, and a late decision finds nothing', () => {
  const { s, runId, call } = running()
  call(callOf('c1'), callOf('c2', 'required'))
  s.run({ kind: 'run.returned', runId, results: [done('c1')] })
  const effects = s.end(runId, 'stopped')
  assert.deepEqual(
    kinds(effects).filter(k => k !== 'side' && k !== 'typing'),
    ['tool.returned', 'message.new', 'done'],
  )
  assert.deepEqual(
    last(s, 'message.new')['toolCalls'].map((c: { callId: string; status: string }) => [c.callId, c.status]),
    [
      ['c1', 'success'],
      ['c2', 'error'],
    ],
  )
  assert.equal(answers(decide(s, ann, 'approve', 'c2', { stored: null }))[0]!['code'], 'NOT_FOUND')
  s.chat(ann, 'no tools', 2)
  s.end(s.start())
  assert.equal(last(s, 'message.new')['toolCalls'], undefined)
  assert.equal(idOf(1).length, 36)
})
