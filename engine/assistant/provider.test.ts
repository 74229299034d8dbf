import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TurnEvent } from '#engine/actor/ports.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { answerBytesMax, breakerOpenMs } from '#protos/limits.ts'
import { startModelServer } from './dev-model.ts'
import { createProvider, type Spans } from './provider.ts'

type Play = (response: ServerResponse, request: IncomingMessage) => void | Promise<void>
type End = Extract<TurnEvent, { kind: 'end' }>

interface Stage {
  base: string
  calls: { at: number; headers: IncomingMessage['headers']; body: Record<string, unknown>; closedAt?: number }[]
}

/** An upstream that plays the n-th act for the n-th call, the last one again and again. */
async function withUpstream(acts: Play[], use: (stage: Stage) => Promise<void>): Promise<void> {
  const calls: Stage['calls'] = []
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const call: Stage['calls'][number] = {
      at: performance.now(),
      headers: request.headers,
      body: JSON.parse(Buffer.concat(pieces).toString()),
    }
    response.on('close', () => {
      call.closedAt = performance.now()
    })
    const act = acts[Math.min(calls.length, acts.length - 1)]!
    calls.push(call)
    await act(response, request)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await use({ base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, calls })
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

const spans: Partial<Spans> = {
  connectMs: 2000,
  firstTokenMs: 150,
  idleMs: 150,
  totalMs: 3000,
  backoffMs: [20, 40],
  retryWindowMs: 2000,
  usageMs: 100,
}

function providerAt(base: string, more: Partial<Spans> = {}, settings: object = {}) {
  return createProvider({
    config: { OPENAI_BASE_URL: base, OPENAI_API_KEY: '', OPENAI_MODEL: 'm', MODEL_PORT: 1, ...settings },
    metrics: openMetrics(),
    log: silentLog,
    clock: systemClock,
    spans: { ...spans, ...more },
  })
}

/** Runs a turn to its end, checks what every turn must keep, and returns text and end. */
async function turn(
  provider: ReturnType<typeof createProvider>,
  options: { stopAfter?: number; slowMs?: number; textBytesMax?: number } = {},
) {
  const stop = new AbortController()
  let text = ''
  let end: End | undefined
  let deltas = 0
  let stoppedAt = 0
  let endedAt = 0
  const halt = () => {
    stoppedAt = performance.now()
    stop.abort()
  }
  if (options.stopAfter === 0) halt()
  const request = {
    runId: 'r',
    messages: [{ role: 'user' as const, content: 'hello there' }],
    tools: [],
    outputTokensMax: 64,
    ...(options.textBytesMax === undefined ? {} : { textBytesMax: options.textBytesMax }),
  }
  for await (const event of provider.stream({ ...request, signal: stop.signal, trace: 't' })) {
    assert.equal(end, undefined, 'something came after the end')
    if (event.kind === 'end') {
      end = event
      endedAt = performance.now()
      continue
    }
    assert.equal(event.kind, 'delta')
    if (event.kind !== 'delta') continue
    assert.notEqual(event.text, '')
    assert.ok(event.text.isWellFormed())
    text += event.text
    deltas++
    if (options.stopAfter === deltas) setTimeout(halt, 10)
    if (options.slowMs) await sleep(options.slowMs)
  }
  assert.ok(end, 'no end')
  assert.equal(end.tokens.total, end.tokens.input + end.tokens.output)
  return { text, end, deltas, stopMs: endedAt - stoppedAt, stoppedAt }
}

const sse = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' })
const line = (choice: object, more: object = {}) =>
  `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', model: 'm', created: 0, choices: [{ index: 0, ...choice }], ...more })}\n\n`
const delta = (content: string) => line({ delta: { content }, finish_reason: null })
const finish = (reason: string) => line({ delta: {}, finish_reason: reason })
const usage = `data: ${JSON.stringify({ id: 'c', choices: [], usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 } })}\n\n`
const done = 'data: [DONE]\n\n'
const says =
  (...lines: string[]): Play =>
  response => {
    sse(response).end(lines.join(''))
  }
const refuses =
  (status: number, headers: Record<string, string> = {}, code: string | null = null): Play =>
  response => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(JSON.stringify({ error: { message: 'no', type: 'x', code } }))
  }
