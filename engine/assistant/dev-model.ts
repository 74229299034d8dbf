/**
 * The built-in model server: the OpenAI HTTP API on 127.0.0.1, deterministic, with models that misbehave as they are named.
 * It lets `npm start` and every test walk the real provider path without a key. Run as a process it tells its parent the
 * port and ends with it. Refuses to decide what is said (replies.ts).
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { readConfig } from '#engine/ops/config.ts'
import type { ChatMessage } from './dialogue.ts'
import { clip, countTokens, faultIn, replyTo } from './replies.ts'

export const faultModels = [
  'fault-429',
  'fault-quota',
  'fault-500',
  'fault-cut',
  'fault-stall',
  'fault-badjson',
  'fault-slow',
] as const
type FaultModel = (typeof faultModels)[number]

/** A transcript of 8,000 tokens with room to spare. */
const requestBytesMax = 4 * 1024 * 1024
/** Deltas that a model which breaks in the middle gives first. */
const deltasBeforeFault = 5
/** What a slow model lets wait: for its first piece, and between any two. Both are within what a provider is given. */
const slowFirstMs = 3000
const slowPieceMs = 400

export function createModelServer(): Server {
  return createServer((request, response) => {
    answer(request, response).catch(error => {
      if (response.headersSent) response.destroy()
      else refuse(response, 500, 'server_error', null, String(error?.message ?? error))
    })
  })
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? '/', 'http://model').pathname.replace(/^\/v1(?=\/)/, '')
  if (path === '/models' && request.method === 'GET') {
    const data = ['parley-small', ...faultModels].map(id => ({ id, object: 'model', created: 0, owned_by: 'parley' }))
    return sendJson(response, 200, { object: 'list', data })
  }
  if (path !== '/chat/completions') return refuse(response, 404, 'invalid_request_error', 'unknown_url', 'no such path')
  if (request.method !== 'POST') {
    response.setHeader('allow', 'POST')
    return refuse(response, 405, 'invalid_request_error', null, 'use POST')
  }
  const body = await readBody(request)
  const order = body === undefined ? undefined : parseOrder(body)
  if (!order) return refuse(response, 400, 'invalid_request_error', null, 'messages must be a list of {role, content}')
  switch (order.fault) {
    case 'fault-429':
      response.setHeader('retry-after', '1')
      return refuse(response, 429, 'requests', 'rate_limit_exceeded', 'too many requests')
    case 'fault-quota':
      return refuse(response, 429, 'insufficient_quota', 'insufficient_quota', 'the quota is used up')
    case 'fault-500':
      return refuse(response, 500, 'server_error', null, 'the model broke')
    default:
      return complete(order, response)
  }
}

interface Order {
  model: string
  fault: FaultModel | undefined
  messages: ChatMessage[]
  tools: string[]
  isStream: boolean
  withUsage: boolean
  /** Most tokens of the answer; undefined: no limit. */
  tokensMax: number | undefined
}

