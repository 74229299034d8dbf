/**
 * One run: builds the cluster that a plan describes, plays its acts and faults, heals everything, waits for quiet and asks
 * the checkers. Loaded only after the edges were turned (hooks.ts). Refuses to judge; checks.ts does.
 */
import type { DurableFrame } from '#protos/catalogue.ts'
import { shardOf } from '#protos/shard.ts'
import { checkSafety, differences, openWork } from './checks.ts'
import { SimClient } from './client.ts'
import type { World } from './cluster.ts'
import { EngineNode } from './engine-node.ts'
import { strike } from './faults.ts'
import { GatewayNode } from './gateway-node.ts'
import { run } from './globals.ts'
import { Kernel, Proc } from './kernel.ts'
import { Net } from './network.ts'
import type { Act, Plan } from './plan.ts'
import { PostgresServer } from './postgres-server.ts'
import { Recorder } from './recorder.ts'
import { setServices } from './services.ts'
import { SimWebSocket, setTown } from './socket.ts'

export interface Outcome {
  problems: string[]
  events: number
  turns: number
  acts: number
  acked: number
  unknown: number
  resumes: number
  faults: number
  virtualMs: number
  trace: string[]
}

/** Everything is up and the rooms are made by then, ms. */
const startMs = 2500
/** Liveness: after everything was healed, quiet within this. */
export const quietMsMax = 30_000
const quietPollMs = 250

export async function simulate(plan: Plan): Promise<Outcome> {
  const kernel = new Kernel(plan.seed)
  const net = new Net(kernel)
  const postgres = new PostgresServer(kernel, new Proc('pg'))
  setServices({ kernel, net, postgres, listeners: new Map() })
  const recorder = new Recorder(kernel, id => postgres.model.movesOf(shardOf(id)) > 1)
  const gateways = Array.from({ length: plan.gateways }, (_, i) => new GatewayNode(kernel, `g${i + 1}`))
  const engines = Array.from({ length: plan.engines }, (_, i) => new EngineNode(kernel, `e${i + 1}`, plan.threads))
  setTown({ gateways, recorder })
  const read = (client: () => SimClient) => async (conversation: string, after: number) => {
    const gateway = gateways.find(g => g.running && !g.proc.isDead)
    if (!gateway) throw new Error('no gateway')
    const [frames] = await gateway.running!.reads.frames([{ conversation, after, events: 10_000, bytes: 1e9 }])
    kernel.note(`${client().proc.name} reads history`)
    return frames!.map(f => JSON.parse(f.json) as DurableFrame)
  }
  const clients: SimClient[] = Array.from({ length: plan.people }, (_, i) => {
    const user = `00000000-0000-7000-8000-00000000000${i + 1}`
    const client: SimClient = new SimClient(
      kernel,
      `c${i + 1}`,
      user,
      read(() => client),
    )
    return client
  })
  const rooms = plan.rooms.map(
    (_, i) => `00000000-0000-7000-8000-0000000${(plan.seed % 0xfff).toString(16).padStart(3, '0')}a${i}`,
  )
  const world: World = { plan, kernel, net, postgres, engines, gateways, clients, recorder, rooms }
  const restore = browser()
  try {
    await play(world)
  } catch (error) {
    kernel.broken(`the run broke off: ${String((error as Error).stack)}`)
  } finally {
    restore()
    SimWebSocket.open.clear()
  }
  const { attempts } = recorder.history
  return {
    problems: kernel.problems,
    events: kernel.events,
    turns: kernel.turns,
    acts: plan.acts.length,
    acked: attempts.filter(a => a.outcome.kind === 'ok').length,
    unknown: attempts.filter(a => a.outcome.kind === 'unknown').length,
    resumes: recorder.joins,
    faults: plan.faults.length,
    virtualMs: kernel.now,
    trace: kernel.trace,
  }
}

async function play(world: World): Promise<void> {
  const { plan, kernel, engines, gateways, clients } = world
  const isBroken = () => kernel.problems.length > 0
  for (const engine of engines) engine.start()
  for (const gateway of gateways) kernel.at(kernel.world, kernel.random.between(100, 400), () => gateway.start())
  kernel.at(kernel.world, 1200, () => create(world))
  for (const client of clients) kernel.at(kernel.world, kernel.random.between(600, 2000), () => client.start())
  for (const a of plan.acts) kernel.at(kernel.world, startMs + a.at, () => act(world, a))
  for (const fault of plan.faults) kernel.at(kernel.world, startMs + fault.at, () => strike(world, fault))
  await run(kernel, startMs + plan.chaosMs, isBroken)
  if (isBroken()) return
  heal(world)
  const until = kernel.now + quietMsMax
  let quiet = 0
  let open: string[] = []
  while (!isBroken() && kernel.now < until && quiet < 4) {
    await run(kernel, kernel.now + quietPollMs, isBroken)
    open = openWork(world)
    quiet = open.length === 0 ? quiet + 1 : 0
  }
  if (isBroken()) return
  for (const what of open) kernel.broken(`LIVE ${what}`)
  // Receipts are flushed, chat.done that was lost is made again.
  await run(kernel, kernel.now + 14_000, isBroken)
  world.recorder.finish()
  for (const problem of [...checkSafety(world), ...differences(world)]) kernel.broken(problem)
}

