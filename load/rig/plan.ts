/**
 * Every fault that the rig knows: how it is done to a world, how long it lasts, what it may cost, and how often it really hit.
 * Each leaves the world healed. Refuses to judge what clients saw: that is the checkers' work.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { memoryHeld, stalled, wrongClock } from './plan-clock.ts'
import { type Fault, isBuried, pickOf, until } from './plan-kit.ts'
import { clientsToGateway, gatewayToEngine, gatewayToRedis, isolated, slowLink } from './plan-links.ts'
import { slowClients } from './plan-slow.ts'
import type { Cut } from './proxy.ts'
import type { Node } from './world.ts'

export type { Fault } from './plan-kit.ts'

/** Exit code of an engine that was declared dead shows as a restart by its supervisor within so long. */
const buriedExitMsMax = 2500
const cutMs = 10_000

function worker(kind: 'throw' | 'exit' | 'spin' | 'oom', limitMs: number, targetMs: number): Fault {
  return {
    code: `F1 ${kind}`,
    title: `a worker thread: ${kind}`,
    limitMs,
    targetMs,
    async play(world, random) {
      const engine = pickOf(world.engines, random)
      const index = random() < 0.5 ? 0 : 1
      const pid = engine.pid()
      const before = await startedAt(engine, index)
      const answer = await fetch(`${engine.adminUrl()}/fault`, {
        method: 'POST',
        body: JSON.stringify({ worker: index, kind }),
      })
      await answer.body?.cancel()
      const isReplaced = await until(async () => {
        const now = await startedAt(engine, index).catch(() => undefined)
        return now !== undefined && now !== before
      }, 15_000)
      const problems = engine.pid() === pid ? [] : [`${engine.name}: the whole process ended with its thread`]
      return { fired: answer.status === 202 && isReplaced ? 1 : 0, problems }
    },
  }
}

async function startedAt(engine: Node, index: number): Promise<number | undefined> {
  const response = await fetch(`${engine.adminUrl()}/threads`, { signal: AbortSignal.timeout(1000) })
  const { threads } = (await response.json()) as { threads: { index: number; startedAt: number; addr: string }[] }
  return threads.find(t => t.index === index && t.addr !== '')?.startedAt
}

function killed(which: 'engine' | 'gateway'): Fault {
  const isEngine = which === 'engine'
  return {
    code: isEngine ? 'F2' : 'F7 kill',
    title: `a${isEngine ? 'n engine' : ' gateway'} is killed, its supervisor starts it again`,
    limitMs: isEngine ? 3000 : 10_000,
    targetMs: isEngine ? 1500 : 3000,
    ...(!isEngine && { reconnectMs: 10_000 }),
    async play(world, random) {
      const node = pickOf(isEngine ? world.engines : world.gateways, random)
      const before = node.pid()
      const fired = node.signal('SIGKILL') ? 1 : 0
      await until(() => node.pid() !== undefined && node.pid() !== before, 10_000)
      await node.ready(20_000)
      return { fired }
    },
  }
}

/** Nobody starts it again for a while: the others have to find out by themselves. */
function lost(restartMs: number): Fault {
  return {
    code: 'F2 lost',
    title: `an engine's host is lost, back after ${restartMs / 1000} s`,
    limitMs: 12_000,
    targetMs: 8000,
    async play(world, random) {
      const node = pickOf(world.engines, random)
      node.crash()
      await sleep(restartMs)
      node.start()
      await node.ready(30_000)
      return { fired: 1 }
    },
  }
}

