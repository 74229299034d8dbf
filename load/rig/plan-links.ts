/** F12 and F13: ways between processes that are cut, one way or both, or slow. Each leaves every link open and fast. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LinkMode } from './links.ts'
import { type Fault, isBuried, pickOf, until } from './plan-kit.ts'
import type { World } from './world.ts'

/** Longer than a link's silence is borne, shorter than what gets an engine buried by suspicion. */
const cutMs = 12_000
const modeName: Record<LinkMode, string> = {
  pass: '',
  hold: 'cut',
  holdRequests: 'one way there',
  holdReplies: 'one way back',
  refuse: 'refused',
}

function linksOf(world: World, name: string) {
  const links = world.links.get(name)
  if (!links) throw new Error(`there is no link ${name}`)
  return links
}

const setAll = (world: World, names: readonly string[], mode: LinkMode) => {
  for (const name of names) for (const link of linksOf(world, name)) link.setMode(mode)
}

/** One gateway does not reach one engine: letters go over the other one. */
export function gatewayToEngine(mode: LinkMode, ms = cutMs): Fault {
  return {
    code: `F12 e-g ${modeName[mode]}`,
    title: `a gateway and an engine: ${modeName[mode]} for ${ms / 1000} s`,
    // Silence is noticed within 7 s, then another worker is asked.
    limitMs: 12_000,
    targetMs: 8000,
    needsLinks: true,
    async play(world, random) {
      // An engine that owns nothing yet has no links.
      const used = world.gateways
        .flatMap(g => world.engines.map(e => `${g.name}-${e.name}`))
        .filter(name => linksOf(world, name).some(link => link.open > 0))
      const name = pickOf(used, random)
      const before = linksOf(world, name).reduce((n, l) => n + l.open, 0)
      setAll(world, [name], mode)
      await sleep(ms)
      setAll(world, [name], 'pass')
      return { fired: before, note: name }
    },
  }
}

/** Its limits are the local ones then; presence is told as unknown. */
export function gatewayToRedis(mode: LinkMode, ms = cutMs): Fault {
  return {
    code: `F12 g-rd ${modeName[mode]}`,
    title: `a gateway and Redis: ${modeName[mode]} for ${ms / 1000} s`,
    limitMs: 1000,
    targetMs: 300,
    needsLinks: true,
    async play(world, random) {
      const name = `${pickOf(world.gateways, random).name}-rd`
      const before = linksOf(world, name).reduce((n, l) => n + l.open, 0)
      setAll(world, [name], mode)
      await sleep(ms)
      setAll(world, [name], 'pass')
      return { fired: before }
    },
  }
}

/** Everybody at one gateway is cut off at once. */
export function clientsToGateway(mode: LinkMode, ms = cutMs): Fault {
  return {
    code: `F12 c-g ${modeName[mode]}`,
    title: `clients and a gateway: ${modeName[mode]} for ${ms / 1000} s`,
    limitMs: 12_000,
    targetMs: 8000,
    // Found out by silence, then at the other gateway.
    reconnectMs: 20_000,
    needsLinks: true,
    async play(world, random) {
      const name = `c-${pickOf(world.gateways, random).name}`
      const before = linksOf(world, name).reduce((n, l) => n + l.open, 0)
      setAll(world, [name], mode)
      await sleep(ms)
      setAll(world, [name], 'pass')
      return { fired: before }
    },
  }
}

/** An engine alone: neither Postgres nor any gateway. It is replaced, and its late answers change nothing. */
export function isolated(ms = 15_000): Fault {
  return {
    code: 'F12 alone',
    title: `an engine is isolated for ${ms / 1000} s`,
    limitMs: 12_000,
    targetMs: 8000,
    needsLinks: true,
    async play(world, random) {
      const node = pickOf(world.engines, random)
      const names = world.gateways.map(g => `${g.name}-${node.name}`)
      const before = names.flatMap(name => linksOf(world, name)).reduce((n, l) => n + l.open, 0)
      node.proxy.setMode('hold')
      setAll(world, names, 'hold')
      await sleep(ms)
      const problems = (await isBuried(world, node.name)) ? [] : [`${node.name} was alone and never buried`]
      setAll(world, names, 'pass')
      node.proxy.setMode('pass')
      await until(() => node.pid() !== undefined, 10_000)
      await node.ready(30_000)
      return { fired: before, problems }
    },
  }
}

/** 256 kbit/s and 200 ms for each connection of one gateway's clients. */
export function slowLink(ms = 20_000): Fault {
  return {
    code: 'F13',
    title: `clients of a gateway behind 256 kbit/s and 200 ms for ${ms / 1000} s`,
    limitMs: 5000,
    targetMs: 1500,
    needsLinks: true,
    attemptsPerSendMax: 1.5,
    async play(world, random) {
      const links = linksOf(world, `c-${pickOf(world.gateways, random).name}`)
      const before = links.reduce((n, l) => n + l.open, 0)
      for (const link of links) link.shape({ delayMs: 200, bytesPerSecond: 32_000 })
      await sleep(ms)
      for (const link of links) link.shape(undefined)
      return { fired: before }
    },
  }
}
