/**
 * Every metric of the product, once: name, help with unit, labels, buckets. docs/metrics.md is checked against this list.
 * Each thread or process makes its own Metrics; the engine's main thread adds up those of its workers.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { CountBy } from './count-by.ts'
import { Tally } from './tally.ts'

/** Commit and fan-out live between 0.3 ms (no load, local disk) and 2 s (the commit timer). */
const latencyMs = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
const sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
const firstTokenMs = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000]
/** How often the loop's delay is sampled, ms: each sample wakes the process, and ten do for a mean and a maximum. */
const loopSampleMs = 100

interface Spec {
  kind: 'counter' | 'gauge' | 'histogram'
  help: string
  labels?: readonly string[]
  buckets?: number[]
}

export const metricSpecs = {
  // gateway
  parley_sockets: { kind: 'gauge', help: 'Open authenticated sockets of this gateway.' },
  parley_sockets_closed_total: { kind: 'counter', help: 'Sockets closed, by close code.', labels: ['code'] },
  parley_rooms: { kind: 'gauge', help: 'Conversations with at least one member connected to this gateway.' },
  parley_frames_in_total: {
    kind: 'counter',
    help: 'Client frames read, by type (bad for frames that failed validation).',
    labels: ['type'],
  },
  parley_frames_out_total: { kind: 'counter', help: 'Frames written to sockets.' },
  parley_writes_total: {
    kind: 'counter',
    help: 'System writes to sockets; frames_out ÷ writes is what coalescing saves.',
  },
  parley_errors_total: {
    kind: 'counter',
    help: 'Error frames and REST errors, by class (validation, auth, rlimit, upstream, server) and code.',
    labels: ['class', 'code'],
  },
  parley_send_ms: { kind: 'histogram', help: 'A send from frame read to ack written, ms.', buckets: latencyMs },
  parley_sends_pending: { kind: 'gauge', help: 'Sends forwarded or held without an answer.' },
  parley_outbox_lagging: { kind: 'gauge', help: 'Sockets that are being caught up from the log instead of pushed to.' },
  parley_outbox_bytes: { kind: 'gauge', help: 'Bytes waiting in outboxes of this gateway.' },
  parley_drops_total: {
    kind: 'counter',
    help: 'Frames dropped by rule (typing, merged receipts, stale facts), by kind.',
    labels: ['kind'],
  },
  parley_gaps_total: { kind: 'counter', help: 'Gaps between facts that the hub filled from the log.' },
  parley_http_ms: {
    kind: 'histogram',
    help: 'REST requests by route, method and status class, ms.',
    labels: ['method', 'route', 'status'],
    buckets: latencyMs,
  },
  parley_password_hashes_total: { kind: 'counter', help: 'bcrypt comparisons and hashes.' },
  parley_rate_limited_total: { kind: 'counter', help: 'Refusals by limit.', labels: ['limit'] },
  parley_login_failures: { kind: 'gauge', help: 'Accounts whose failed logins are remembered.' },
  parley_limiter_keys: { kind: 'gauge', help: 'Rates of one key in memory.' },
  // links
  parley_link_letters_total: { kind: 'counter', help: 'Letters on links, by direction.', labels: ['direction'] },
  parley_link_batches_total: { kind: 'counter', help: 'gRPC messages on links, by direction.', labels: ['direction'] },
  parley_links: { kind: 'gauge', help: 'Open links.' },
  parley_link_lagged_total: { kind: 'counter', help: 'Times a link ran out of credit and facts were dropped for it.' },
  parley_interest: { kind: 'gauge', help: 'Conversations watched at this worker, counted once per gateway.' },
  parley_link_reroutes_total: { kind: 'counter', help: 'Letters replayed after a refusal for epoch or a lost link.' },
  // engine
  parley_actors: { kind: 'gauge', help: 'Resident conversation actors.' },
  parley_activations_total: { kind: 'counter', help: 'Conversations read from the log into memory.' },
  parley_mailbox_letters: { kind: 'gauge', help: 'Letters waiting in mailboxes of this worker.' },
  parley_mailbox_bytes: { kind: 'gauge', help: 'Bytes waiting in mailboxes of this worker.' },
  parley_mailbox_wait_ms: {
    kind: 'histogram',
    help: 'A durable letter from arrival to the start of its commit, ms.',
    buckets: latencyMs,
  },
  parley_refusals_total: { kind: 'counter', help: 'Letters refused by the engine, by reason.', labels: ['reason'] },
  parley_bad_commands_total: {
    kind: 'counter',
    help: 'Commands from gateways that failed the engine’s own validation (must stay 0).',
  },
  parley_commit_ms: { kind: 'histogram', help: 'One commit statement, ms.', buckets: latencyMs },
  parley_commit_rows: { kind: 'histogram', help: 'Rows in one commit statement.', buckets: sizes },
  parley_commits_total: { kind: 'counter', help: 'Commit statements by outcome.', labels: ['outcome'] },
  parley_head_conflict_total: {
    kind: 'counter',
    help: 'Positions refused by the primary key: a wrong head (must stay 0).',
  },
  parley_fanout_ms: { kind: 'histogram', help: 'Commit returned to letters handed to links, ms.', buckets: latencyMs },
  parley_fanout_letters: { kind: 'histogram', help: 'Letters sent down for one commit.', buckets: sizes },
  parley_replay_events: { kind: 'histogram', help: 'Events replayed by one join.', buckets: [0, ...sizes, 2048] },
  parley_resync_total: { kind: 'counter', help: 'Joins answered resync_required, by reason.', labels: ['reason'] },
  parley_receipt_flush_ms: { kind: 'histogram', help: 'A flush of receipts to Postgres, ms.', buckets: latencyMs },
  parley_receipt_rows_total: { kind: 'counter', help: 'Receipt rows written to Postgres.' },
  parley_receipts_dirty: { kind: 'gauge', help: 'Positions not yet flushed.' },
  parley_shards_owned: { kind: 'gauge', help: 'Shards owned by this worker.' },
  parley_claims_total: { kind: 'counter', help: 'Shards claimed.' },
  parley_burials_total: { kind: 'counter', help: 'Incarnations buried by this node.' },
  parley_worker_restarts_total: { kind: 'counter', help: 'Worker threads replaced, by cause.', labels: ['cause'] },
  parley_renew_ms: { kind: 'histogram', help: 'A renewal of the node’s lease, ms.', buckets: latencyMs },
  parley_event_loop_lag_ms: {
    kind: 'gauge',
    help: 'Largest delay of a 100 ms tick in the last 10 s, ms.',
    labels: ['thread'],
  },
  parley_heap_bytes: { kind: 'gauge', help: 'Used heap of a thread, bytes.', labels: ['thread'] },
  // assistant
  parley_turns: {
    kind: 'gauge',
    help: 'Turns by state: running (at the model or its tools), queued, waiting for a person’s word.',
    labels: ['state'],
  },
  parley_turns_ended_total: { kind: 'counter', help: 'Turns ended, by finish.', labels: ['finish'] },
  parley_turn_queue_ms: {
    kind: 'histogram',
    help: 'Question stored to its turn started, ms.',
    buckets: firstTokenMs,
  },
  parley_first_token_ms: {
    kind: 'histogram',
    help: 'Turn started to first delta of the provider, ms.',
    buckets: firstTokenMs,
  },
  parley_turn_ms: {
    kind: 'histogram',
    help: 'Turn started to its end, ms.',
    buckets: [100, 500, 1000, 5000, 10_000, 30_000, 60_000, 180_000],
  },
  parley_tokens_total: { kind: 'counter', help: 'Tokens by direction.', labels: ['direction'] },
  parley_budget_alarms_total: {
    kind: 'counter',
    help: 'Times that a worker found 80 % of everybody’s tokens of the day used.',
  },
  parley_budget_refusals_total: {
    kind: 'counter',
    help: 'Turns that found the tokens of the day used up, by scope (user, all).',
    labels: ['scope'],
  },
  parley_upstream_retries_total: { kind: 'counter', help: 'Calls to the provider tried again.' },
  parley_upstream_errors_total: {
    kind: 'counter',
    help: 'Failed calls to the provider, by reason.',
    labels: ['reason'],
  },
  parley_breaker_open: {
    kind: 'gauge',
    help: 'Threads whose breaker keeps calls from the provider, probing included.',
  },
  parley_chat_listeners: { kind: 'gauge', help: 'Requests of the chat API that follow a turn.' },
  parley_tool_ms: {
    kind: 'histogram',
    help: 'A tool call of a turn, from its start to its result, ms.',
    labels: ['tool'],
    buckets: [1, 5, 10, 50, 100, 500, 1000, 5000, 10_000],
  },
  parley_tool_calls_total: {
    kind: 'counter',
    help: 'Tool calls of turns, by tool and outcome.',
    labels: ['tool', 'outcome'],
  },
  parley_mcp_up: { kind: 'gauge', help: 'Whether a further MCP server is connected: 1 or 0.', labels: ['server'] },
  parley_mcp_tools: {
    kind: 'gauge',
    help: 'Tools that a further MCP server lists, by state: accepted, or waiting for the operator.',
    labels: ['server', 'state'],
  },
  parley_segment_runs: { kind: 'gauge', help: 'Ended turns whose stored pieces wait to be removed.' },
  parley_delta_backlog_bytes: { kind: 'gauge', help: 'Answer text read from the provider and not yet stored.' },
  parley_upstream_ahead_bytes: { kind: 'gauge', help: 'Bytes of model responses that were read and not yet pulled.' },
  // soft store
  parley_soft_ms: { kind: 'histogram', help: 'A call to the soft store, ms.', buckets: latencyMs },
  parley_soft_errors_total: { kind: 'counter', help: 'Calls to the soft store that failed or found the breaker open.' },
  parley_soft_owed: { kind: 'gauge', help: 'Sockets whose coming or leaving the soft store is still to be told.' },
  parley_soft_owed_dropped_total: {
    kind: 'counter',
    help: 'Comings and leavings that were never told to the soft store: too many, or expired.',
  },
  parley_soft_missing: { kind: 'gauge', help: 'Gateways without a pulse; meanwhile absent people are unknown.' },
} as const satisfies Record<string, Spec>

