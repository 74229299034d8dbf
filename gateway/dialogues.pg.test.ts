/**
 * The dialogues with the assistant that must reproduce, on real processes and the built-in model: through HTTP, as JSON and as
 * a stream, and through the socket; across the end of every process. Calls and state are exact, words are free.
 */
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { startModelServer } from '#engine/assistant/dev-model.ts'
import { type Frame, openClient } from '#load/kit/client.ts'
import { type Stack, type StackUser, startStack } from '#load/kit/stack.ts'

let model: Awaited<ReturnType<typeof startModelServer>>
let stack: Stack
let names = 0

before(async () => {
  model = await startModelServer(0)
  stack = await startStack({ OPENAI_BASE_URL: `http://127.0.0.1:${model.port}/v1` })
})
after(async () => {
  await stack.stop()
  model.server.closeAllConnections()
  model.server.close()
  await once(model.server, 'close')
})

const person = () => stack.user(`person_${++names}`)
async function tasksOf(user: StackUser): Promise<string[]> {
  const { body } = await user.rest('GET', '/tasks')
  return body.items.map((t: { title: string; completed: boolean }) => `${t.completed ? 'x' : '-'} ${t.title}`)
}
interface Call {
  tool_name: string
  tool_id: string
  status: string
  result: Record<string, unknown> | null
}
const said = (calls: Call[]) => calls.map(c => `${c.tool_name} ${c.status}`)

interface Reply {
  response: string
  tool_calls: Call[]
  message_id: string
  conversation_id: string
  tokens: { total: number }
}
/** One person's chat in one conversation, through one of the doors. */
type Chat = (message: string) => Promise<Reply>

function chatOver(user: StackUser, conversation?: string): Chat {
  let conversation_id = conversation
  return async message => {
    const { status, body } = await user.rest('POST', `/api/${user.id}/chat`, {
      message,
      ...(conversation_id ? { conversation_id } : {}),
    })
    assert.equal(status, 200, JSON.stringify(body))
    conversation_id = body.conversation_id
    return body
  }
}

/** The same by frames alone; each message on a socket of its own, as after a reload. */
function chatOverSocket(user: StackUser): Chat {
  let conversationId: string | undefined
  return async message => {
    conversationId ??= (await user.rest('POST', '/conversations', { type: 'ai' })).body.id as string
    const client = await openClient(stack.url, { token: user.token })
    await client.ask({ type: 'room.join', conversationId })
    const { seq } = await client.ask({
      type: 'chat.send',
      conversationId,
      clientMessageId: randomUUID(),
      content: message,
    })
    const { messageId } = await client.next(f => f['type'] === 'chat.started' && f['inReplyTo'] === seq)
    const isOurs = (f: Frame) => f['messageId'] === messageId
    await client.next(f => isOurs(f) && (f['type'] === 'chat.done' || f['approval'] === 'required'))
    const frames = client.frames.filter(isOurs)
    await client.close()
    const answer = frames.find(f => f['type'] === 'message.new')
    const calls = frames.filter(f => f['type'] === 'tool.called')
    return {
      response: answer?.['content'] ?? '',
      tool_calls: calls.map(({ callId, name }) => {
        const { status = 'pending', result = null } =
          frames.find(f => f['type'] === 'tool.returned' && f['callId'] === callId) ?? {}
        return { tool_name: name, tool_id: callId, status, result }
      }),
      message_id: messageId,
      conversation_id: conversationId,
      tokens: answer?.['tokens'] ?? { total: 0 },
    }
  }
}

async function decide(user: StackUser, conversation: string, call: string, decision: string) {
  return user.rest('POST', `/conversations/${conversation}/tools/${call}`, { decision })
}

/** By a frame, told as REST tells it. */
async function decideOverSocket(user: StackUser, conversationId: string, callId: string, decision: string) {
  const client = await openClient(stack.url, { token: user.token })
  const { type, code, duplicate } = await client.ask({ type: 'tool.decide', conversationId, callId, decision })
  await client.close()
  return { status: type === 'ack' ? 200 : code === 'CONFLICT' ? 409 : 0, body: { duplicate } }
}