async function complete(order: Order, response: ServerResponse): Promise<void> {
  const reply = replyTo(order.messages, order.tools)
  const prompt = order.messages.reduce((sum, m) => sum + countTokens(m.content), 0)
  const { deltas, isCut } =
    reply.isExact || order.tokensMax === undefined
      ? { deltas: reply.deltas, isCut: false }
      : clip(reply.deltas, order.tokensMax)
  const text = deltas.join('')
  const calls = reply.calls.map(({ id, name, arguments: args }) => ({
    id,
    type: 'function',
    function: { name, arguments: args },
  }))
  const finish = calls.length > 0 ? 'tool_calls' : isCut ? 'length' : 'stop'
  const completion =
    countTokens(text) + calls.reduce((sum, c) => sum + countTokens(c.function.name + c.function.arguments), 0)
  const usage = { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
  const base = { id: `chatcmpl-${prompt}-${completion}`, created: 0, model: order.model }
  const isSlow = order.fault === 'fault-slow'
  if (!order.isStream) {
    await pause(response, isSlow ? slowFirstMs : 20)
    if (order.fault && !isSlow) return misbehaveWhole(order.fault, response)
    const message = {
      role: 'assistant',
      content: calls.length > 0 ? null : text,
      refusal: null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    }
    const choices = [{ index: 0, message, logprobs: null, finish_reason: finish }]
    return sendJson(response, 200, { ...base, object: 'chat.completion', choices, usage })
  }
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' })
  const chunk = (choices: unknown[], more: object = {}) =>
    `data: ${JSON.stringify({ ...base, object: 'chat.completion.chunk', choices, ...more })}\n\n`
  const delta = (fields: object, finish: string | null = null) =>
    chunk([{ index: 0, delta: fields, logprobs: null, finish_reason: finish }])

  response.write(delta({ role: 'assistant', content: '' }))
  const startedAt = performance.now()
  let dueMs = isSlow ? slowFirstMs : 0
  for (const [n, piece] of deltas.entries()) {
    if (order.fault && !isSlow && n === deltasBeforeFault) return misbehave(order.fault, response)
    // Due times are absolute, so that a busy machine does not stretch the whole answer.
    dueMs += n === 0 ? 0 : Math.max(isSlow ? slowPieceMs : 0, reply.delayMs(n))
    await pause(response, startedAt + dueMs - performance.now())
    if (response.destroyed) return
    if (!response.write(delta({ content: piece }))) await drained(response)
  }
  for (const [index, call] of calls.entries()) {
    // As the real ones do: the name first, the arguments in pieces.
    const { arguments: args } = call.function
    response.write(delta({ tool_calls: [{ index, ...call, function: { name: call.function.name, arguments: '' } }] }))
    const half = Math.ceil(args.length / 2)
    for (const piece of [args.slice(0, half), args.slice(half)]) {
      response.write(delta({ tool_calls: [{ index, function: { arguments: piece } }] }))
    }
  }
  if (order.fault && !isSlow) return misbehave(order.fault, response)
  response.write(delta({}, finish))
  if (order.withUsage) response.write(chunk([], { usage }))
  response.end('data: [DONE]\n\n')
}

function misbehave(fault: FaultModel, response: ServerResponse): void {
  if (fault === 'fault-badjson') response.end('data: {"id":"chatcmpl-broken","choices":[{"delta":{"con\n\n')
  else if (fault === 'fault-cut') setTimeout(() => response.destroy(), 20)
  // fault-stall: the connection stays open and nothing more comes.
}

/** The same for an answer in one piece. */
function misbehaveWhole(fault: FaultModel, response: ServerResponse): void {
  // fault-stall: the head comes, and nothing after it.
  response.writeHead(200, { 'content-type': 'application/json' })
  if (fault === 'fault-badjson') response.end('{"id":"chatcmpl-broken","choices":[{"message":{"con')
  else response.write('{"id":"chatcmpl-broken",')
  if (fault === 'fault-cut') setTimeout(() => response.destroy(), 20)
}

function parseOrder(body: string): Order | undefined {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return undefined
  }
  const given = (value ?? {}) as Record<string, unknown>
  const { model, messages, tools, stream, stream_options } = given
  const tokensMax = given['max_completion_tokens'] ?? given['max_tokens'] ?? undefined
  if (tokensMax !== undefined && !(Number.isSafeInteger(tokensMax) && (tokensMax as number) > 0)) return undefined
  if (!Array.isArray(messages) || messages.length === 0) return undefined
  const read: ChatMessage[] = []
  for (const m of messages as Record<string, unknown>[]) {
    if (typeof m?.['role'] !== 'string') return undefined
    const content = textOf(m['content'])
    const calls = callsOf(m['tool_calls'])
    if (content === undefined || calls === undefined) return undefined
    read.push({
      role: m['role'],
      content,
      ...(calls.length > 0 ? { calls } : {}),
      ...(typeof m['tool_call_id'] === 'string' ? { callId: m['tool_call_id'] } : {}),
    })
  }
  const name = typeof model === 'string' && model !== '' ? model : 'parley-small'
  return {
    model: name,
    fault: faultModels.find(f => f === name) ?? faultModels.find(f => f === `fault-${faultIn(read)}`),
    messages: read,
    tools: toolsOf(tools),
    isStream: stream === true,
    withUsage: (stream_options as { include_usage?: unknown } | undefined)?.include_usage === true,
    tokensMax: tokensMax as number | undefined,
  }
}