export type MetricName = keyof typeof metricSpecs
type Handle<S extends Spec> = S['kind'] extends 'gauge'
  ? Gauge
  : S['kind'] extends 'counter'
    ? S extends { labels: readonly [infer L extends string] }
      ? CountBy<L>
      : Counter
    : S extends { labels: readonly string[] }
      ? Histogram
      : Tally
export type Metrics = { readonly [K in MetricName]: Handle<(typeof metricSpecs)[K]> } & { readonly registry: Registry }

/** Fresh metrics in a registry of their own. `withProcess` adds Node's default metrics, once per process. */
export function openMetrics(withProcess = false): Metrics {
  const registry = new Registry()
  const out: Record<string, unknown> = { registry }
  for (const [name, spec] of Object.entries(metricSpecs) as [string, Spec][]) out[name] = open(name, spec, registry)
  if (withProcess) collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: loopSampleMs })
  return out as Metrics
}

/** Of the kinds that count each message our own: those of prom-client make a closure and a text of the labels each time. */
function open(name: string, { kind, help, labels = [], buckets = latencyMs }: Spec, registry: Registry): unknown {
  const base = { name, help, labelNames: [...labels], registers: [registry] }
  if (kind === 'gauge') return new Gauge({ ...base, aggregator: 'sum' })
  if (kind === 'counter') {
    return labels.length === 1 ? new CountBy({ name, help, label: labels[0]!, registry }) : new Counter(base)
  }
  return labels.length === 0 ? new Tally({ name, help, buckets, registry }) : new Histogram({ ...base, buckets })
}