const doors = [
  { door: 'HTTP', over: chatOver, decided: decide },
  { door: 'the socket', over: chatOverSocket, decided: decideOverSocket },
]

/** The turn's answer, waited for by asking again: the history shows it. */
async function ended(
  user: StackUser,
  conversation: string,
  answer: string,
): Promise<{ content: string; tool_calls: { status: string }[] }> {
  for (const until = performance.now() + 8000; performance.now() < until; ) {
    const { body } = await user.rest('GET', `/conversations/${conversation}/messages`)
    const found = body.items.find((m: { id: string }) => m.id === answer)
    if (found) return found
    await new Promise(go => setTimeout(go, 30))
  }
  return assert.fail('the turn did not end')
}

for (const { door, over, decided } of doors) {
  test(`dialogue A over ${door}: milk and bread, eggs, every process is killed and started, milk is done`, async () => {
    const ana = await person()
    const chat = over(ana)
    const one = await chat('I need to buy milk and bread')
    assert.deepEqual(said(one.tool_calls), ['add_task success', 'add_task success'])
    assert.equal(one.tool_calls[0]!.result!['title'], 'milk')
    assert.ok(one.tokens.total > 0)
    assert.deepEqual(await tasksOf(ana), ['- milk', '- bread'])
    assert.deepEqual(said((await chat('and add eggs')).tool_calls), ['add_task success'])
    assert.deepEqual(await tasksOf(ana), ['- milk', '- bread', '- eggs'])
    await Promise.all([stack.engine.stop('SIGKILL'), stack.gateway.stop('SIGKILL')])
    await Promise.all([stack.restart('engine'), stack.restart('gateway')])
    const three = await chat('mark milk done')
    assert.deepEqual(said(three.tool_calls), ['list_tasks success', 'complete_task success'])
    assert.deepEqual(await tasksOf(ana), ['x milk', '- bread', '- eggs'])
  })

  test(`L-10 dialogue B over ${door}: seven exchanges, deletion only when it is allowed`, async () => {
    const ana = await person()
    const chat = over(ana)
    const made = await chat('I need to buy milk, eggs, and bread')
    const conversation = made.conversation_id
    assert.deepEqual(said(made.tool_calls), Array(3).fill('add_task success'))
    const rounds = await stack.sql<{ rounds: string }>(
      'select count(distinct round) as rounds from tool_call where answer_id = $1',
      [made.message_id],
    )
    assert.equal(Number(rounds[0]!.rounds), 1)
    const shown = await chat("what's on my list?")
    assert.deepEqual(said(shown.tool_calls), ['list_tasks success'])
    for (const title of ['milk', 'eggs', 'bread']) assert.ok(shown.response.includes(title))
    const done = await chat('mark milk done')
    assert.deepEqual(said(done.tool_calls), ['list_tasks success', 'complete_task success'])
    assert.match(done.response, /two/i)
    const asked = await chat("update eggs to 'brown eggs' and add a description")
    assert.deepEqual([asked.tool_calls, await tasksOf(ana)], [[], ['x milk', '- eggs', '- bread']])
    const changed = await chat('from the farm')
    assert.deepEqual(said(changed.tool_calls), ['list_tasks success', 'update_task success'])
    assert.deepEqual(
      [changed.tool_calls[1]!.result!['title'], changed.tool_calls[1]!.result!['description']],
      ['brown eggs', 'from the farm'],
    )

    for (const decision of ['reject', 'approve']) {
      const waits = await chat("delete everything I've completed")
      assert.deepEqual(said(waits.tool_calls), ['list_tasks success', 'delete_task pending'])
      assert.ok((await tasksOf(ana)).includes('x milk'))
      const call = waits.tool_calls[1]!.tool_id
      const taken = await decided(ana, conversation, call, decision)
      assert.deepEqual([taken.status, taken.body.duplicate], [200, false])
      const answer = await ended(ana, conversation, waits.message_id)
      assert.equal(answer.tool_calls[1]!.status, decision === 'approve' ? 'success' : 'error')
      assert.match(answer.content, decision === 'approve' ? /Deleted .*milk/ : /nothing was deleted/)
      assert.equal((await tasksOf(ana)).includes('x milk'), decision === 'reject')
      assert.equal((await decided(ana, conversation, call, decision)).body.duplicate, true)
      assert.equal((await decided(ana, conversation, call, decision === 'approve' ? 'reject' : 'approve')).status, 409)
    }
    const empty = await chat("delete everything I've completed")
    assert.deepEqual(said(empty.tool_calls), ['list_tasks success'])
    assert.match(empty.response, /no completed/)
    assert.deepEqual(await tasksOf(ana), ['- brown eggs', '- bread'])
    const audited = await stack.sql<{ action: string; tool: string | null; hash: string }>(
      `select action, detail ->> 'tool' as tool, detail ->> 'arguments_hash' as hash from audit where actor_id = $1 and action in ('tool.approved', 'tool.rejected', 'tool.delete_task') order by at`,
      [ana.id],
    )
    assert.deepEqual(
      audited.map(a => a.action),
      ['tool.rejected', 'tool.approved', 'tool.delete_task'],
    )
    const [rejected, approved, called] = audited
    assert.deepEqual([rejected!.tool, approved!.tool], ['delete_task', 'delete_task'])
    assert.ok(approved!.hash === called!.hash && rejected!.hash === called!.hash, 'what was allowed is what was done')
  })

  test(`L-08 dialogue C over ${door}: with two that fit it asks which, and writes nothing before`, async () => {
    const ana = await person()
    for (const title of ['buy milk', 'return milk']) await ana.rest('POST', '/tasks', { title })
    const chat = over(ana)
    assert.deepEqual(said((await chat('mark milk done')).tool_calls), ['list_tasks success'])
    assert.deepEqual(await tasksOf(ana), ['- buy milk', '- return milk'])
    assert.deepEqual(said((await chat('the second')).tool_calls), ['list_tasks success', 'complete_task success'])
    assert.deepEqual(await tasksOf(ana), ['- buy milk', 'x return milk'])
  })
}

