/**
 * What the scripted model can do to a turn: one entry for each row of the upstream faults, how it is played, and how the turn
 * has to end when nothing else goes wrong. Owns the table only; the server that plays it is upstream.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Finish } from '#protos/catalogue.ts'
import { doneLine, line, type Play, usageLine } from './upstream-play.ts'

export interface Script {
  /** How the turn ends if it is let. */
  finish: Finish
  /** How much of what was promised the answer has: all, the first bytes of it, nothing. */
  text: 'whole' | 'prefix' | 'none'
  /** Requests for each round, exactly. */
  inferences: number
  /** Word in `error{UPSTREAM}`. */
  reason?: string
  /** Somebody stops it after this share of the expected length. */
  stops?: number
  /** Takes so long that it is left out of a short run. */
  isLong?: boolean
  /** Tasks titled with the run's id that there are at the end. */
  tasks?: number
  /** The requester is asked and answers so. */
  decides?: 'approve' | 'reject'
  /** Counts as a failure of the provider for the breaker, so many times. */
  failures?: number
  play(play: Play): void | Promise<void>
}

const whole = { finish: 'stop', text: 'whole', inferences: 1 } as const
const failed = { finish: 'failed', text: 'none' } as const
const broken = { finish: 'failed', text: 'prefix', inferences: 1, reason: 'protocol', failures: 1 } as const
const twice = { finish: 'stop', text: 'whole', inferences: 2, failures: 1 } as const

async function plain(play: Play): Promise<void> {
  play.open()
  await play.stream()
  play.end()
}

/** Does this to the first request and answers the next. */
const once = (first: (play: Play) => void | Promise<void>) => (play: Play) =>
  play.attempt === 1 ? first(play) : plain(play)

/** Half of the answer, then this. */
const midway = (then: (play: Play) => void | Promise<void>) => async (play: Play) => {
  play.open()
  await play.stream(Math.ceil(play.tokens / 2))
  await then(play)
}

/** Tool calls round after round, words when there are no more. */
const rounds = (...calls: ((play: Play) => { id: string; name: string; arguments: string }[])[]) =>
  async function toolRounds(play: Play): Promise<void> {
    const round = calls[play.round]
    if (!round) return plain(play)
    play.open()
    if (play.round === 0) await play.stream(3, 3)
    play.calls(round(play))
  }

const add = (play: Play, id = 'call_1', more = '') => ({
  id,
  name: 'add_task',
  arguments: JSON.stringify({ title: `rig ${play.run}${more}` }),
})
const taskId = (play: Play) => /"task_id":"([0-9a-f-]{36})"/.exec(play.results.join(' '))?.[1] ?? ''
const remove = (play: Play) => ({
  id: 'call_2',
  name: 'delete_task',
  arguments: JSON.stringify({ task_id: taskId(play) }),
})

const hang = (play: Play) => new Promise<void>(resolve => void play.response.once('close', resolve))

/** Bytes one by one: code points and lines come apart wherever they can. */
async function drip(play: Play, text: string): Promise<void> {
  const bytes = Buffer.from(text)
  for (let i = 0; i < bytes.length; i += 7) {
    play.raw(bytes.subarray(i, i + 7))
    if (i % 70 === 0) await sleep(1)
  }
}