const hangsAfter =
  (...lines: string[]): Play =>
  response => {
    sse(response).write(lines.join(''))
  }
const fine = says(delta('a'), delta('b'), finish('stop'), usage, done)

test('[P6] an answer comes as its deltas, then one end with the counts of the provider', () =>
  withUpstream([fine], async ({ base, calls }) => {
    const { text, end } = await turn(providerAt(base))
    assert.equal(text, 'ab')
    assert.deepEqual(end, { kind: 'end', finish: 'stop', tokens: { input: 7, output: 3, total: 10, estimated: false } })
    assert.equal(calls[0]!.body['stream'], true)
    assert.equal(calls[0]!.body['max_tokens'], 64)
    assert.deepEqual(calls[0]!.body['stream_options'], { include_usage: true })
    assert.ok(!('store' in calls[0]!.body), 'a field that compatible servers may refuse')
  }))

test('[P6] without usage the counts are estimated and say so, and waiting for them ends', () =>
  withUpstream(
    [says(delta('abcdefgh'), finish('stop'), done), hangsAfter(delta('ab'), finish('stop'))],
    async ({ base }) => {
      const provider = providerAt(base)
      const first = await turn(provider)
      assert.deepEqual(first.end.tokens, { input: 3, output: 2, total: 5, estimated: true })
      const began = performance.now()
      const second = await turn(provider)
      assert.ok(performance.now() - began < 1500, 'the turn’s own limit is 3 s')
      assert.equal(second.end.finish, 'stop')
      assert.equal(second.end.tokens.estimated, true)
    },
  ))

for (const status of [500, 502, 503, 504, 429]) {
  test(`[P6] ${status} before the first byte is tried twice more, then fails with no text`, () =>
    withUpstream([refuses(status)], async ({ base, calls }) => {
      const { text, end } = await turn(providerAt(base))
      assert.deepEqual([text, end.finish, end.reason, calls.length], ['', 'failed', 'refused', 3])
      assert.ok(calls[1]!.at - calls[0]!.at >= 15 && calls[2]!.at - calls[1]!.at >= 30, 'pauses')
      assert.equal(end.tokens.total, 0)
    }))
}

test('[P6] a retry that works is an answer like any other', () =>
  withUpstream([refuses(503), fine], async ({ base, calls }) => {
    const { text, end } = await turn(providerAt(base))
    assert.deepEqual([text, end.finish, calls.length], ['ab', 'stop', 2])
  }))

test('[P6] retry-after of up to 10 s is waited for, a longer one is a refusal', async () => {
  await withUpstream([refuses(429, { 'retry-after-ms': '300' }), fine], async ({ base, calls }) => {
    assert.equal((await turn(providerAt(base))).end.finish, 'stop')
    assert.ok(calls[1]!.at - calls[0]!.at >= 290)
  })
  await withUpstream([refuses(429, { 'retry-after': '11' })], async ({ base, calls }) => {
    assert.equal((await turn(providerAt(base))).end.finish, 'failed')
    assert.equal(calls.length, 1)
  })
})

test('[P6] a used-up quota fails at once and says quota', () =>
  withUpstream([refuses(429, {}, 'insufficient_quota')], async ({ base, calls }) => {
    const { end } = await turn(providerAt(base))
    assert.deepEqual([end.finish, end.reason, calls.length], ['failed', 'quota', 1])
  }))

for (const status of [400, 401, 403, 404, 422]) {
  test(`[P6] ${status} is not tried again`, () =>
    withUpstream([refuses(status)], async ({ base, calls }) => {
      const { text, end } = await turn(providerAt(base))
      assert.deepEqual([text, end.finish, end.reason, calls.length], ['', 'failed', 'refused', 1])
    }))
}