test('dialogue D in a group over the socket: only the asker’s tasks are read, only those the policy names decide', async () => {
  const [ana, ben] = [await person(), await person()]
  for (const [user, title] of [
    [ana, 'hers'],
    [ben, 'his'],
  ] as const)
    await user.rest('POST', '/tasks', { title })
  const { body: room } = await ana.rest('POST', '/conversations', { type: 'group', usernames: [ben.username] })
  const [a, b] = [await openClient(stack.url, { token: ana.token }), await openClient(stack.url, { token: ben.token })]
  const send = (content: string) =>
    a.ask({ type: 'message.send', conversationId: room.id, clientMessageId: randomUUID(), content })
  await a.ask({ type: 'room.join', conversationId: room.id })
  await send("@assistant what's on my list?")
  const answer = await a.next(f => f['type'] === 'message.new' && f['role'] === 'assistant')
  assert.ok(
    answer['content'].includes('hers') && !answer['content'].includes('his\n') && !/- his/.test(answer['content']),
  )
  for (const policy of ['requester', 'members']) {
    if (policy === 'members') await ana.rest('PATCH', `/conversations/${room.id}`, { tool_policy: policy })
    await ana.rest('POST', '/tasks', { title: `old ${policy}` })
    await send(`@assistant delete the task old ${policy}`)
    const called = await b.next(f => f['type'] === 'tool.called' && f['approval'] === 'required')
    const byBen = await b.ask({
      type: 'tool.decide',
      conversationId: room.id,
      callId: called['callId'],
      decision: 'approve',
    })
    if (policy === 'requester') {
      assert.deepEqual([byBen['type'], byBen['code']], ['error', 'FORBIDDEN'])
      assert.ok((await tasksOf(ana)).includes('- old requester'))
      await a.ask({ type: 'tool.decide', conversationId: room.id, callId: called['callId'], decision: 'reject' })
    } else assert.equal(byBen['type'], 'ack')
    await a.next(f => f['type'] === 'chat.done' && f['messageId'] === called['messageId'])
  }
  assert.deepEqual([await tasksOf(ana), await tasksOf(ben)], [['- hers', '- old requester'], ['- his']])
  await a.close()
  await b.close()
})