function toolsOf(tools: unknown): string[] {
  if (!Array.isArray(tools)) return []
  const names = (tools as { function?: { name?: unknown } }[]).map(tool => tool?.function?.name)
  return names.filter(name => typeof name === 'string')
}

/** Undefined when they are not what the API says they are. */
function callsOf(calls: unknown): NonNullable<ChatMessage['calls']> | undefined {
  if (calls === undefined || calls === null) return []
  if (!Array.isArray(calls)) return undefined
  const read: NonNullable<ChatMessage['calls']> = []
  for (const call of calls as { id?: unknown; function?: { name?: unknown; arguments?: unknown } }[]) {
    const { name, arguments: args } = call?.function ?? {}
    if (typeof call?.id !== 'string' || typeof name !== 'string' || typeof args !== 'string') return undefined
    read.push({ id: call.id, name, arguments: args })
  }
  return read
}

/** A content as plain text: a string, parts of type text, or nothing. */
function textOf(content: unknown): string | undefined {
  if (typeof content === 'string') return content
  if (content === null || content === undefined) return ''
  if (!Array.isArray(content)) return undefined
  return content.map(part => (typeof part?.text === 'string' ? part.text : '')).join('')
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > requestBytesMax) return undefined
    pieces.push(piece)
  }
  return Buffer.concat(pieces).toString('utf8')
}

/** Waits, but not for a client that has left. */
async function pause(response: ServerResponse, ms: number): Promise<void> {
  if (ms < 1 || response.destroyed) return
  const left = new AbortController()
  const leave = () => left.abort()
  response.once('close', leave)
  await sleep(ms, undefined, { signal: left.signal }).catch(() => {})
  response.off('close', leave)
}

async function drained(response: ServerResponse): Promise<void> {
  const done = new AbortController()
  const options = { signal: done.signal }
  await Promise.race([once(response, 'drain', options), once(response, 'close', options)]).catch(() => {})
  done.abort()
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

function refuse(response: ServerResponse, status: number, type: string, code: string | null, message: string): void {
  sendJson(response, status, { error: { message, type, param: null, code } })
}

/** Opens the server on loopback. `port` 0: any free one. Rejects where the port is taken. */
export async function startModelServer(port: number): Promise<{ server: Server; port: number }> {
  const server = createModelServer()
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

async function main(): Promise<void> {
  const wanted = readConfig().MODEL_PORT
  const opened = await startModelServer(wanted).catch(error => {
    const why = error.code === 'EADDRINUSE' ? 'is in use by another program' : `cannot be opened (${error.code})`
    process.stderr.write(`MODEL_PORT ${wanted} ${why}\n`)
    process.exit(1)
  })
  const stop = () => {
    opened.server.close(() => process.exit(0))
    opened.server.closeAllConnections()
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', () => {
    // Ctrl-C reaches the whole group; a parent stops its children in its own order.
    if (!process.send) stop()
  })
  if (process.send) {
    process.on('disconnect', stop)
    process.send({ kind: 'ready', port: opened.port }, undefined, undefined, () => undefined)
  } else {
    process.stdout.write(`The built-in model listens on http://127.0.0.1:${opened.port}/v1\n`)
  }
}

if (import.meta.main) await main()