export const scripts = {
  plain: { ...whole, play: plain },
  burst: {
    ...whole,
    async play(play) {
      play.open()
      const text = play.plan('one piece of very many words '.repeat(play.tokens))
      play.raw(play.chunk(text) + line({ delta: {}, finish_reason: 'stop' }) + usageLine(9) + doneLine)
      play.response.end()
    },
  },
  // --- before the first byte ---------------------------------------------------------------------------------------------
  '429-once': { ...twice, play: once(p => p.refuse(429, 'rate_limit_exceeded')) },
  '429-after-1s': { ...twice, play: once(p => p.refuse(429, 'rate_limit_exceeded', { 'retry-after': '1' })) },
  '429-after-60s': {
    ...failed,
    inferences: 1,
    reason: 'refused',
    failures: 1,
    play: p => p.refuse(429, 'rate_limit_exceeded', { 'retry-after': '60' }),
  },
  '429-always': {
    ...failed,
    inferences: 3,
    reason: 'refused',
    failures: 3,
    play: p => p.refuse(429, 'rate_limit_exceeded'),
  },
  // The turn waits outside the call: one answer in the end, and the provider is not to blame.
  quota: {
    ...whole,
    inferences: 2,
    play: once(p => p.refuse(429, 'insufficient_quota', { 'retry-after': '2' })),
  },
  '500-once': { ...twice, play: once(p => p.refuse(500, 'server_error')) },
  '503-once': { ...twice, play: once(p => p.refuse(503, 'overloaded')) },
  '500-always': { ...failed, inferences: 3, reason: 'refused', failures: 3, play: p => p.refuse(500, 'server_error') },
  '400': { ...failed, inferences: 1, reason: 'refused', play: p => p.refuse(400, 'invalid_request_error') },
  '401': { ...failed, inferences: 1, reason: 'refused', failures: 1, play: p => p.refuse(401, 'invalid_api_key') },
  'reset-before': { ...twice, play: once(p => void p.response.destroy()) },
  'black-hole': { ...twice, isLong: true, play: once(hang) },
  'headers-then-silence': {
    ...twice,
    isLong: true,
    play: once(p => {
      p.open()
      return hang(p)
    }),
  },
  // --- in mid-stream -----------------------------------------------------------------------------------------------------
  stall: { ...broken, reason: 'idle', isLong: true, play: midway(hang) },
  slow: {
    ...whole,
    isLong: true,
    async play(p) {
      p.open()
      for (const word of ['slow ', 'and ', 'steady ']) {
        p.raw(p.chunk(p.plan(word)))
        await sleep(10_000)
      }
      p.end()
    },
  },
  deadline: {
    ...broken,
    reason: 'deadline',
    isLong: true,
    async play(p) {
      p.open()
      p.plan('on and on '.repeat(100))
      while (!p.isClosed) {
        p.raw(p.chunk('on and on '))
        await sleep(5000)
      }
    },
  },
  reset: { ...broken, play: midway(p => void p.response.destroy()) },
  'bad-json': { ...broken, play: midway(p => p.raw('data: {"choices": [{"delta": {\n\n')) },
  'error-event': {
    ...broken,
    play: midway(p => p.raw('event: error\ndata: {"error":{"message":"overloaded","type":"server_error"}}\n\n')),
  },
  'no-end': { ...broken, play: midway(p => void p.response.end()) },
  'no-marker': {
    ...whole,
    async play(p) {
      p.open()
      await p.stream()
      p.raw(line({ delta: {}, finish_reason: 'stop' }))
      p.response.end()
    },
  },
  'long-line': {
    ...whole,
    finish: 'length',
    text: 'prefix',
    play(p) {
      p.open()
      p.raw(p.chunk(p.plan('five megabytes of it '.repeat(250_000))))
      p.end()
    },
  },
  'split-code-points': {
    ...whole,
    async play(p) {
      p.open()
      const text = p.plan('größe 漢字 🦊 👩‍👩‍👧 '.repeat(Math.ceil(p.tokens / 4)))
      for (const piece of text.match(/.{1,9}/gsu) ?? []) await drip(p, p.chunk(piece))
      p.end()
    },
  },
  'half-surrogates': {
    ...whole,
    async play(p) {
      p.open()
      const text = p.plan('a 🦊 and a 🐻 '.repeat(Math.ceil(p.tokens / 8)))
      // Each half of a pair in a delta of its own.
      for (let i = 0; i < text.length; i++) {
        p.raw(p.chunk(text[i]!))
        if (i % 8 === 0) await sleep(1)
      }
      p.end()
    },
  },
  crlf: {
    ...whole,
    async play(p) {
      p.open()
      const text = p.plan('lines that end as on another system '.repeat(Math.ceil(p.tokens / 8)))
      for (const piece of text.match(/.{1,20}/gs) ?? []) p.raw(p.chunk(piece).replaceAll('\n', '\r\n'))
      p.raw((line({ delta: {}, finish_reason: 'stop' }) + usageLine(9) + doneLine).replaceAll('\n', '\r\n'))
      p.response.end()
    },
  },
  comments: {
    ...whole,
    async play(p) {
      p.open()
      p.raw(': still here\n\n')
      await p.stream()
      p.raw(': and here\n\n')
      p.end('stop', false)
    },
  },
  length: {
    ...whole,
    finish: 'length',
    async play(p) {
      p.open()
      await p.stream()
      p.end('length')
    },
  },
  filter: {
    ...whole,
    finish: 'filtered',
    text: 'prefix',
    play: midway(p => p.end('content_filter')),
  },
  refusal: {
    ...whole,
    finish: 'filtered',
    play(p) {
      p.open()
      p.raw(line({ delta: { refusal: p.plan('That I will not do.') }, finish_reason: null }))
      p.end()
    },
  },
  'done-twice': {
    ...whole,
    async play(p) {
      p.open()
      await p.stream()
      const end = line({ delta: {}, finish_reason: 'stop' }) + usageLine(p.tokens) + doneLine
      p.raw(end + end)
      p.response.end()
    },
  },
  'bytes-after-end': {
    ...whole,
    async play(p) {
      p.open()
      await p.stream()
      p.raw(line({ delta: {}, finish_reason: 'stop' }) + doneLine)
      p.raw(line({ delta: { content: 'nobody reads this' } }) + doneLine)
      p.response.end()
    },
  },
  // --- stopped while the model says nothing ------------------------------------------------------------------------------
  'silent-and-stopped': { ...whole, finish: 'stopped', text: 'prefix', stops: 0.7, play: midway(hang) },
  'never-begun-and-stopped': { ...whole, finish: 'stopped', text: 'none', stops: 0.3, play: hang },
  // --- tools -------------------------------------------------------------------------------------------------------------
  tool: { ...whole, tasks: 1, play: rounds(p => [add(p)]) },
  'tools-parallel': { ...whole, tasks: 2, play: rounds(p => [add(p), add(p, 'call_b', ' b')]) },
  'tool-again': {
    ...whole,
    tasks: 1,
    play: rounds(
      p => [add(p), add(p)],
      p => [add(p)],
    ),
  },
  'tool-approved': {
    ...whole,
    tasks: 0,
    decides: 'approve',
    play: rounds(
      p => [add(p)],
      p => [remove(p)],
    ),
  },
  'tool-rejected': {
    ...whole,
    tasks: 1,
    decides: 'reject',
    play: rounds(
      p => [add(p)],
      p => [remove(p)],
    ),
  },
  'bad-arguments': {
    ...whole,
    tasks: 0,
    play: rounds(() => [{ id: 'call_1', name: 'add_task', arguments: '{"title": "rig' }]),
  },
  'tools-for-ever': {
    ...whole,
    finish: 'tool_limit',
    text: 'prefix',
    tasks: 0,
    play(p) {
      p.open()
      p.calls([{ id: `call_${p.round}`, name: 'list_tasks', arguments: '{}' }])
    },
  },
} as const satisfies Record<string, Script>

export type ScriptName = keyof typeof scripts
export const scriptOf = (name: ScriptName): Script => scripts[name]
