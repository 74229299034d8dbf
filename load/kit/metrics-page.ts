/** The text of docs/metrics.md, made from the table of metrics. `node load/kit/metrics-page.ts` writes it. */
import { writeFileSync } from 'node:fs'
import { metricSpecs } from '#engine/ops/metrics.ts'

const file = new URL('../../docs/metrics.md', import.meta.url)

export function metricsPage(): string {
  const specs = Object.entries(metricSpecs) as [string, { kind: string; help: string; labels?: readonly string[] }][]
  const rows = specs.map(([name, { kind, help, labels = [] }]) => {
    return `| \`${name}\` | ${kind} | ${labels.map(label => `\`${label}\``).join(', ')} | ${help} |`
  })
  return `# Metrics

Prometheus text at \`GET /metrics\` of the internal listeners: \`METRICS_PORT\` (9464) for the gateway, \`ENGINE_METRICS_PORT\` (9465) for the
engine, whose page adds up its worker threads. Both listen on loopback unless \`METRICS_HOST\` says otherwise; nobody is asked who they are
there. Beside these, each process has the default metrics of prom-client (\`process_…\`, \`nodejs_…\`).

No label has a value that people can choose; what a label counts is bounded by the code.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
${rows.join('\n')}

Worth an alarm: \`parley_head_conflict_total\` or \`parley_bad_commands_total\` above 0 (bugs); \`parley_event_loop_lag_ms\` above 200;
\`parley_commit_ms\` with its 99th percentile above 500; \`parley_refusals_total\` and \`parley_worker_restarts_total\` growing;
\`parley_upstream_errors_total\` growing faster than \`parley_turns_ended_total\`.
`
}

if (import.meta.main) writeFileSync(file, metricsPage())
