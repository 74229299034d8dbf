/**
 * The model behind the assistant: chat completions of any OpenAI-compatible server as a pulled stream of deltas with
 * exactly one end. Owns retries before the first byte, the timers' meaning and the breaker.
 * Refuses to start over once a byte was shown, to throw, and to know conversations.
 */
import type OpenAI from 'openai'
import type { ChatCompletionCreateParamsStreaming, ChatCompletionMessageParam } from 'openai/resources/chat/completions'
import type { ModelCall, Provider, TurnEvent, TurnMessage, TurnRequest } from '#engine/actor/ports.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import {
  connectTimeoutMs,
  firstTokenTimeoutMs,
  idleTimeoutMs,
  turnTimeoutMs,
  upstreamRetriesMax,
  upstreamRetryWindowMs,
  usageWaitMs,
} from '#protos/limits.ts'
import { Breaker } from './breaker.ts'
import { Completion, type Finish, type Usage } from './completion.ts'
import { DeltaText } from './delta-text.ts'
import { EventStream } from './event-stream.ts'
import { classifyRefusal, type Failed, type FailReason } from './refusal.ts'
import { Upstream } from './upstream.ts'
import { type Waited, Watchdog } from './watchdog.ts'

export interface ProviderDeps {
  config: Pick<Config, 'OPENAI_BASE_URL' | 'OPENAI_API_KEY' | 'OPENAI_MODEL' | 'MODEL_PORT'>
  metrics: Metrics
  log: Log
  clock: Clock
  fetch?: typeof fetch
  /** Shorter spans for tests. */
  spans?: Partial<Spans>
}

export interface Spans {
  connectMs: number
  firstTokenMs: number
  idleMs: number
  totalMs: number
  /** Waits before the first and the second retry, each ± 20 %. */
  backoffMs: readonly number[]
  retryWindowMs: number
  usageMs: number
}

const defaultSpans: Spans = {
  connectMs: connectTimeoutMs,
  firstTokenMs: firstTokenTimeoutMs,
  idleMs: idleTimeoutMs,
  totalMs: turnTimeoutMs,
  backoffMs: [500, 2000],
  retryWindowMs: upstreamRetryWindowMs,
  usageMs: usageWaitMs,
}

type AttemptEnd =
  | { kind: 'finished'; finish: Finish; usage?: Usage; calls?: ModelCall[] }
  | { kind: 'stopped' }
  | Failed

