/**
 * Random people, pipelines, turns and thrown-away drafts. The scenario checks the invariants after each step; here the
 * answers are compared with what the log holds. Rerun with SEED and PATH_OF_RUN from the message of a failure.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { assistantId } from '#protos/ids.ts'
import { ann, answers, ben, cat, dan, idOf, Scenario } from './fixtures/scenario.ts'
import { runningOf } from './state.ts'
import { transition } from './transition.ts'

const user = fc.constantFrom(ann, ben, cat, dan)
const small = fc.integer({ min: 1, max: 12 })
const text = fc.oneof(
  fc.constantFrom('a', 'b', '@assistant x'),
  fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme' }),
)

type Action =
  | { do: 'send' | 'chat'; user: string; n: number; text: string; isDropped: boolean }
  | { do: 'status'; user: string; n: number }
  | { do: 'add' | 'remove' | 'admin'; by: string; user: string }
  | { do: 'read' | 'delivered'; user: string; seq: number }
  | { do: 'type'; user: string }
  | { do: 'start' | 'delta' | 'end' | 'tick' | 'waiting'; text: string; ms: number }
  | { do: 'stop'; user: string; n: number }

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('send' as const, 'chat' as const),
      user,
      n: small,
      text,
      isDropped: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('status' as const), user, n: small }),
  fc.record({ do: fc.constantFrom('add' as const, 'remove' as const, 'admin' as const), by: user, user }),
  fc.record({ do: fc.constantFrom('read' as const, 'delivered' as const), user, seq: fc.nat(40) }),
  fc.record({ do: fc.constant('type' as const), user }),
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('start' as const, 'delta' as const, 'end' as const, 'tick' as const, 'waiting' as const),
      text,
      ms: fc.nat(3000),
    }),
  },
  fc.record({ do: fc.constant('stop' as const), user, n: fc.nat(7) }),
)

function play(actions: readonly Action[]): void {
  const s = Scenario.group(ann, [ben, cat])
  const acked = new Map<string, number>()
  for (const a of actions) {
    const before = s.state
    switch (a.do) {
      case 'send':
      case 'chat': {
        const type = a.do === 'send' ? ('message.send' as const) : ('chat.send' as const)
        const command = { type, clientMessageId: idOf(a.n, 'd'), content: a.text }
        if (a.isDropped) {
          transition(s.state, s.event(a.user, command), s.world)
          assert.equal(s.state, before)
          break
        }
        for (const answer of answers(s.as(a.user, command))) {
          if (answer.type !== 'ack') continue
          const key = `${a.user} ${a.n}`
          const known = acked.get(key)
          assert.equal(answer['duplicate'], known !== undefined)
          if (known !== undefined) assert.equal(answer['seq'], known)
          acked.set(key, answer['seq'] as number)
        }
        break
      }
      case 'status': {
        const command = { type: 'message.status' as const, clientMessageId: idOf(a.n, 'd') }
        const [answer] = answers(s.as(a.user, command, { stored: null }))
        const isIn = before.members.has(a.user)
        assert.equal(answer!.type === 'ack', isIn && acked.has(`${a.user} ${a.n}`))
        break
      }
      case 'add':
        s.as(a.by, { type: 'member.add', userId: a.user, role: 'member' })
        break
      case 'remove':
        s.as(a.by, { type: 'member.remove', userId: a.user })
        break
      case 'admin':
        s.as(a.by, { type: 'member.role', userId: a.user, role: 'admin' })
        break
      case 'read':
      case 'delivered':
        s.as(a.user, { type: `receipt.${a.do}`, seq: a.seq })
        for (const [id, p] of before.positions) {
          const now = s.state.positions.get(id)!
          assert.ok(now.read >= p.read && now.delivered >= p.delivered, 'P1: a position moved back')
        }
        break
      case 'type':
        s.as(a.user, { type: 'typing.start' })
        break
      case 'tick':
        s.wait(a.ms)
        s.tick()
        break
      case 'start': {
        const [first] = s.state.runs
        if (first) s.run({ kind: 'run.start', runId: first.id, model: 'm' })
        break
      }
      case 'waiting': {
        const [first] = s.state.runs
        if (first) s.run({ kind: 'run.waiting', runId: first.id })
        break
      }
      case 'delta': {
        const run = runningOf(s.state)
        if (run) s.run({ kind: 'run.delta', runId: run.id, text: a.text })
        break
      }
      case 'end': {
        const run = runningOf(s.state)
        if (run) s.end(run.id, 'stop', a.text)
        break
      }
      case 'stop': {
        const run = s.state.runs[a.n] ?? s.state.ended[a.n]
        if (run) s.as(a.user, { type: 'chat.stop', messageId: run.answerId })
        break
      }
      default:
        a satisfies never
    }
  }
  // Every question has one run, and every run that is gone has one answer.
  const answered = s.rows.filter(r => r.kind === 'message.new' && r.senderId === assistantId).length
  const queued = s.sides.filter(x => x.kind === 'run.queued').length
  const ended = s.sides.filter(x => x.kind === 'run.ended').length
  assert.equal(answered, ended)
  assert.equal(queued, ended + s.state.runs.length)
  for (const [key, seq] of acked) {
    const [sender, n] = key.split(' ')
    const row = s.rows[seq - 1]!
    assert.deepEqual([row.senderId, row.clientId], [sender, idOf(Number(n), 'd')])
  }
}

test('[N1] whatever people do, the log is dense, acks tell its truth, and every turn ends once', () => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
  const path = process.env['PATH_OF_RUN']
  console.log(`seed ${seed}`)
  fc.assert(fc.property(fc.array(action, { maxLength: 120, size: 'max' }), play), {
    seed,
    numRuns: 150,
    ...(path === undefined ? {} : { path }),
  })
})