test('dialogue D in a group over HTTP: only the asker’s tasks are read, only those the policy names decide', async () => {
  const [ana, ben] = [await person(), await person()]
  await ana.rest('POST', '/tasks', { title: 'hers' })
  await ben.rest('POST', '/tasks', { title: 'his' })
  const { body: room } = await ana.rest('POST', '/conversations', { type: 'group', usernames: [ben.username] })
  const chat = chatOver(ana, room.id)
  const shown = await chat("what's on my list?")
  assert.deepEqual(said(shown.tool_calls), ['list_tasks success'])
  const titles = (shown.tool_calls[0]!.result!['tasks'] as { title: string }[]).map(t => t.title)
  assert.deepEqual([titles, await tasksOf(ben)], [['hers'], ['- his']])
  const waits = await chat('delete the task hers')
  assert.deepEqual(said(waits.tool_calls), ['list_tasks success', 'delete_task pending'])
  const call = waits.tool_calls[1]!.tool_id
  assert.deepEqual([(await decide(ben, room.id, call, 'approve')).status, await tasksOf(ana)], [403, ['- hers']])
  await ana.rest('PATCH', `/conversations/${room.id}`, { tool_policy: 'members' })
  assert.equal((await decide(ben, room.id, call, 'approve')).status, 200)
  assert.match((await ended(ana, room.id, waits.message_id)).content, /Deleted .*hers/)
  assert.deepEqual([await tasksOf(ana), await tasksOf(ben)], [[], ['- his']])
})

test('R6 a call that waits survives the end of every process, and acts once', async () => {
  const ana = await person()
  await ana.rest('POST', '/tasks', { title: 'old' })
  const waits = await chatOver(ana)('delete the task old')
  assert.deepEqual(said(waits.tool_calls), ['list_tasks success', 'delete_task pending'])
  await Promise.all([stack.engine.stop('SIGKILL'), stack.gateway.stop('SIGKILL')])
  await Promise.all([stack.restart('engine'), stack.restart('gateway')])
  const call = waits.tool_calls[1]!.tool_id
  assert.deepEqual((await decide(ana, waits.conversation_id, call, 'approve')).status, 200)
  assert.match((await ended(ana, waits.conversation_id, waits.message_id)).content, /Deleted/)
  assert.deepEqual(await tasksOf(ana), [])
  const effects = await stack.sql('select 1 from audit where actor_id = $1 and action = $2', [
    ana.id,
    'tool.delete_task',
  ])
  assert.equal(effects.length, 1)
})

// --- the stream ---------------------------------------------------------------------------------------------------------------

async function sse(user: StackUser, body: object): Promise<Frame[]> {
  const response = await fetch(`${stack.url}/api/${user.id}/chat`, {
    method: 'POST',
    headers: { authorization: `Bearer ${user.token}`, 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ stream: true, ...body }),
  })
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
  return (await response.text())
    .split('\n\n')
    .filter(event => event.startsWith('event: '))
    .map(event => {
      const [type, data] = event.split('\n')
      const frame = JSON.parse(data!.slice(6))
      assert.equal(type, `event: ${frame.type}`)
      return frame
    })
}