test('[P6] a refused connection is tried twice more, then fails as connect', async () => {
  const { end } = await turn(providerAt('http://127.0.0.1:9/v1'))
  assert.deepEqual([end.finish, end.reason], ['failed', 'connect'])
})

test('[P6] a connection that does not come about in time is given up and tried again', async () => {
  let calls = 0
  const provider = createProvider({
    config: { OPENAI_BASE_URL: 'http://model/v1', OPENAI_API_KEY: '', OPENAI_MODEL: 'm', MODEL_PORT: 1 },
    metrics: openMetrics(),
    log: silentLog,
    clock: systemClock,
    spans: { ...spans, connectMs: 30 },
    fetch: (_url, init) => {
      calls++
      return new Promise((_, reject) => {
        init!.signal!.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')))
      })
    },
  })
  const { end } = await turn(provider)
  assert.deepEqual([end.finish, end.reason, calls], ['failed', 'connect', 3])
})

test('[P6] a slow first token is not mistaken for a slow connection', () =>
  withUpstream(
    [
      async response => {
        await sleep(200)
        sse(response).end(delta('a') + finish('stop') + done)
      },
    ],
    async ({ base, calls }) => {
      const provider = providerAt(base, { connectMs: 2000, firstTokenMs: 1000 })
      await turn(provider)
      const { end } = await turn(providerAt(base, { connectMs: 100, firstTokenMs: 1000 }))
      assert.deepEqual([end.finish, calls.length], ['stop', 2])
    },
  ))

test('[P6] no first token in time is tried again, whether headers came or not', async () => {
  for (const act of [
    hangsAfter(),
    hangsAfter(line({ delta: { role: 'assistant', content: '' } })),
    () => {},
  ] as Play[]) {
    await withUpstream([act, fine], async ({ base, calls }) => {
      const { text, end } = await turn(providerAt(base))
      assert.deepEqual([text, end.finish, calls.length], ['ab', 'stop', 2])
      assert.ok(calls[0]!.closedAt, 'the first call is closed')
    })
  }
})

test('[P6] retries stay within their window', () =>
  withUpstream([hangsAfter()], async ({ base, calls }) => {
    const at = performance.now()
    const { end } = await turn(providerAt(base, { firstTokenMs: 200, retryWindowMs: 300 }))
    assert.deepEqual([end.finish, end.reason, calls.length], ['failed', 'first_token', 2])
    assert.ok(performance.now() - at < 450)
  }))

test('[P6] a refusal or a filter ends filtered', async () => {
  const acts: [Play, string][] = [
    [says(delta('a'), finish('content_filter'), done), 'a'],
    [says(line({ delta: { refusal: 'I cannot' }, finish_reason: null }), finish('stop'), done), 'I cannot'],
    [refuses(400, {}, 'content_filter'), ''],
  ]
  for (const [act, text] of acts) {
    await withUpstream([act], async ({ base }) => {
      const got = await turn(providerAt(base))
      assert.deepEqual([got.text, got.end.finish, got.end.reason], [text, 'filtered', undefined])
    })
  }
})

test('[P6] the output budget ends length', () =>
  withUpstream([says(delta('ab'), finish('length'), usage, done)], async ({ base }) => {
    const { text, end } = await turn(providerAt(base))
    assert.deepEqual([text, end.finish], ['ab', 'length'])
  }))

test('[P6] 64 KiB of text end length, cut between code points, and upstream is closed', () =>
  withUpstream(
    [
      async response => {
        sse(response)
        for (let i = 0; i < 400 && !response.destroyed; i++) {
          response.write(delta('é🙂'.repeat(100)))
          await sleep(1)
        }
      },
    ],
    async ({ base, calls }) => {
      const { text, end } = await turn(providerAt(base))
      assert.equal(end.finish, 'length')
      const bytes = Buffer.byteLength(text)
      assert.ok(bytes <= answerBytesMax && bytes > answerBytesMax - 4, String(bytes))
      assert.ok('é🙂'.repeat(60_000).startsWith(text))
      await sleep(50)
      assert.ok(calls[0]!.closedAt)
      // Of a turn that has said something before its tools, only the rest.
      const rest = await turn(providerAt(base), { textBytesMax: 1000 })
      assert.deepEqual([rest.end.finish, Buffer.byteLength(rest.text) > 996], ['length', true])
      assert.ok(Buffer.byteLength(rest.text) <= 1000)
      assert.equal((await turn(providerAt(base), { textBytesMax: 0 })).text, '')
    },
  ))

