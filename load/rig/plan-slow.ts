/**
 * F8: people whose sockets read 1 KiB a second, read nothing, or never answer a ping, while others talk. A kernel takes
 * megabytes on loopback before a server sees anything, so each asks for history again and again, as much as one answer holds:
 * of more it would only be told that it is too far behind. Refuses to judge the others' times; audit.ts compares them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { rssBytes } from '#load/kit/proc.ts'
import { handshake, openRaw, type RawSocket, rawFrame } from '#load/kit/raw-socket.ts'
import type { Fault } from './plan-kit.ts'
import type { World } from './world.ts'

export type Slowness = 'slow' | 'deaf' | 'mute'

/** Who reads nothing is given up after 30 s without progress, and its goodbye has half a minute to be read. */
const lastMs: Record<Slowness, number> = { slow: 45_000, deaf: 80_000, mute: 45_000 }
/** What one may cost; the rest is the process's own breathing. */
const bytesEachMax = 1.2 * 2 ** 20
const breathingBytes = 96 * 2 ** 20
const askEveryMs = 250
const askedEvents = 500
const readEveryMs = 1000

interface Room {
  id: string
  head: number
}

interface SlowOne {
  raw: RawSocket
  stop(): void
}

async function open(url: string, token: string, how: Slowness, { id, head }: Room): Promise<SlowOne> {
  const raw = openRaw(url.replace('ws:', 'http:'))
  raw.write(handshake(url, { headers: { 'Sec-WebSocket-Protocol': `parley.v1, bearer.${token}` } }))
  const { status } = await raw.response()
  if (status !== 101) throw new Error(`a slow client was not let in: ${status}`)
  const timers: NodeJS.Timeout[] = []
  if (how !== 'mute') {
    let n = 0
    timers.push(
      setInterval(() => {
        const afterSeq = Math.max(0, head - askedEvents)
        raw.write(rawFrame(JSON.stringify({ type: 'room.join', conversationId: id, afterSeq, requestId: `${n++}` })))
      }, askEveryMs),
    )
    raw.socket.pause()
  }
  if (how === 'slow')
    timers.push(
      setInterval(() => {
        // Whatever the stream has gathered, at most a piece of it a second.
        raw.socket.once('data', () => raw.socket.pause())
        raw.socket.resume()
      }, readEveryMs),
    )
  const stop = () => {
    for (const timer of timers) clearInterval(timer)
  }
  void raw.closed.then(stop)
  return { raw, stop }
}

export function slowClients(how: Slowness): Fault {
  const lastsMs = lastMs[how]
  return {
    code: `F8 ${how}`,
    title: `a tenth of the people ${how === 'slow' ? 'read little' : how === 'deaf' ? 'read nothing' : 'answer no ping'} for ${lastsMs / 1000} s`,
    limitMs: 1500,
    targetMs: 300,
    othersFactorMax: 1.5,
    async play(world: World) {
      const rows = await world.query<Room & { user: string }>(
        `select m.conversation_id as id, m.user_id as "user", h.head
           from conversation_member m
           join (select conversation_id, max(seq)::int as head from event group by 1) h using (conversation_id)`,
      )
      const before = world.gateways.map(g => rssBytes(g.pid()))
      const all: SlowOne[] = []
      for (const [i, token] of world.idle.entries()) {
        const { sub } = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { sub: string }
        // The one of which there is most to send: in a small one it takes longer than this lasts.
        const mine = rows.filter(r => r.user === sub).toSorted((a, b) => b.head - a.head)
        const urls = world.wsUrls()
        if (mine[0]) all.push(await open(`${urls[i % urls.length]}/ws`, token, how, mine[0]))
      }
      let closed = 0
      for (const { raw } of all) void raw.closed.then(() => closed++)
      const most = [...before]
      for (const end = performance.now() + lastsMs; performance.now() < end; await sleep(500))
        for (const [i, g] of world.gateways.entries()) most[i] = Math.max(most[i]!, rssBytes(g.pid()))
      const closedByServer = closed
      for (const { raw, stop } of all) {
        stop()
        raw.destroy()
      }
      const problems: string[] = []
      for (const [i, g] of world.gateways.entries()) {
        const grown = most[i]! - before[i]!
        const allowed = bytesEachMax * all.length + breathingBytes
        if (grown > allowed)
          problems.push(`${g.name} grew by ${(grown / 2 ** 20).toFixed(0)} MiB beside ${all.length} slow clients`)
      }
      if (how !== 'slow' && closedByServer < all.length)
        problems.push(`${all.length - closedByServer} of ${all.length} were never given up`)
      return { fired: all.length, problems, note: `${closedByServer} closed` }
    },
  }
}