test('J-03 the stream brings the frames of the turn: ack first, chat.done last, its text is the message', async () => {
  const ana = await person()
  const client_message_id = randomUUID()
  const message = '#stream words=40 delay_ms=5'
  const { body: room } = await ana.rest('POST', '/conversations', { type: 'ai' })
  const [frames, again] = await Promise.all([
    sse(ana, { conversation_id: room.id, message, client_message_id }),
    new Promise(go => setTimeout(go, 60)).then(() =>
      sse(ana, { conversation_id: room.id, message, client_message_id }),
    ),
  ])
  for (const [index, one] of [frames, again].entries()) {
    assert.deepEqual(
      [one[0]!['type'], one.at(-1)!['type']],
      ['ack', 'chat.done'],
      JSON.stringify(one.map(f => f['type'])),
    )
    assert.equal(one[0]!['duplicate'], index === 1)
    const text = one
      .filter(f => f['type'] === 'chat.stream')
      .map(f => f['content'])
      .join('')
    const stored = one.find(f => f['type'] === 'message.new')!
    assert.equal(text, stored['content'])
    assert.equal(text.split(' ').length, 40)
    assert.equal(one.at(-1)!['sha256'], createHash('sha256').update(text).digest('hex'))
    let offset = 0
    for (const f of one.filter(f => f['type'] === 'chat.stream')) {
      assert.equal(f['offset'], offset)
      offset += Buffer.byteLength(f['content'])
    }
  }
  const late = await sse(ana, { conversation_id: room.id, message, client_message_id })
  assert.deepEqual(
    late.map(f => f['type']),
    ['ack', 'message.new', 'chat.done'],
  )
  const { type: _t, ts: _s, ...done } = late[2]!
  const { type: _u, ts: _v, traceId: _w, ...first } = frames.at(-1)!
  assert.deepEqual(done, first)
})

test('J-05 a streamed turn with tools shows each call and its result', async () => {
  const ana = await person()
  const frames = await sse(ana, { message: 'I need to buy milk and bread' })
  const kinds = frames.map(f => f['type']).filter(t => t !== 'chat.stream')
  assert.deepEqual(kinds.slice(0, 4), ['ack', 'chat.started', 'tool.called', 'tool.called'])
  assert.deepEqual(kinds.slice(-4), ['tool.returned', 'tool.returned', 'message.new', 'chat.done'])
})

test('J-04 the same client_message_id answers the same, also where no conversation was named', async () => {
  const ana = await person()
  const body = { message: 'add a task: once', client_message_id: randomUUID() }
  const path = `/api/${ana.id.toUpperCase()}/chat`
  const [one, two] = await Promise.all([
    ana.rest('POST', path, { ...body, conversation_id: null }),
    ana.rest('POST', path, body),
  ])
  assert.deepEqual(one.body, two.body)
  assert.deepEqual(await tasksOf(ana), ['- once'])
})

test('J-07, J-08 errors: foreign paths, bad ids with a fresh one that works, strangers, dms, bad messages', async () => {
  const [ana, ben] = [await person(), await person()]
  const ask = (body: object, path = ana.id) => ana.rest('POST', `/api/${path}/chat`, body)
  for (const path of [ben.id, 'nobody', randomUUID()]) assert.equal((await ask({ message: 'hi' }, path)).status, 403)
  const bad = await ask({ message: 'hello', conversation_id: 'nonsense' })
  assert.deepEqual([bad.status, bad.body.error_code], [400, 'INVALID_REQUEST'])
  const fresh = bad.body.details.new_conversation_id
  assert.deepEqual(
    await ask({ message: 'hello', conversation_id: fresh }).then(r => [r.status, r.body.conversation_id]),
    [200, fresh],
  )
  assert.equal((await ask({ message: 'hello', conversation_id: randomUUID() })).status, 404)
  assert.equal(
    (await ben.rest('POST', `/api/${ben.id}/chat`, { message: 'hello', conversation_id: fresh })).status,
    404,
  )
  const dm = (await ana.rest('POST', '/conversations', { type: 'dm', usernames: [ben.username] })).body.id
  assert.equal((await ask({ message: 'hello', conversation_id: dm })).status, 400)
  for (const message of ['', '   ', 'x'.repeat(4097), 5]) assert.equal((await ask({ message })).status, 400)
  assert.equal((await ask({ message: 'x'.repeat(4096) })).status, 200)
})