export function createProvider(deps: ProviderDeps): Provider {
  const { config, metrics, log, clock } = deps
  const spans = { ...defaultSpans, ...deps.spans }
  const breaker = new Breaker()
  const baseURL = baseUrlOf(config)
  const isOpenAi = new URL(baseURL).hostname === 'api.openai.com'
  const upstream = new Upstream({ onAhead: bytes => metrics.parley_upstream_ahead_bytes.inc(bytes) })
  let client: Promise<OpenAI> | undefined
  // The SDK costs a thread about 38 MB, so a thread without a turn never loads it.
  const open = () =>
    (client ??= import('openai').then(
      sdk =>
        new sdk.default({
          baseURL,
          apiKey: config.OPENAI_API_KEY || 'built-in',
          organization: null,
          project: null,
          maxRetries: 0,
          timeout: spans.totalMs + 1000,
          logLevel: 'off',
          fetch: deps.fetch ?? upstream.fetch,
        }),
    ))

  return { model: config.OPENAI_MODEL, stream }

  async function* stream(request: TurnRequest): AsyncGenerator<TurnEvent> {
    const dog = new Watchdog(request.signal, spans.totalMs, clock)
    const startedAt = clock.mono()
    const text = new DeltaText(request.textBytesMax)
    let end: AttemptEnd
    /** A call that the breaker let through and has not heard of. */
    let isOut = false
    try {
      for (let tries = 0; ; tries++) {
        if (dog.isStopped) {
          end = { kind: 'stopped' }
          break
        }
        if (!breaker.admits(clock.mono())) {
          end = { kind: 'failed', reason: 'breaker', mayRetry: false, counts: false }
          break
        }
        isOut = true
        const leftMs = startedAt + spans.retryWindowMs - clock.mono()
        try {
          end = yield* attempt(request, dog, text, leftMs, startedAt)
        } catch (error) {
          // Only a fault of ours gets here; a turn still has to end.
          log.error('a model call broke', { traceId: request.trace, err: error })
          end = { kind: 'failed', reason: 'protocol', mayRetry: false, counts: false }
        }
        report(end)
        isOut = false
        if (end.kind !== 'failed' || !end.mayRetry || !text.isEmpty || tries >= upstreamRetriesMax) break
        const base = spans.backoffMs[tries] ?? spans.backoffMs.at(-1) ?? 0
        const waitMs = Math.max(base * (0.8 + 0.4 * clock.random()), end.retryAfterMs ?? 0)
        if (clock.mono() + waitMs >= startedAt + spans.retryWindowMs) break
        metrics.parley_upstream_retries_total.inc()
        if (!(await dog.sleep(waitMs)) && dog.isStopped) {
          end = { kind: 'stopped' }
          break
        }
      }
    } finally {
      // Whoever pulled has left in the middle: if this was the one call that was to find out, the next may.
      if (isOut) breaker.abstained()
      dog.close()
    }
    const rest = text.flush()
    if (rest !== '') yield { kind: 'delta', text: rest }
    yield endOf(end, request, text)
  }

  /** One call. Yields deltas, returns how it ended; the connection is closed by then. */
  async function* attempt(
    request: TurnRequest,
    dog: Watchdog,
    text: DeltaText,
    leftMs: number,
    startedAt: number,
  ): AsyncGenerator<TurnEvent, AttemptEnd> {
    const abort = new AbortController()
    const attemptId = clock.id()
    const sent = upstream.watchSent(attemptId)
    const begunAt = clock.mono()
    let body: AsyncIterator<Uint8Array> | undefined
    try {
      const call = open().then(sdk => {
        const body = bodyOf(request, config.OPENAI_MODEL, isOpenAi)
        return sdk.chat.completions.create(body, { signal: abort.signal, headers: sent.headers }).asResponse()
      })
      call.catch(() => {})
      const connected = await dog.wait(Promise.race([call, sent.promise]), spans.connectMs, 'connect')
      if (connected.kind !== 'value') return missed(connected, text)
      const tokenBy = begunAt + Math.min(spans.firstTokenMs, leftMs)
      const opened = await dog.wait(call, tokenBy - clock.mono(), 'first_token')
      if (opened.kind !== 'value') return missed(opened, text)

      // The SDK makes the call and knows its errors; the events are read here, all that came since the last step at once.
      body = opened.value.body?.[Symbol.asyncIterator]()
      const events = new EventStream()
      const said = new Completion(text, request.tools.length > 0)
      while (body && !said.isOver) {
        const { finish, isSilent } = said
        const limitMs = finish ? spans.usageMs : isSilent ? tokenBy - clock.mono() : spans.idleMs
        const step = await dog.wait(body.next(), limitMs, isSilent ? 'first_token' : 'idle')
        if (step.kind !== 'value') {
          if (finish) break
          return missed(step, text, true)
        }
        if (step.value.done) break
        const isFirst = text.isEmpty
        const words = said.take(events.push(step.value.value))
        if (words === '') continue
        if (isFirst) metrics.parley_first_token_ms.observe(clock.mono() - startedAt)
        yield { kind: 'delta', text: words }
      }
      const { finish, usage, calls } = said
      if (dog.isStopped && !finish) return { kind: 'stopped' }
      if (!finish || said.isBroken) return { kind: 'failed', reason: 'protocol', mayRetry: false, counts: true }
      // An answer that was cut off or filtered calls nothing.
      const asked = finish === 'stop' && !calls.isEmpty ? { calls: calls.whole() } : {}
      return { kind: 'finished', finish, ...(usage ? { usage } : {}), ...asked }
    } finally {
      sent.close()
      abort.abort()
      void body?.return?.().catch(() => {})
    }
  }

  function report(end: AttemptEnd): void {
    const at = clock.mono()
    if (end.kind === 'finished') breaker.succeeded(at)
    else if (end.kind === 'failed' && end.counts) breaker.failed(at)
    else breaker.abstained()
    metrics.parley_breaker_open.set(breaker.isOpen ? 1 : 0)
    if (end.kind === 'failed') metrics.parley_upstream_errors_total.inc({ reason: end.reason })
  }

  function endOf(end: AttemptEnd, request: TurnRequest, text: DeltaText): TurnEvent {
    const usage = end.kind === 'finished' ? end.usage : undefined
    const tokens = usage ? { ...usage, estimated: false } : estimate(request, text)
    // A call that was refused cost nothing, or nothing that we know of.
    if (end.kind === 'failed' && text.isEmpty) Object.assign(tokens, { input: 0, total: 0 })
    metrics.parley_tokens_total.inc({ direction: 'input' }, tokens.input)
    metrics.parley_tokens_total.inc({ direction: 'output' }, tokens.output)
    if (end.kind === 'finished' && end.calls) return { kind: 'calls', calls: end.calls, tokens }
    if (end.kind === 'finished') return { kind: 'end', finish: end.finish, tokens }
    if (end.kind === 'stopped') return { kind: 'end', finish: 'stopped', tokens }
    if (end.reason === 'filtered') return { kind: 'end', finish: 'filtered', tokens }
    log.warn('a model call failed', { traceId: request.trace, code: end.reason })
    const wait = end.reason === 'quota' && end.retryAfterMs !== undefined ? { retryAfterMs: end.retryAfterMs } : {}
    return { kind: 'end', finish: 'failed', reason: end.reason, ...wait, tokens }
  }
}