test('[P6] silence after a token aborts, keeps the prefix and fails as idle, without another call', () =>
  withUpstream([hangsAfter(delta('a'))], async ({ base, calls }) => {
    const { text, end } = await turn(providerAt(base))
    assert.deepEqual([text, end.finish, end.reason, calls.length], ['a', 'failed', 'idle', 1])
    await sleep(50)
    assert.ok(calls[0]!.closedAt)
  }))

test('[P6] the total time ends a turn that never stops talking', () =>
  withUpstream(
    [
      async response => {
        sse(response)
        while (!response.destroyed) {
          response.write(delta('a'))
          await sleep(20)
        }
      },
    ],
    async ({ base }) => {
      const { text, end } = await turn(providerAt(base, { totalMs: 400 }))
      assert.match(text, /^a{5,}$/)
      assert.deepEqual([end.finish, end.reason], ['failed', 'deadline'])
    },
  ))

test('[P6] bad JSON, an error event, a reset and an end without a reason keep the prefix and fail as protocol', async () => {
  const acts: Play[] = [
    says(delta('a'), 'data: {"id":"x","choi\n\n'),
    says(delta('a'), `data: ${JSON.stringify({ error: { message: 'boom' } })}\n\n`),
    async response => {
      sse(response).write(delta('a'))
      await sleep(30)
      response.socket!.resetAndDestroy()
    },
    says(delta('a')),
    says(delta('a'), done),
    says(delta('a'), finish('tool_calls'), done),
  ]
  for (const [n, act] of acts.entries()) {
    await withUpstream([act], async ({ base, calls }) => {
      const { text, end } = await turn(providerAt(base))
      assert.deepEqual([text, end.finish, end.reason, calls.length], ['a', 'failed', 'protocol', 1], `act ${n}`)
    })
  }
})

test('[P6] stop ends stopped at 0, at the first delta and in the middle, and closes upstream within 1 s', async () => {
  const talks: Play = async response => {
    sse(response)
    for (let i = 0; i < 60 && !response.destroyed; i++) {
      response.write(delta('a'))
      await sleep(10)
    }
    response.end(finish('stop') + done)
  }
  for (const stopAfter of [0, 1, 20]) {
    await withUpstream([talks], async ({ base, calls }) => {
      const { text, end, stopMs, stoppedAt } = await turn(providerAt(base), { stopAfter })
      assert.equal(end.finish, 'stopped')
      assert.ok(text.length >= stopAfter && text.length < 60)
      assert.ok(stopMs < 500)
      if (stopAfter === 0) return assert.equal(calls.length, 0)
      await sleep(100)
      assert.ok(calls[0]!.closedAt! - stoppedAt < 1000)
    })
  }
})

test('[P6] stop while waiting for a retry ends at once', () =>
  withUpstream([refuses(503)], async ({ base }) => {
    const stop = new AbortController()
    setTimeout(() => stop.abort(), 60)
    const at = performance.now()
    const events: TurnEvent[] = []
    const provider = providerAt(base, { backoffMs: [5000], retryWindowMs: 30_000, totalMs: 60_000 })
    const request = { runId: 'r', messages: [], tools: [], outputTokensMax: 1, signal: stop.signal, trace: 't' }
    for await (const event of provider.stream(request)) events.push(event)
    assert.equal(events.length, 1)
    assert.equal((events[0] as End).finish, 'stopped')
    assert.ok(performance.now() - at < 2000)
  }))

