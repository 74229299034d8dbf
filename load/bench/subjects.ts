/**
 * What the bench measures, behind one face: Parley as its users start it, and the Socket.IO reference, both on one Postgres and
 * one Redis. Owns their processes; refuses to run both under load at once.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { silentLog } from '#engine/ops/log.ts'
import { startEmbedded } from '#engine/storage/embedded-postgres.ts'
import { cpuMs, rssBytes, treeCpuMs } from '#load/kit/proc.ts'
import { endProcess, type Product, startProduct } from '#load/kit/product.ts'
import { RedisServer } from '#load/rig/redis-server.ts'
import { slowFlush } from './slow-flush.ts'
import type { Sender, WireName } from './wires.ts'

export interface Subject {
  name: WireName
  url: string
  /** Two for each conversation of two, in turn. */
  pairs(count: number): Promise<Sender[]>
  /** Everybody in one room. */
  room(count: number): Promise<Sender[]>
  /** Signed in, in no conversation. */
  idlers(count: number): Promise<Sender[]>
  /** CPU ms so far, by component. */
  cpu(): Record<string, number>
  /** Of the process that holds the sockets. */
  socketRss(): number
  stop(): Promise<void>
}

/** What the database's log keeps of old files, and the size of one. */
const walMb = 1024
const walFileMb = 16

export interface Ground {
  databaseUrl: string
  redis: RedisServer
  postgresPid: number
  /** What makes flushes slower: around the system call, or a sleep before it where that cannot be built. */
  slowedBy: 'shim' | 'commit_delay' | undefined
  stop(): Promise<void>
}

/** `flushMs`: each flush of the database takes so much longer. */
export async function startGround(flushMs = 0): Promise<Ground> {
  const home = mkdtempSync(path.join(tmpdir(), 'parley-bench-'))
  // As root the database runs as another user, who has to get here.
  chmodSync(home, 0o755)
  const shim = flushMs > 0 ? slowFlush(home, flushMs) : undefined
  // Without a compiler: the one who flushes for the others sleeps before it does.
  const delay: Record<string, number> = flushMs > 0 && !shim ? { commit_delay: flushMs * 1000, commit_siblings: 0 } : {}
  const settings = { ...delay, min_wal_size: walMb, max_wal_size: 4 * walMb }
  const server = await startEmbedded(home, silentLog, settings, shim)
  await recycleWal(server.url)
  const redis = await RedisServer.start(home)
  const ground: Ground = {
    databaseUrl: server.url,
    redis,
    postgresPid: server.pid,
    slowedBy: flushMs === 0 ? undefined : shim ? 'shim' : 'commit_delay',
    async stop() {
      await redis.stop()
      await server.stop()
      rmSync(server.dataDir, { recursive: true, force: true })
      rmSync(home, { recursive: true, force: true })
    },
  }
  // Interrupted, it still takes its servers along.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void ground.stop().finally(() => process.exit(1)))
  return ground
}

/**
 * A young cluster fills each new file of its log with zeros, a stall every few seconds of load; one that has run for a while
 * writes over old ones. The latter is measured.
 */
async function recycleWal(url: string): Promise<void> {
  const admin = new Client({ connectionString: url })
  await admin.connect()
  const next = async () => {
    await admin.query("select pg_logical_emit_message(false, 'bench', 'x')")
    await admin.query('select pg_switch_wal()')
  }
  for (let i = 0; i < walMb / walFileMb; i++) await next()
  // The second one finds all files but its own free.
  for (let i = 0; i < 2; i++) {
    await admin.query('checkpoint')
    await next()
  }
  await admin.end()
}

export interface ParleySubject extends Subject {
  product: Product
  /** Users that nobody else got, with their names. */
  users(count: number): Promise<{ token: string; username: string }[]>
}

