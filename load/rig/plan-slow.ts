/**
 * F8: people whose sockets read 1 KiB a second, read nothing, or never answer a ping, while others talk. A kernel takes
 * megabytes on loopback before a server sees anything, so each asks for history again and again, as much as one answer holds
 * (of more it would only be told that it is too far behind), until the kernel has its fill: what is measured is slow readers,
 * and not how dear history is. They sit at the gateways themselves: a link that nobody reads from would not pass on that the
 * gateway has closed. Refuses to judge the others' times; audit.ts compares them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { rssBytes } from '#load/kit/proc.ts'
import { handshake, openRaw, type RawSocket, rawFrame } from '#load/kit/raw-socket.ts'
import type { Fault } from './plan-kit.ts'
import type { World } from './world.ts'

export type Slowness = 'slow' | 'deaf' | 'mute'

/**
 * Who reads nothing is given up after 30 s without progress, and its goodbye has half a minute to be read: that begins when
 * the kernel has taken its megabytes, later the less there is to ask for. Those who have to be given up end it by that.
 */
const lastMsMax: Record<Slowness, number> = { slow: 45_000, deaf: 150_000, mute: 60_000 }
/** What one may cost; the rest is the process's own breathing. */
const bytesEachMax = 1.2 * 2 ** 20
const breathingBytes = 96 * 2 ** 20
const askEveryMs = 1000
const askedEvents = 500
/** What an event is at least, and what both kernels take of a connection at most. */
const eventBytes = 250
const kernelBytes = 16 * 2 ** 20
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
    const afterSeq = Math.max(0, head - askedEvents)
    const asksMax = kernelBytes / (Math.max(1, head - afterSeq) * eventBytes)
    let tick = 0
    timers.push(
      setInterval(() => {
        // Who reads a little makes room again: 64 KiB a second, half an answer.
        if (tick++ > asksMax && (how === 'deaf' || tick % 2 === 0)) return
        raw.write(rawFrame(JSON.stringify({ type: 'room.join', conversationId: id, afterSeq, requestId: `${tick}` })))
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
  const lastsMs = lastMsMax[how]
  return {
    code: `F8 ${how}`,
    title: `a tenth of the people ${how === 'slow' ? 'read little' : how === 'deaf' ? 'read nothing' : 'answer no ping'} for ${how === 'slow' ? '' : 'at most '}${lastsMs / 1000} s`,
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
        const { url } = world.gateways[i % world.gateways.length]!.file() ?? {}
        if (mine[0] && url) all.push(await open(`${url.replace(/^http/, 'ws')}/ws`, token, how, mine[0]))
      }
      let closed = 0
      for (const { raw } of all) void raw.closed.then(() => closed++)
      const most = [...before]
      for (const end = performance.now() + lastsMs; performance.now() < end && closed < all.length; await sleep(500))
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
