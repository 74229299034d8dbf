/**
 * `parley mcp`: the tools of one person over stdin and stdout, for programs on the same machine as the database. The access
 * token says whose; it is judged at start and its end at each call. Only JSON-RPC goes to stdout. Ends with its input.
 */
import { parseArgs } from 'node:util'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import pg from 'pg'
import { createMcpServer } from '#engine/assistant/mcp-server.ts'
import { createTasks, type ToolResult } from '#engine/assistant/tasks.ts'
import { failure } from '#engine/assistant/tools.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { ConfigError, readConfig } from '#engine/ops/config.ts'
import { poolQueryMsMax } from '#protos/limits.ts'
import { createTokens } from './auth/tokens.ts'

/** A sentence for the person at the keyboard; exit code 1. */
class Wrong extends Error {}

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { token: { type: 'string' } } })
  const config = readConfig()
  if (config.DATABASE_URL === '') throw new Wrong('DATABASE_URL: no database. Start parley first, or set it.')
  if (!values.token) throw new Wrong('parley mcp --token <access token>; parley token <email> prints one.')
  const pool = new pg.Pool({
    connectionString: config.DATABASE_URL,
    max: 4,
    connectionTimeoutMillis: 5000,
    query_timeout: poolQueryMsMax,
  })
  pool.on('error', () => {})
  try {
    const tokens = await createTokens({ db: pool, clock: systemClock, signingKey: config.JWT_SIGNING_KEY })
    const access = await tokens.verifyAccess(values.token)
    if ('reason' in access) throw new Wrong(`--token: ${access.reason}`)
    const isLive = async () => {
      const { rows } = await pool.query('select 1 from sessions where id = $1 and revoked_at is null', [
        access.sessionId,
      ])
      return systemClock.now() < access.expiresAt && rows.length > 0
    }
    if (!(await isLive())) throw new Wrong('--token: TOKEN_REVOKED')
    await serve(pool, access.userId, isLive)
  } finally {
    await pool.end()
  }
}

/** Until the input ends and every call is answered. */
async function serve(pool: pg.Pool, userId: string, isLive: () => Promise<boolean>): Promise<void> {
  const tasks = createTasks(pool)
  const running = new Set<Promise<ToolResult>>()
  const server = createMcpServer(
    {
      run(request) {
        const call = isLive().then(live =>
          live ? tasks.run(request) : failure('Unauthorized', 'The token has ended.'),
        )
        running.add(call)
        const done = () => void running.delete(call)
        call.then(done, done)
        return call
      },
    },
    {
      userId,
      door: 'stdio',
      onError: error => process.stderr.write(`a call failed: ${(error as Error).message}\n`),
    },
  )
  const ended = new Promise<void>(resolve => {
    process.stdin.once('end', resolve)
    process.stdin.once('close', resolve)
  })
  await server.connect(new StdioServerTransport() as Parameters<typeof server.connect>[0])
  await ended
  // Requests read just before the end reach their handlers in this turn, their answers the output in the next ones.
  await new Promise(resolve => setImmediate(resolve))
  while (running.size > 0) await Promise.allSettled(running)
  await new Promise(resolve => setTimeout(resolve, 10))
  await server.close()
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const e = error as NodeJS.ErrnoException
  const isPlain = error instanceof Wrong || error instanceof ConfigError || e.code?.startsWith('ERR_PARSE_ARGS')
  process.stderr.write(
    `${isPlain ? e.message : `${e.code ?? e.name}: ${e.message || 'the database cannot be reached'}`}\n`,
  )
  process.exitCode = 1
})