/** The API that these settings mean. */
function baseUrlOf(config: ProviderDeps['config']): string {
  if (config.OPENAI_BASE_URL) return config.OPENAI_BASE_URL
  return config.OPENAI_API_KEY ? 'https://api.openai.com/v1' : `http://127.0.0.1:${config.MODEL_PORT}/v1`
}

function bodyOf(request: TurnRequest, model: string, isOpenAi: boolean): ChatCompletionCreateParamsStreaming {
  return {
    model,
    messages: request.messages.map(messageOf),
    ...(request.tools.length > 0
      ? { tools: request.tools.map(tool => ({ type: 'function' as const, function: { ...tool } })) }
      : {}),
    stream: true,
    stream_options: { include_usage: true },
    // Compatible servers know the older name, and some refuse fields that they do not know.
    ...(isOpenAi
      ? { max_completion_tokens: request.outputTokensMax, store: false }
      : { max_tokens: request.outputTokensMax }),
  }
}

function messageOf(message: TurnMessage): ChatCompletionMessageParam {
  if (message.role === 'tool') return { role: 'tool', tool_call_id: message.callId, content: message.content }
  if (message.role !== 'assistant' || !message.calls) return message
  return {
    role: 'assistant',
    content: message.content === '' ? null : message.content,
    tool_calls: message.calls.map(({ id, name, arguments: args }) => ({
      id,
      type: 'function',
      function: { name, arguments: args },
    })),
  }
}

/** A step that brought nothing. `isStreaming`: the response had begun, so an error is a broken stream, not a refusal. */
function missed(step: Exclude<Waited<unknown, FailReason>, { kind: 'value' }>, text: DeltaText, isStreaming = false) {
  switch (step.kind) {
    case 'stopped':
      return { kind: 'stopped' } as const
    case 'expired':
      return {
        kind: 'failed',
        reason: step.reason,
        mayRetry: text.isEmpty && step.reason !== 'deadline',
        counts: true,
      } as const
    case 'error':
      if (!isStreaming) return classifyRefusal(step.error)
      return { kind: 'failed', reason: 'protocol', mayRetry: false, counts: true } as const
  }
  step satisfies never
}

/** Four characters a token: good enough for a count that says it is an estimate. */
function estimate(request: TurnRequest, text: DeltaText) {
  const input = Math.ceil(request.messages.reduce((sum, m) => sum + m.content.length, 0) / 4)
  const output = Math.ceil(text.chars / 4)
  return { input, output, total: input + output, estimated: true }
}
