/**
 * Health of a gateway, for both listeners: alive, and ready with one word per check. Refuses detail beyond those words.
 */
import type { Sql } from '#gateway/auth/db.ts'

export interface Health {
  live(): { status: number; body: Record<string, unknown> }
  ready(): Promise<{ status: number; body: Record<string, unknown> }>
}

const checkMsMax = 2000
/** Probes and load balancers ask often; one look at the database serves them all for this long. */
const keepMs = 500

export function createHealth(options: {
  db: Sql
  engine: { isReady(): boolean }
  revocation: { readonly isLoaded: boolean }
  isDraining: () => boolean
  mono: () => number
}): Health {
  const { db, engine, revocation, isDraining, mono } = options
  let last: { at: number; state: Promise<string> } | undefined

  async function database(): Promise<string> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<string>(resolve => {
      timer = setTimeout(resolve, checkMsMax, 'away')
      timer.unref()
    })
    const asked = db
      .query<{ ok: boolean }>(`select to_regclass('receipt_mark') is not null as ok`)
      .then(r => (r.rows[0]?.ok ? 'ok' : 'not migrated'))
      .catch(() => 'away')
    return Promise.race([asked, late]).finally(() => clearTimeout(timer))
  }

  return {
    live: () => ({ status: 200, body: { status: 'ok' } }),
    async ready() {
      if (!last || mono() - last.at > keepMs) last = { at: mono(), state: database() }
      const checks = {
        database: await last.state,
        engine: engine.isReady() ? 'ok' : 'away',
        revocation: revocation.isLoaded ? 'ok' : 'not loaded',
        draining: isDraining() ? 'yes' : 'no',
      }
      const isReady =
        checks.database === 'ok' && checks.engine === 'ok' && checks.revocation === 'ok' && checks.draining === 'no'
      return { status: isReady ? 200 : 503, body: { status: isReady ? 'ok' : 'unavailable', checks } }
    },
  }
}
