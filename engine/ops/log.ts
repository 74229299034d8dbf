/**
 * Structured logs: one JSON line each, an allow-list of fields. Bodies, tokens, cookies, e-mail and full addresses are not
 * on the list and so cannot slip in. Refuses to log a frame.
 */
import { type Logger, pino } from 'pino'

/** The fields a line may carry beside level, time and msg. */
export interface LogFields {
  requestId?: string
  traceId?: string
  userId?: string
  convId?: string
  messageId?: string
  code?: string | number
  ms?: number
  node?: string
  worker?: number
  shard?: number
  epoch?: number
  count?: number
  method?: string
  route?: string
  status?: number
  /** An error’s own text and stack; for lines about our own faults only, never about a client’s input. */
  err?: unknown
}

const allowed: (keyof LogFields)[] = [
  'requestId',
  'traceId',
  'userId',
  'convId',
  'messageId',
  'code',
  'ms',
  'node',
  'worker',
  'shard',
  'epoch',
  'count',
  'method',
  'route',
  'status',
]
const fieldCharsMax = 200

export interface Log {
  debug(msg: string, fields?: LogFields): void
  info(msg: string, fields?: LogFields): void
  warn(msg: string, fields?: LogFields): void
  error(msg: string, fields?: LogFields): void
  /** The same log with fields that every line carries. */
  with(fields: LogFields): Log
}

/** Lines go to stdout unless another stream is given. */
export function openLog(level: string, fields: LogFields = {}, destination?: NodeJS.WritableStream): Log {
  const sink = pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: l => ({ level: l }) } },
    (destination as never) ?? pino.destination({ dest: 1, sync: true }),
  )
  return wrap(sink as unknown as Logger, fields)
}

function wrap(sink: Logger, bound: LogFields): Log {
  const line =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (msg: string, fields: LogFields = {}) => {
      if (sink.isLevelEnabled(level)) sink[level](clean({ ...bound, ...fields }), msg.slice(0, 500))
    }
  return {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    with: fields => wrap(sink, { ...bound, ...fields }),
  }
}

function clean(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const key of allowed) {
    const value = fields[key]
    if (value !== undefined) out[key] = typeof value === 'string' ? value.slice(0, fieldCharsMax) : value
  }
  if (fields.err !== undefined) {
    const e = fields.err as { name?: string; message?: string; code?: string; stack?: string }
    out['err'] = {
      name: e?.name,
      code: e?.code,
      message: (e?.message ?? String(fields.err as string)).slice(0, 500),
      stack: e?.stack?.slice(0, 2000),
    }
  }
  return out
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => silentLog }
