/** Puts the routes of this folder together with what they work on. Owns no rule; app.ts serves what it answers. */
import type { EngineClient } from '#engine/client/port.ts'
import type { Clock } from '#engine/ops/clock.ts'
import type { Config } from '#engine/ops/config.ts'
import type { Log } from '#engine/ops/log.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { budgetLimitsOf } from '#engine/storage/budget.ts'
import { createAccounts } from '#gateway/auth/accounts.ts'
import { audit } from '#gateway/auth/audit.ts'
import type { Db } from '#gateway/auth/db.ts'
import { createPasswords } from '#gateway/auth/passwords.ts'
import type { Sessions } from '#gateway/auth/refresh.ts'
import type { Tokens } from '#gateway/auth/tokens.ts'
import type { ChatListeners } from '#gateway/chat-listener.ts'
import type { Positions } from '#gateway/positions.ts'
import { auditEntryOf } from './audit-entry.ts'
import { createChatTurns } from './chat-turn.ts'
import { createCommands } from './commands.ts'
import type { Health } from './health.ts'
import type { Limiter } from './limiter.ts'
import { createLoginDelay } from './login-delay.ts'
import type { Origins } from './origin.ts'
import { createPeople } from './people.ts'
import { createReader } from './reader.ts'
import type { RouteSpec } from './route.ts'
import { accountRoutes } from './routes-accounts.ts'
import { chatRoutes } from './routes-chat.ts'
import { conversationRoutes } from './routes-conversations.ts'
import { messageRoutes } from './routes-messages.ts'
import { peopleRoutes } from './routes-people.ts'
import { taskRoutes } from './routes-tasks.ts'
import { createUsage } from './usage.ts'

export interface HttpDeps {
  config: Config
  log: Log
  metrics: Metrics
  clock: Clock
  /** The gateway's pool. */
  db: Db
  engine: EngineClient
  tokens: Tokens
  sessions: Sessions
  limiter: Limiter
  origins: Origins
  health: Health
  /** Readers of turns in progress; absent where no hub runs. */
  listeners?: ChatListeners
  /** What readers have read a moment ago. */
  positions: Positions
  /** Folder of the built web app; absent or missing: its pages answer 503. */
  webDist?: string
  /** For tests: how long a request may take to arrive. */
  requestTimeoutMs?: number
}

/** Every REST route of this server: for the document, the tests and the server itself. */
export function routesOf(deps: HttpDeps): RouteSpec[] {
  const { db, clock, config, metrics, sessions, tokens, limiter, engine } = deps
  const passwords = createPasswords({ cost: config.BCRYPT_COST, metrics })
  const accounts = createAccounts({ db, clock, config, passwords, sessions })
  const people = createPeople(db)
  const reader = createReader(db, deps.positions)
  const commands = createCommands({
    engine,
    clock,
    groupMembersMax: config.GROUP_MEMBERS_MAX,
    onChanged(principal, command, requestId) {
      const entry = auditEntryOf(principal, command, requestId)
      if (!entry) return
      // The change is committed and stays: a trail that cannot be written is our fault, not the caller's.
      audit(db, entry).catch((error: unknown) => deps.log.error('audit record lost', { requestId, err: error }))
    },
  })
  return [
    ...accountRoutes({
      accounts,
      sessions,
      tokens,
      limiter,
      loginDelay: createLoginDelay({ clock, metrics, scale: config.RATE_LIMIT_SCALE }),
      accessTtlS: config.ACCESS_TOKEN_TTL_S,
      now: () => clock.now(),
    }),
    ...peopleRoutes({ people, commands }),
    ...conversationRoutes({ people, reader, commands, clock, groupMembersMax: config.GROUP_MEMBERS_MAX, limiter }),
    ...messageRoutes({ reader, commands, clock, limiter, positions: deps.positions }),
    ...chatRoutes({
      turns:
        deps.listeners && createChatTurns({ listeners: deps.listeners, commands, reader, db, now: () => clock.now() }),
      reader,
      commands,
      clock,
      limiter,
      usage: createUsage({ db, limits: budgetLimitsOf(config) }),
      db,
    }),
    ...taskRoutes({ db, log: deps.log }),
  ]
}
