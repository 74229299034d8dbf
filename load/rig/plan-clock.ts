/** F10 and F16: wall clocks that are wrong, event loops that stand still, memory that is gone. Each is undone. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Fault, isBuried, pickOf, until } from './plan-kit.ts'
import type { Node, World } from './world.ts'

const hourMs = 3_600_000
const lastsMs = 8000
/** Members have to be the same for 10 s before shards move between living ones. */
const settledMs = 11_000
const settleMsMax = 40_000

async function disturb(
  node: Node,
  what: { kind: 'stall' | 'skew' | 'hoard'; ms: number; mb?: number },
): Promise<boolean> {
  const answer = await fetch(`${node.adminUrl()}/disturb`, { method: 'POST', body: JSON.stringify(what) })
  await answer.body?.cancel()
  return answer.status === 202
}

const epochSum = async (world: World) =>
  (await world.query<{ sum: string }>('select sum(epoch)::text as sum from shard'))[0]!.sum

/** Shards that are still moving home after an earlier fault are no sign of this one. */
async function settledEpochs(world: World): Promise<string> {
  let last = await epochSum(world)
  let since = performance.now()
  for (const until = since + settleMsMax; performance.now() < until; await sleep(500)) {
    const now = await epochSum(world)
    if (now !== last) since = performance.now()
    last = now
    if (performance.now() - since > settledMs) break
  }
  return last
}

/** Monotonic time goes on as it did: no node is buried, no shard moves, nothing is sorted by time. */
export function wrongClock(role: 'engine' | 'gateway', hours: number): Fault {
  return {
    code: `F10 ${role} ${hours > 0 ? '+' : ''}${hours} h`,
    title: `the wall clock of an ${role} is ${hours} h off for ${lastsMs / 1000} s`,
    limitMs: 2000,
    targetMs: 500,
    async play(world, random) {
      const node = pickOf(role === 'engine' ? world.engines : world.gateways, random)
      const before = await settledEpochs(world)
      const begin = performance.now()
      const fired = await disturb(node, { kind: 'skew', ms: hours * hourMs })
      await sleep(lastsMs)
      await disturb(node, { kind: 'skew', ms: 0 })
      const problems: string[] = []
      if ((await epochSum(world)) !== before) problems.push('a shard moved because of a clock')
      if (await isBuried(world, node.name)) problems.push(`${node.name} was buried because of its clock`)
      return { fired: fired ? 1 : 0, begin, problems }
    },
  }
}

export function stalled(role: 'engine' | 'gateway', ms: number): Fault {
  const isEngine = role === 'engine'
  const isLong = isEngine && ms > 8000
  return {
    code: `F16 ${role} ${ms / 1000} s`,
    title: `the main thread of an ${role} stands still for ${ms / 1000} s`,
    // Workers need their main thread only for the lease.
    limitMs: isLong ? 12_000 : isEngine ? 1500 : ms + 2000,
    targetMs: isLong ? 8000 : isEngine ? 300 : ms + 500,
    async play(world, random) {
      const node = pickOf(isEngine ? world.engines : world.gateways, random)
      const pid = node.pid()
      const epochs = isEngine ? await settledEpochs(world) : ''
      const begin = performance.now()
      const fired = await disturb(node, { kind: 'stall', ms })
      await sleep(ms + 300)
      const problems: string[] = []
      if (isLong) {
        const wasBuried = await isBuried(world, node.name)
        const isReplaced = await until(() => node.pid() !== undefined && node.pid() !== pid, 15_000)
        if (!isReplaced && !wasBuried) problems.push(`${node.name} stood still for ${ms / 1000} s and was not buried`)
        else if (!isReplaced) problems.push(`${node.name} stood still for ${ms / 1000} s and was not replaced`)
      } else {
        if (isEngine && (await epochSum(world)) !== epochs) problems.push('a shard moved')
        if (node.pid() !== pid) problems.push(`${node.name} was replaced`)
      }
      await node.ready(30_000)
      return { fired: fired ? 1 : 0, begin, problems }
    },
  }
}

export function memoryHeld(role: 'engine' | 'gateway', mb: number): Fault {
  return {
    code: `F16 ${role} memory`,
    title: `an ${role} holds ${mb} MiB for ${lastsMs / 1000} s`,
    limitMs: 2000,
    targetMs: 500,
    async play(world, random) {
      const node = pickOf(role === 'engine' ? world.engines : world.gateways, random)
      const pid = node.pid()
      const fired = await disturb(node, { kind: 'hoard', ms: lastsMs, mb })
      await sleep(lastsMs + 500)
      return { fired: fired ? 1 : 0, problems: node.pid() === pid ? [] : [`${node.name} ended`] }
    },
  }
}