function create(world: World): void {
  const { plan, kernel, gateways, clients, rooms } = world
  plan.rooms.forEach(({ kind, members }, i) => {
    const gateway = gateways[i % gateways.length]!
    const roles = members.map((m, n) => ({ userId: clients[m]!.user, role: n === 0 ? 'owner' : 'member' }))
    const title = kind === 'group' ? { title: `room ${i}` } : {}
    const body = { type: 'conversation.create', conversationId: rooms[i]!, kind, members: roles, ...title }
    kernel.at(kernel.world, 0, () => request(world, gateway, clients[members[0]!]!.user, rooms[i]!, body))
  })
}

/** A command by REST, through whichever gateway. */
function request(
  world: World,
  gateway: GatewayNode,
  principal: string,
  conversation: string,
  body: Record<string, unknown>,
  answered: (text: string | undefined) => void = () => {},
): void {
  const { kernel } = world
  const { running } = gateway
  if (!running || running.proc.isDead) return
  kernel.at(running.proc, 0, () => {
    const attempt = kernel.id()
    const asked = {
      conversation,
      principal,
      attempt,
      trace: attempt,
      body: Buffer.from(JSON.stringify(body)),
      durable: true,
    }
    kernel.note(`${gateway.name} asks ${String(body['type'])} for ${principal.slice(-1)}`)
    void running.engine.request(asked, 20_000).then(text => {
      kernel.note(`${gateway.name} was told ${text?.slice(0, 120)}`)
      answered(text)
    })
  })
}

function act(world: World, { who, what, room, other }: Act): void {
  const { plan, clients, gateways, rooms, recorder, kernel } = world
  const client = clients[who]!
  kernel.events++
  const id = rooms[room]!
  const gateway = gateways[other % gateways.length]!
  switch (what) {
    case 'send':
      return client.send(id, 'message.send')
    case 'chat':
      return client.send(id, 'chat.send')
    case 'read':
      return client.read(id)
    case 'type':
      return client.type(id)
    case 'stop':
      return client.stop(id)
    case 'duplicate': {
      const letter = client.recent.at(-1 - (other % 3))
      if (letter) client.duplicate(letter, gateway.name)
      return
    }
    case 'rest': {
      if (!gateway.running || gateway.proc.isDead) return
      const clientMessageId = kernel.id()
      const content = `${client.proc.name} posts ${other}`
      const attempt = recorder.request(client.user, id, clientMessageId, content)
      const body = { type: 'message.send', conversationId: id, clientMessageId, content }
      return request(world, gateway, client.user, id, body, text => recorder.answered(attempt, text))
    }
    case 'remove':
    case 'add': {
      if (plan.rooms[room]!.kind !== 'group') return
      const owner = clients[plan.rooms[room]!.members[0]!]!
      const target = clients[other % clients.length]!
      if (target === owner) return
      const more = what === 'add' ? { role: 'member' } : {}
      const body = { type: `member.${what}`, conversationId: id, userId: target.user, ...more }
      return request(world, gateway, owner.user, id, body)
    }
    default:
      what satisfies never
  }
}

/** The end of all trouble: everything runs, every path is open. */
function heal(world: World): void {
  const { kernel, net, postgres, engines, gateways, clients } = world
  kernel.note('--- everything is healed')
  postgres.armed.length = 0
  postgres.start()
  net.healAll()
  for (const engine of engines) {
    engine.resume()
    if (engine.isDead) engine.start()
  }
  for (const gateway of gateways) {
    kernel.resume(gateway.proc)
    if (gateway.proc.isDead) gateway.start()
  }
  for (const client of clients) if (client.isOffline) client.online()
}

/** What production's client shell takes from a browser. */
function browser(): () => void {
  const g = globalThis as Record<string, unknown>
  const before = { WebSocket: g['WebSocket'], addEventListener: g['addEventListener'], document: g['document'] }
  Object.assign(g, { WebSocket: SimWebSocket, addEventListener: () => {}, document: { addEventListener: () => {} } })
  return () => void Object.assign(g, before)
}
