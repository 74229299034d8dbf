/** Owns what a person reads when the product is up, and how a child's log line looks on a terminal. Refuses to log. */
import type { RunningCluster } from './cluster.ts'
import type { Running } from './parent.ts'

export function banner(running: Running, embeds: { model: boolean; soft: boolean }): string {
  const { url, metricsUrl, engineMetricsUrl, modelUrl, postgres } = running
  const embedded = [
    postgres && `Postgres ${postgres.version}`,
    embeds.model && modelUrl && `model server (${modelUrl})`,
    embeds.soft && 'presence and limits in memory',
  ].filter(Boolean)
  const metrics = [metricsUrl, engineMetricsUrl].filter(Boolean).map(u => `${u}/metrics`)
  const rows: [string, string | undefined][] = [
    ['Web app', url && shown(url)],
    ['API', url && `${shown(url)}/docs`],
    ['Metrics', metrics.join('  ')],
    [
      'Data',
      postgres ? `${postgres.dataDir}${postgres.moved ? ' (the database user cannot reach DATA_DIR)' : ''}` : '',
    ],
    ['Embedded', embedded.join(', ')],
    ['Stop', 'Ctrl-C'],
  ]
  const lines = rows.filter(([, text]) => text).map(([name, text]) => `    ${name.padEnd(10)} ${text}`)
  return ['', '  Parley is ready.', '', ...lines, ''].join('\n')
}

export function clusterBanner({ urls, file }: RunningCluster): string {
  const rows = [...urls.map((url, i) => [`Gateway ${i + 1}`, shown(url)]), ['Addresses', file], ['Stop', 'Ctrl-C']]
  const lines = rows.map(([name, text]) => `    ${name!.padEnd(10)} ${text}`)
  return ['', '  The cluster is ready.', '', ...lines, ''].join('\n')
}

/** 0.0.0.0 and :: are where it listens, not where a browser goes. */
function shown(url: string): string {
  return url.replace('//0.0.0.0', '//localhost').replace('//[::]', '//localhost').replace('//127.0.0.1', '//localhost')
}

/** A JSON log line as `12:00:01 gateway warn text (code)`; other text as it is. */
export function shortLine(name: string, line: string): string | undefined {
  if (line.trim() === '') return undefined
  try {
    const { time, level, msg, code, err } = JSON.parse(line) as Record<string, string> & { err?: { message?: string } }
    if (!level || !msg) return `${name} ${line}`
    const details = [code, err?.message].filter(Boolean).join(', ')
    return `${(time ?? '').slice(11, 19)} ${name} ${level} ${msg}${details ? ` (${details})` : ''}`
  } catch {
    return `${name} ${line}`
  }
}
