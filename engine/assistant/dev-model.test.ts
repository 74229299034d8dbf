import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startModelServer } from './dev-model.ts'

interface Answer {
  choices: [{ message: { content: string }; finish_reason: string }]
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number }
  error: { type: string; code: string | null }
}

async function withModel(use: (base: string) => Promise<void>): Promise<void> {
  const { server, port } = await startModelServer(0)
  try {
    await use(`http://127.0.0.1:${port}/v1`)
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

const ask = (base: string, body: unknown) =>
  fetch(`${base}/chat/completions`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
const words = (n: number) => [{ role: 'user', content: `#stream words=${n} delay_ms=0` }]

test('[M6] it lists its models', () =>
  withModel(async base => {
    const { data } = (await (await fetch(`${base}/models`)).json()) as { data: { id: string }[] }
    assert.deepEqual(
      data.map(m => m.id),
      [
        'parley-small',
        'fault-429',
        'fault-quota',
        'fault-500',
        'fault-cut',
        'fault-stall',
        'fault-badjson',
        'fault-slow',
      ],
    )
  }))

test('[M7] without streaming the answer comes whole, with usage', () =>
  withModel(async base => {
    const response = await ask(base, { model: 'm', messages: words(3) })
    const body = (await response.json()) as Answer
    assert.equal(body.choices[0].message.content.split(' ').length, 3)
    assert.equal(body.choices[0].finish_reason, 'stop')
    assert.equal(body.usage.total_tokens, body.usage.prompt_tokens + body.usage.completion_tokens)
  }))

test('[M8] streamed, the deltas come one each, then the finish, then usage where it was asked for', () =>
  withModel(async base => {
    for (const include_usage of [true, false]) {
      const response = await ask(base, {
        model: 'm',
        messages: words(9),
        stream: true,
        stream_options: { include_usage },
      })
      assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
      const lines = (await response.text())
        .split('\n\n')
        .filter(Boolean)
        .map(l => l.replace(/^data: /, ''))
      assert.equal(lines.pop(), '[DONE]')
      const chunks = lines.map(l => JSON.parse(l))
      assert.equal(chunks.filter(c => c.choices[0]?.delta.content).length, 9)
      assert.equal(chunks.filter(c => c.choices[0]?.finish_reason === 'stop').length, 1)
      assert.equal(chunks.filter(c => c.usage).length, include_usage ? 1 : 0)
    }
  }))

test('[M9] what it cannot use is refused in the API’s own shape', () =>
  withModel(async base => {
    for (const body of [
      '{',
      '[]',
      '{"messages":[]}',
      '{"messages":[{"role":1}]}',
      { messages: [{ role: 'user', content: 5 }] },
    ]) {
      const response = await ask(base, body)
      assert.equal(response.status, 400)
      assert.equal(((await response.json()) as Answer).error.type, 'invalid_request_error')
    }
    assert.equal((await fetch(`${base}/nothing`)).status, 404)
    assert.equal((await fetch(`${base}/chat/completions`)).status, 405)
  }))

test('[M10] the models that refuse do so with their status and code', () =>
  withModel(async base => {
    const refusals = {
      'fault-429': [429, 'rate_limit_exceeded'],
      'fault-quota': [429, 'insufficient_quota'],
      'fault-500': [500, null],
    }
    for (const [model, [status, code]] of Object.entries(refusals)) {
      const response = await ask(base, { model, messages: words(1), stream: true })
      assert.equal(response.status, status)
      assert.equal(((await response.json()) as Answer).error.code, code)
    }
  }))

test('[M11] as a process it tells its parent the port and ends with the channel', async () => {
  const child = fork(fileURLToPath(new URL('./dev-model.ts', import.meta.url)), [], {
    env: { ...process.env, MODEL_PORT: '0' },
  })
  const [ready] = (await once(child, 'message')) as [{ kind: string; port: number }]
  assert.equal(ready.kind, 'ready')
  assert.equal((await fetch(`http://127.0.0.1:${ready.port}/v1/models`)).status, 200)
  child.disconnect()
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
})

const offered = ['add_task', 'list_tasks', 'complete_task', 'delete_task', 'update_task'].map(name => ({
  type: 'function',
  function: { name, parameters: { type: 'object' } },
}))

test('[M10] offered tools, it calls several in one round, and answers when it has their results', () =>
  withModel(async base => {
    const question = { role: 'user', content: 'I need to buy milk and bread' }
    const body = (await (await ask(base, { model: 'm', messages: [question], tools: offered })).json()) as {
      choices: [
        {
          message: { content: null; tool_calls: { id: string; function: { name: string; arguments: string } }[] }
          finish_reason: string
        },
      ]
    }
    const [{ message, finish_reason }] = body.choices
    assert.deepEqual([message.content, finish_reason, message.tool_calls.length], [null, 'tool_calls', 2])
    assert.deepEqual(
      message.tool_calls.map(c => [c.function.name, c.function.arguments]),
      [
        ['add_task', '{"title":"milk"}'],
        ['add_task', '{"title":"bread"}'],
      ],
    )
    const results = message.tool_calls.map(c => ({
      role: 'tool',
      tool_call_id: c.id,
      content: JSON.stringify({ success: true, task_id: c.id, title: JSON.parse(c.function.arguments).title }),
    }))
    const messages = [question, { role: 'assistant', content: null, tool_calls: message.tool_calls }, ...results]
    const answer = (await (await ask(base, { model: 'm', messages, tools: offered })).json()) as Answer
    assert.equal(answer.choices[0].message.content, 'Added **milk** and **bread** to your list.')
    const bare = (await (await ask(base, { model: 'm', messages: [question] })).json()) as Answer
    assert.equal(bare.choices[0].finish_reason, 'stop')
  }))

test('[M11] streamed, a call comes as its name and its arguments in pieces', () =>
  withModel(async base => {
    const messages = [{ role: 'user', content: 'Ana: @assistant add a task: water the plants' }]
    const text = await (await ask(base, { model: 'm', messages, tools: offered, stream: true })).text()
    const chunks = text
      .split('\n\n')
      .filter(line => line.startsWith('data: {'))
      .map(line => JSON.parse(line.slice(6)).choices[0])
    const calls = chunks.flatMap(c => c.delta.tool_calls ?? [])
    assert.equal(calls[0].function.name, 'add_task')
    assert.equal(
      calls.map((c: { function: { arguments: string } }) => c.function.arguments).join(''),
      '{"title":"water the plants"}',
    )
    assert.equal(chunks.at(-1).finish_reason, 'tool_calls')
  }))

test('[M12] a message may ask for a misbehaviour by name', () =>
  withModel(async base => {
    const status = async (content: string) =>
      (await ask(base, { model: 'm', messages: [{ role: 'user', content }] })).status
    assert.deepEqual(
      [await status('#fault 429'), await status('#fault 500'), await status('#fault nothing')],
      [429, 500, 200],
    )
    const quota = (await (
      await ask(base, { model: 'm', messages: [{ role: 'user', content: 'Ana: #fault quota' }] })
    ).json()) as Answer
    assert.equal(quota.error.code, 'insufficient_quota')
  }))

test('[M12] a slow model lets its first piece wait, and each after it, and says all of it', () =>
  withModel(async base => {
    const messages = [{ role: 'user', content: '#fault slow' }]
    const askedAt = performance.now()
    const response = await ask(base, { model: 'm', messages, stream: true })
    const arrivals: number[] = []
    let text = ''
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      text += piece
      if (piece.includes('"content":') && !piece.includes('"content":""')) arrivals.push(performance.now() - askedAt)
      if (arrivals.length === 3) break
    }
    assert.ok(arrivals[0]! > 2900, `${arrivals}`)
    assert.ok(arrivals[2]! - arrivals[0]! > 700, `${arrivals}`)
    assert.ok(!text.includes('[DONE]'))
  }))

test('[M13] an output limit cuts an answer and says length; a test’s stream is as long as it was asked for', () =>
  withModel(async base => {
    type Cut = {
      choices: [{ message: { content: string }; finish_reason: string }]
      usage: { completion_tokens: number }
    }
    const messages = [{ role: 'user', content: 'help' }]
    for (const limit of [{ max_tokens: 5 }, { max_completion_tokens: 5, max_tokens: 500 }]) {
      const { choices, usage } = (await (await ask(base, { model: 'm', messages, ...limit })).json()) as Cut
      assert.equal(choices[0].finish_reason, 'length')
      assert.deepEqual([choices[0].message.content, usage.completion_tokens], ['I am Parley’s **buil', 5])
    }
    const streamed = await (await ask(base, { model: 'm', messages, max_tokens: 5, stream: true })).text()
    assert.match(streamed, /"finish_reason":"length"/)
    const exact = [{ role: 'user', content: '#stream words=50 delay_ms=0' }]
    const whole = (await (await ask(base, { model: 'm', messages: exact, max_tokens: 5 })).json()) as Cut
    assert.equal(whole.choices[0].finish_reason, 'stop')
    assert.equal(whole.choices[0].message.content.trim().split(/\s+/).length, 50)
    assert.equal((await ask(base, { model: 'm', messages, max_tokens: 0 })).status, 400)
  }))

test('[M14] without a stream the models that break do so as well', () =>
  withModel(async base => {
    const broken = async (model: string, ms = 5000) => {
      const signal = AbortSignal.timeout(ms)
      const response = await fetch(`${base}/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({ model, messages: words(3) }),
        signal,
      })
      assert.equal(response.status, 200)
      return response.json().then(
        () => 'an answer',
        (error: Error) => error.name,
      )
    }
    assert.equal(await broken('fault-badjson'), 'SyntaxError')
    assert.equal(await broken('fault-cut'), 'TypeError')
    assert.equal(await broken('fault-stall', 300), 'TimeoutError')
  }))
