/**
 * engine/ops/log.ts into the run's trace. An error line about a broken invariant is a finding by itself.
 * Refuses to print.
 */
import type { Log, LogFields } from '#engine/ops/log.ts'
import { kernel } from '../globals.ts'

export type { Log, LogFields }

const findings =
  /broke an invariant|could not take up its state|could not all leave|cannot be read$|position is taken|position was taken/

export function openLog(_level: string, fields: LogFields = {}): Log {
  const say = (level: string) => (msg: string, more?: LogFields) => {
    const k = kernel()
    const { err, ...rest } = { ...fields, ...more }
    const why =
      err === undefined
        ? ''
        : ` (${(err as Error).stack
            ?.split('\n')
            .slice(0, level === 'error' ? 6 : 1)
            .join(' | ')})`
    k.note(`${k.current.name} ${level}: ${msg} ${JSON.stringify(rest)}${why}`)
    if (level === 'error' && findings.test(msg)) k.broken(`${k.current.name} said: ${msg}${why}`)
  }
  return {
    debug: () => {},
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    with: more => openLog('', { ...fields, ...more }),
  }
}

export function redactedUrl(url: string): string {
  return url
}