function stopped(which: 'engine' | 'gateway', ms: number, holdsReplies = false): Fault {
  const isEngine = which === 'engine'
  const isLong = isEngine && ms > 8000
  return {
    code: `${isEngine ? 'F3' : 'F7 stop'} ${ms / 1000} s${holdsReplies ? ' late' : ''}`,
    title: `SIGSTOP of an ${which} for ${ms / 1000} s${holdsReplies ? ', Postgres answers after it' : ''}`,
    limitMs: isEngine ? (ms < 4000 ? ms + 2000 : 12_000) : 12_000,
    targetMs: isEngine ? Math.min(ms + 1000, 8000) : 3000,
    ...(!isEngine && { reconnectMs: 20_000 }),
    async play(world, random) {
      const node = pickOf(isEngine ? world.engines : world.gateways, random)
      const before = node.pid()
      if (holdsReplies) node.proxy.setMode('holdReplies')
      const fired = node.signal('SIGSTOP') ? 1 : 0
      await sleep(ms)
      const buried = isEngine && before !== undefined ? await isBuried(world, node.name) : false
      node.signal('SIGCONT')
      node.proxy.setMode('pass')
      const problems: string[] = []
      if (isLong) {
        if (!buried) problems.push(`${node.name} was stopped for ${ms / 1000} s and never buried`)
        const hasEnded = await until(() => node.pid() !== before, buriedExitMsMax)
        if (!hasEnded) problems.push(`${node.name} went on after it had been buried`)
      } else if (isEngine && ms < 4000 && buried) problems.push(`${node.name} was buried after ${ms / 1000} s`)
      await node.ready(30_000)
      return { fired, problems }
    },
  }
}

function postgres(how: 'immediate' | 'fast' | 'backend', awayMs: number): Fault {
  return {
    code: `F4 ${how === 'immediate' ? 'stop' : how === 'fast' ? 'restart' : 'backend'}`,
    title: `Postgres: ${how === 'backend' ? 'SIGKILL of one backend' : `${how} stop, started after ${awayMs / 1000} s`}`,
    limitMs: how === 'backend' ? 10_000 : 5000,
    targetMs: 2000,
    isFromHeal: how !== 'backend',
    async play(world) {
      const pids = [...world.engines, ...world.gateways].map(node => node.pid())
      if (how === 'backend') {
        const [victim] = await world.query<{ pid: number }>(
          "select pid from pg_stat_activity where application_name like 'parley-worker-%' order by random() limit 1",
        )
        process.kill(victim!.pid, 'SIGKILL')
        await sleep(500)
        const isUp = await until(() => world.query('select 1').then(Boolean, () => false), 20_000)
        return { fired: 1, problems: isUp ? [] : ['Postgres did not recover'] }
      }
      await world.stopPostgres(how)
      await sleep(awayMs)
      await world.startPostgres()
      const now = [...world.engines, ...world.gateways].map(node => node.pid())
      const problems = pids.every((pid, i) => pid === now[i]) ? [] : ['a process ended while Postgres was away']
      return { fired: 1, problems }
    },
  }
}

const letters: Record<Cut, string> = { before: 'a', reply: 'b', inside: 'c', late: 'd', reset: 'e' }

function commitCut(cut: Cut, every = 10): Fault {
  return {
    code: `F5 ${letters[cut]}`,
    title: `each tenth commit is cut: ${cut}`,
    // A commit whose reply never comes costs the commit timer and a recovery.
    limitMs: cut === 'late' ? 8000 : 3000,
    targetMs: cut === 'late' ? 3000 : 1000,
    async play(world) {
      const count = () => world.engines.reduce((n, e) => n + e.proxy.counts.cut[cut], 0)
      const before = count()
      for (const engine of world.engines) engine.proxy.arm(cut, every)
      await sleep(cutMs)
      for (const engine of world.engines) engine.proxy.arm(undefined)
      const fired = count() - before
      const problems: string[] = []
      if (cut === 'late') {
        await until(() => world.engines.every(e => e.proxy.counts.lateRun >= e.proxy.counts.cut.late), 8000)
        const matched = world.engines.reduce((n, e) => n + e.proxy.counts.lateMatched, 0)
        if (matched > 0) problems.push(`${matched} late statements still matched a fence`)
      }
      return { fired, problems, note: `${fired} cuts` }
    },
  }
}

function redis(how: 'kill' | 'stop' | 'flush', ms: number): Fault {
  return {
    code: `F6 ${how}`,
    title: how === 'flush' ? 'Redis is flushed' : `Redis: ${how === 'kill' ? 'SIGKILL' : 'SIGSTOP'} for ${ms / 1000} s`,
    // Messages do not need it; what is left is the noise of the machine.
    limitMs: 1000,
    targetMs: 300,
    async play(world) {
      if (how === 'flush') {
        const answer = await world.redis.command('FLUSHALL')
        await sleep(ms)
        return { fired: answer.includes('OK') ? 1 : 0 }
      }
      const fired = world.redis.signal(how === 'kill' ? 'SIGKILL' : 'SIGSTOP') ? 1 : 0
      await sleep(ms)
      if (how === 'kill') await world.redis.again()
      else world.redis.signal('SIGCONT')
      return { fired }
    },
  }
}

