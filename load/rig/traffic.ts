/**
 * The people of a run: devices of seeded users in conversations of several sizes, sends at a steady rate, connections lost at
 * random, somebody watching presence on each gateway. Owns nothing of the faults; stops when told and waits until it is quiet.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Device } from './clients.ts'
import type { HistoryWriter } from './history.ts'
import type { World } from './world.ts'

export interface Size {
  sessions: number
  /** Members of each conversation. */
  conversations: number[]
  sendsPerSecond: number
  /** A device loses its connection after a random time of this span, ms; absent up to `awayMs`. */
  cutMs: [number, number]
  awayMs: number
  /** Devices without cuts that stay away once a fault took their connection. */
  sleepers?: number
}

export interface Traffic {
  readonly conversations: readonly { id: string; members: readonly number[] }[]
  readonly devices: readonly Device[]
  readonly tokens: readonly string[]
  setRate(sendsPerSecond: number): void
  /** Nobody sends and nobody goes, for a while; true when all was answered and everybody is connected within the time. */
  pause(ms: number): Promise<boolean>
  resume(): void
  /** No more cuts: everybody comes back and stays. */
  settle(): void
  /** No more sends; true when every send was answered and everybody is connected within the time. */
  quiet(ms: number): Promise<boolean>
  stop(): void
}

/** Sends that wait for an answer, of all devices. */
const underWayMax = 2000
const presenceEveryMs = 1000

export async function startTraffic(options: {
  world: World
  size: Size
  history: HistoryWriter
  random: () => number
}): Promise<Traffic> {
  const { world, size, history, random } = options
  const all = await world.seed(size.sessions + Math.ceil(size.sessions / 10))
  const tokens = all.slice(0, size.sessions)
  world.idle = all.slice(size.sessions)
  const actors = tokens.map(subjectOf)
  const conversations = await makeConversations({
    world,
    tokens: all,
    sessions: size.sessions,
    sizes: size.conversations,
    random,
  })
  let isOver = false
  let areCutsOver = false
  let isPaused = false
  let underWay = 0
  let rate = size.sendsPerSecond

  const devices = tokens.map(
    (token, i) =>
      new Device({
        actor: actors[i]!,
        device: `d${i}`,
        token,
        gateways: world.wsUrls,
        rest: world.restUrl,
        history,
        random,
        // Whichever gateway is broken, somebody stays away.
        ...(i >= tokens.length - (size.sleepers ?? 0) && { staysAway: true, gateway: i }),
      }),
  )
  for (let i = 0; i < devices.length; i += 20) await Promise.all(devices.slice(i, i + 20).map(d => d.start()))
  for (const device of devices.slice(0, devices.length - (size.sleepers ?? 0))) void cutLoop(device)
  const sending = sendLoop()
  const presence = setInterval(() => {
    for (const device of devices.slice(0, 2)) device.watchPresence(actors.slice(-50))
  }, presenceEveryMs)

  async function cutLoop(device: Device): Promise<void> {
    const [from, to] = size.cutMs
    while (!isOver && !areCutsOver) {
      const until = performance.now() + from + random() * (to - from)
      while (performance.now() < until && !areCutsOver && !isOver) await sleep(100)
      if (areCutsOver || isOver) return
      if (isPaused) continue
      await device.leave(random() < 0.3 ? 'clean' : 'cut', random() * random() * size.awayMs)
    }
  }

  async function settled(ms: number): Promise<boolean> {
    for (const until = performance.now() + ms; performance.now() < until; await sleep(50)) {
      if (underWay === 0 && devices.every(d => d.isReady || d.isLost)) return true
    }
    return false
  }

  async function sendLoop(): Promise<void> {
    const began = performance.now()
    let due = 0
    let n = 0
    let last = began
    while (!isOver) {
      await sleep(5)
      const now = performance.now()
      due = isPaused ? 0 : Math.min(due + ((now - last) * rate) / 1000, rate)
      last = now
      for (; due >= 1 && underWay < underWayMax; due--) {
        const conversation = conversations[Math.floor(random() * conversations.length)]!
        const member = conversation.members[Math.floor(random() * conversation.members.length)]!
        const device = devices[member]
        if (!device?.isReady) continue
        underWay++
        void device.send(conversation.id, `${member} says ${++n}`).finally(() => underWay--)
      }
    }
  }

  return {
    conversations,
    devices,
    tokens: all,
    setRate(next) {
      rate = next
    },
    settle() {
      areCutsOver = true
    },
    pause(ms) {
      isPaused = true
      return settled(ms)
    },
    resume() {
      isPaused = false
    },
    quiet(ms) {
      areCutsOver = true
      rate = 0
      return settled(ms)
    },
    stop() {
      isOver = true
      clearInterval(presence)
      for (const device of devices) device.stop()
      void sending
    },
  }
}

/** Who has no device is in the largest one: who is to be slow there needs something to be sent. */
async function makeConversations({
  world,
  tokens,
  sessions,
  sizes,
  random,
}: {
  world: World
  tokens: readonly string[]
  sessions: number
  sizes: readonly number[]
  random: () => number
}): Promise<{ id: string; members: number[] }[]> {
  const out: { id: string; members: number[] }[] = []
  const idle = Array.from({ length: tokens.length - sessions }, (_, i) => sessions + i)
  const largest = sizes.indexOf(Math.max(...sizes))
  const pairs = new Set<string>()
  for (const [i, size] of sizes.entries()) {
    let members: number[]
    do members = pick(tokens.length, size, random)
    while (size === 2 && pairs.has(members.toSorted((a, b) => a - b).join()))
    pairs.add(members.toSorted((a, b) => a - b).join())
    if (i === largest) members = [...new Set([...members, ...idle])]
    const usernames = members.slice(1).map(m => `seed_${m + 1}`)
    const body = size === 2 ? { type: 'dm', usernames } : { type: 'group', title: `room ${i}`, usernames }
    const response = await fetch(`${world.restUrl()}/conversations`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tokens[members[0]!]}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`a conversation was not made: ${response.status} ${await response.text()}`)
    out.push({ id: ((await response.json()) as { id: string }).id, members })
  }
  return out
}

function pick(from: number, count: number, random: () => number): number[] {
  const left = Array.from({ length: from }, (_, i) => i)
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!)
}

const subjectOf = (token: string) =>
  (JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { sub: string }).sub