export async function startParley(ground: Ground, env: Record<string, string> = {}): Promise<ParleySubject> {
  const product: Product = await startProduct({
    DATABASE_URL: ground.databaseUrl,
    REDIS_URL: ground.redis.url,
    GROUP_MEMBERS_MAX: '2000',
    ...env,
  })
  let seeded: string[] = []
  let used = 0
  /** Fresh users, so that nobody carries conversations of another measurement. */
  const take = async (count: number) => {
    if (seeded.length < used + count) seeded = await product.seed(used + count)
    const from = used
    used += count
    return Array.from({ length: count }, (_, i) => ({ token: seeded[from + i]!, username: `seed_${from + i + 1}` }))
  }
  const conversation = async (token: string, body: object) =>
    (await product.request<{ id: string }>(token, 'POST', '/conversations', body)).id
  return {
    name: 'parley',
    url: product.wsUrl,
    product,
    users: take,
    async pairs(count) {
      const users = await take(count * 2)
      const out: Sender[] = []
      for (let i = 0; i < count; i++) {
        const [a, b] = [users[2 * i]!, users[2 * i + 1]!]
        const id = await conversation(a.token, { type: 'dm', usernames: [b.username] })
        out.push({ token: a.token, conversation: id }, { token: b.token, conversation: id })
      }
      return out
    },
    async room(count) {
      const users = await take(count)
      const usernames = users.slice(1).map(u => u.username)
      const id = await conversation(users[0]!.token, { type: 'group', title: 'everybody', usernames })
      return users.map(({ token }) => ({ token, conversation: id }))
    },
    idlers: async count => (await take(count)).map(({ token }) => ({ token, conversation: '' })),
    cpu() {
      const node = product.node()
      return {
        gateway: cpuMs(node.gateway),
        engine: cpuMs(node.engine),
        postgres: treeCpuMs(ground.postgresPid),
        redis: cpuMs(ground.redis.pid),
      }
    },
    socketRss: () => rssBytes(product.node().gateway),
    stop: () => product.stop(),
  }
}

export async function startSio(ground: Ground): Promise<Subject> {
  const admin = new Client({ connectionString: ground.databaseUrl })
  await admin.connect()
  await admin.query(`
    create table if not exists sio_user (id uuid primary key, token text not null unique);
    create table if not exists sio_member (conversation uuid, user_id uuid references sio_user(id), primary key (conversation, user_id));
    create index if not exists sio_member_user on sio_member (user_id);
    create table if not exists sio_message (seq bigserial primary key, conversation uuid not null, sender uuid not null, client_id uuid not null,
      content text not null, created_at timestamptz not null default clock_timestamp(), unique (conversation, sender, client_id))`)
  const child: ChildProcess = fork(path.join(import.meta.dirname, 'sio-reference.ts'), [], {
    env: { ...process.env, DATABASE_URL: ground.databaseUrl, REDIS_URL: ground.redis.url },
    stdio: 'inherit',
  })
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', message => resolve((message as { port: number }).port))
    child.once('exit', code => reject(new Error(`the reference ended with ${code}`)))
  })
  /** `groups`: sizes of conversations; 0: one user without any. */
  const make = async (groups: readonly number[]): Promise<Sender[]> => {
    const out: Sender[] = []
    const users: { id: string; token: string }[] = []
    const members: { conversation: string; user: string }[] = []
    for (const size of groups) {
      const conversation = size === 0 ? '' : randomUUID()
      for (let i = 0; i < Math.max(1, size); i++) {
        const user = { id: randomUUID(), token: randomBytes(24).toString('base64url') }
        users.push(user)
        if (conversation !== '') members.push({ conversation, user: user.id })
        out.push({ token: user.token, conversation })
      }
    }
    await admin.query('insert into sio_user select * from unnest($1::uuid[], $2::text[])', [
      users.map(u => u.id),
      users.map(u => u.token),
    ])
    await admin.query('insert into sio_member select * from unnest($1::uuid[], $2::uuid[])', [
      members.map(m => m.conversation),
      members.map(m => m.user),
    ])
    return out
  }
  return {
    name: 'sio',
    url: `ws://127.0.0.1:${port}`,
    pairs: count => make(Array.from({ length: count }, () => 2)),
    room: count => make([count]),
    idlers: count => make(Array.from({ length: count }, () => 0)),
    cpu: () => ({
      server: cpuMs(child.pid),
      postgres: treeCpuMs(ground.postgresPid),
      redis: cpuMs(ground.redis.pid),
    }),
    socketRss: () => rssBytes(child.pid),
    async stop() {
      await endProcess(child, 3000)
      await admin.end()
    },
  }
}