function databaseCut(mode: 'hold' | 'refuse', ms: number): Fault {
  return {
    code: `F12 e-pg ${mode}`,
    title: `an engine is cut off from Postgres for ${ms / 1000} s (${mode})`,
    limitMs: 12_000,
    targetMs: 8000,
    async play(world, random) {
      const node = pickOf(world.engines, random)
      node.proxy.setMode(mode)
      await sleep(ms)
      const problems = (await isBuried(world, node.name)) ? [] : [`${node.name} was cut off and never buried`]
      node.proxy.setMode('pass')
      await until(() => node.pid() !== undefined, 10_000)
      await node.ready(30_000)
      return { fired: 1, problems }
    },
  }
}

/** Each process once, in order: SIGTERM, its supervisor starts it again. */
const rolling: Fault = {
  code: 'F14',
  title: 'rolling restart of every process',
  limitMs: 2000,
  targetMs: 300,
  reconnectMs: 10_000,
  async play(world) {
    let fired = 0
    for (const node of [...world.engines, ...world.gateways]) {
      const before = node.pid()
      if (node.signal('SIGTERM')) fired++
      await until(() => node.pid() !== undefined && node.pid() !== before, 30_000)
      await node.ready(30_000)
    }
    return { fired }
  },
}

export const faults = {
  'f1-throw': worker('throw', 2000, 500),
  'f1-exit': worker('exit', 2000, 500),
  'f1-oom': worker('oom', 8000, 4000),
  'f1-spin': worker('spin', 4000, 3000),
  f2: killed('engine'),
  'f2-lost': lost(15_000),
  'f3-1s': stopped('engine', 1000),
  'f3-5s': stopped('engine', 5000),
  'f3-7s': stopped('engine', 7000),
  'f3-15s': stopped('engine', 15_000),
  'f3-late': stopped('engine', 15_000, true),
  'f4-stop': postgres('immediate', 2000),
  'f4-backend': postgres('backend', 0),
  'f4-restart': postgres('fast', 500),
  'f5-a': commitCut('before'),
  'f5-b': commitCut('reply'),
  'f5-c': commitCut('inside'),
  'f5-d': commitCut('late', 40),
  'f5-e': commitCut('reset'),
  'f6-kill': redis('kill', 10_000),
  'f6-stop': redis('stop', 10_000),
  'f6-flush': redis('flush', 5000),
  'f7-kill': killed('gateway'),
  'f7-stop': stopped('gateway', 20_000),
  'f8-slow': slowClients('slow'),
  'f8-deaf': slowClients('deaf'),
  'f8-mute': slowClients('mute'),
  'f10-engine-hour': wrongClock('engine', 1),
  'f10-engine-back': wrongClock('engine', -1),
  'f10-engine-day': wrongClock('engine', 24),
  'f10-engine-day-back': wrongClock('engine', -24),
  'f10-gateway-hour': wrongClock('gateway', 1),
  'f10-gateway-back': wrongClock('gateway', -1),
  'f12-hold': databaseCut('hold', 15_000),
  'f12-refuse': databaseCut('refuse', 15_000),
  'f12-e-g': gatewayToEngine('hold'),
  'f12-e-g-there': gatewayToEngine('holdRequests'),
  'f12-e-g-back': gatewayToEngine('holdReplies'),
  'f12-e-g-refuse': gatewayToEngine('refuse'),
  'f12-g-rd': gatewayToRedis('hold'),
  'f12-c-g': clientsToGateway('hold'),
  'f12-c-g-back': clientsToGateway('holdReplies'),
  'f12-alone': isolated(),
  f13: slowLink(),
  f14: rolling,
  'f16-engine-3s': stalled('engine', 3000),
  'f16-engine-10s': stalled('engine', 10_000),
  'f16-gateway-3s': stalled('gateway', 3000),
  'f16-gateway-10s': stalled('gateway', 10_000),
  'f16-engine-memory': memoryHeld('engine', 256),
} as const satisfies Record<string, Fault>

export type FaultName = keyof typeof faults