test('[P6] a consumer that does not pull makes no silence', () =>
  withUpstream(
    [
      async response => {
        sse(response)
        for (const letter of 'abc') {
          response.write(delta(letter))
          await sleep(30)
        }
        response.end(finish('stop') + done)
      },
    ],
    async ({ base }) => {
      const { text, end } = await turn(providerAt(base), { slowMs: 250 })
      assert.deepEqual([text, end.finish], ['abc', 'stop'])
    },
  ))

test('[P6] a pair of surrogates split over deltas comes whole; halves and NULs become replacement characters', () =>
  withUpstream(
    [
      says(
        'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n',
        'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\ude42b\\u0000\\ude42"}}]}\n\n',
        'data: {"id":"c","choices":[{"index":0,"delta":{"content":"c\\ud83d"},"finish_reason":"stop"}]}\n\n',
        done,
      ),
    ],
    async ({ base }) => {
      const { text } = await turn(providerAt(base))
      assert.equal(text, 'a🙂b\ufffd\ufffdc\ufffd')
    },
  ))

test('[P6] when half of the last 20 calls failed the breaker fails turns without a call', () =>
  withUpstream([refuses(503)], async ({ base, calls }) => {
    const provider = providerAt(base, { backoffMs: [1, 1] })
    for (let i = 0; i < 4; i++) await turn(provider)
    assert.equal(calls.length, 10)
    const { text, end } = await turn(provider)
    assert.deepEqual([text, end.finish, end.reason, calls.length], ['', 'failed', 'breaker', 10])
  }))

test('[P6] a turn that leaves in the middle of the call which was to find out lets the next one find out', () =>
  withUpstream([...Array<Play>(10).fill(refuses(503)), hangsAfter(delta('a')), fine], async ({ base, calls }) => {
    let ahead = 0
    const clock = { ...systemClock, mono: () => performance.now() + ahead }
    const config = { OPENAI_BASE_URL: base, OPENAI_API_KEY: '', OPENAI_MODEL: 'm', MODEL_PORT: 1 }
    const short = { ...spans, backoffMs: [1, 1] }
    const provider = createProvider({ config, metrics: openMetrics(), log: silentLog, clock, spans: short })
    for (let i = 0; i < 4; i++) await turn(provider)
    ahead = breakerOpenMs
    const { signal } = new AbortController()
    const messages = [{ role: 'user' as const, content: 'hello' }]
    const request = { runId: 'r', messages, tools: [], outputTokensMax: 64, signal, trace: 't' }
    for await (const event of provider.stream(request)) if (event.kind === 'delta') break
    const { text, end } = await turn(provider)
    assert.deepEqual([text, end.finish, calls.length], ['ab', 'stop', 12])
  }))

test('[P6] the key goes to the API and nowhere else: a redirect is an error', () =>
  withUpstream(
    [
      response => {
        response.writeHead(307, { location: 'http://127.0.0.1:9/elsewhere' }).end()
      },
    ],
    async ({ base, calls }) => {
      const { end } = await turn(providerAt(base, {}, { OPENAI_API_KEY: 'k' }))
      assert.equal(end.finish, 'failed')
      assert.equal(calls[0]!.headers.authorization, 'Bearer k')
    },
  ))

test('[P6] the built-in model and its faults end as they should', async () => {
  const { server, port } = await startModelServer(0)
  const expected: Record<string, [string, string | undefined]> = {
    'parley-small': ['stop', undefined],
    'fault-429': ['failed', 'refused'],
    'fault-quota': ['failed', 'quota'],
    'fault-500': ['failed', 'refused'],
    'fault-cut': ['failed', 'protocol'],
    'fault-stall': ['failed', 'idle'],
    'fault-badjson': ['failed', 'protocol'],
  }
  try {
    for (const [model, [finish, reason]] of Object.entries(expected)) {
      const provider = providerAt(
        `http://127.0.0.1:${port}/v1`,
        { firstTokenMs: 1000, totalMs: 5000 },
        { OPENAI_MODEL: model },
      )
      const { text, end } = await turn(provider)
      assert.deepEqual([end.finish, end.reason], [finish, reason], model)
      assert.equal(text !== '', !['fault-429', 'fault-quota', 'fault-500'].includes(model), model)
    }
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
