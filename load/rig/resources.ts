/**
 * What the processes hold: descriptors by what they are, connections by where they lead, streams, keys in Redis, heap after a
 * collection. Counted when everybody is connected and nothing is under way. Refuses to say what is too much.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Resources } from '#load/kit/checkers-resources.ts'
import { rssBytes } from '#load/kit/proc.ts'
import type { Scraped } from '#load/kit/scrape.ts'
import type { Node, World } from './world.ts'

/** Everything that has to be back exactly, but for the clients' own sockets, which are counted against the devices. */
export async function countExact(world: World, devices: number): Promise<Resources> {
  const out: Resources = {}
  const nodes = [...world.gateways, ...world.engines]
  const pages = new Map<Node, Scraped>()
  for (const node of nodes) pages.set(node, await node.metrics())
  const sum = (of: readonly Node[], name: string) => of.reduce((n, node) => n + (pages.get(node)!.get(name) ?? 0), 0)
  out['sockets beyond the devices'] = sum(world.gateways, 'parley_sockets') - devices
  out['sends pending'] = sum(world.gateways, 'parley_sends_pending')
  out['letters in mailboxes'] = sum(world.engines, 'parley_mailbox_letters')
  out['shards owned'] = sum(world.engines, 'parley_shards_owned')
  out['streams at gateways'] = sum(world.gateways, 'parley_links')
  out['streams at engines'] = sum(world.engines, 'parley_links')
  for (const node of nodes) {
    const pid = node.pid()
    if (pid) out[`${node.name} files and pipes`] = descriptors(pid)
  }
  out['keys without an end'] = await lastingKeys(world)
  return out
}

/** Once a run: what may grow a little. */
export async function countMemory(world: World): Promise<Resources> {
  const out: Resources = {}
  for (const node of [...world.gateways, ...world.engines]) {
    const pid = node.pid()
    if (!pid) continue
    const answer = await fetch(`${node.adminUrl()}/heap`, { signal: AbortSignal.timeout(20_000) })
    const { main, threads } = (await answer.json()) as { main: number; threads: number[] }
    out[`${node.name} heap`] = threads.reduce((n, bytes) => n + bytes, main)
    out[`${node.name} rss`] = rssBytes(pid)
  }
  return out
}

/** Connections to Postgres of each node. A pool lets idle ones go, so this is a bound and not a count. */
export function connectionsBeyond(world: World, each: number): string[] {
  return [...world.gateways, ...world.engines].flatMap(({ name, proxy }) =>
    proxy.openCount > each
      ? [`${name} holds ${proxy.openCount} connections to Postgres, at most ${each} are its share`]
      : [],
  )
}

/** Open descriptors that are no sockets: files, pipes, and what event loops and threads are made of. */
function descriptors(pid: number): number {
  let count = 0
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      if (!readlinkSync(`/proc/${pid}/fd/${name}`).startsWith('socket:')) count++
    } catch {
      // It was closed meanwhile.
    }
  }
  return count
}

/** Established TCP connections of the machine that end at this local port. */
export function connectionsTo(port: number): number {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0')
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n')
  return rows.filter(row => {
    const [, local, , state] = row.trim().split(/\s+/)
    return local?.endsWith(`:${wanted}`) && state === '01'
  }).length
}

/** Presence and the like end by themselves; what has no end must not gather. */
async function lastingKeys(world: World): Promise<number> {
  const answer = await world.redis.command('INFO keyspace')
  const [, keys = '0', expires = '0'] = /keys=(\d+),expires=(\d+)/.exec(answer) ?? []
  return Number(keys) - Number(expires)
}
