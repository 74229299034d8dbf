/** Makes one fault of a plan happen to the world, and its end. Refuses to choose: the plan did. */

import type { World } from './cluster.ts'
import type { Fault } from './plan.ts'
import type { StatementFault } from './postgres-server.ts'

export function strike(world: World, fault: Fault): void {
  const { kernel, net, postgres, engines, gateways, clients } = world
  const { kind, target, ms } = fault
  kernel.events++
  kernel.note(`** ${kind} ${target} ${ms} ms ${fault.what ?? ''} ${fault.prefix ?? ''}`)
  const later = (run: () => void) => void kernel.at(kernel.world, ms, run)
  const engine = engines[Number.parseInt(target, 10) - 1]!
  const gateway = gateways[Number.parseInt(target, 10) - 1]!
  switch (kind) {
    case 'engine.kill':
      engine.kill()
      return later(() => engine.start())
    case 'engine.pause':
      engine.pause()
      return later(() => engine.resume())
    case 'engine.drain':
      engine.drain()
      return void again(
        () => !engine.isDead,
        () => engine.start(),
      )
    case 'thread.kill':
      return engine.killThread(Number(target.split('/')[1]), ms)
    case 'gateway.kill':
      gateway.kill()
      return later(() => gateway.start())
    case 'gateway.pause': {
      const { proc } = gateway
      kernel.pause(proc)
      return later(() => kernel.resume(proc))
    }
    case 'gateway.drain':
      gateway.drain()
      return void again(
        () => !gateway.proc.isDead,
        () => gateway.start(),
      )
    case 'cut':
    case 'slow': {
      const [a, b] = target.split(/[->]/) as [string, string]
      const paths = target.includes('>')
        ? [[a, b]]
        : [
            [a, b],
            [b, a],
          ]
      for (const [from, to] of paths as [string, string][]) {
        if (kind === 'cut') net.cut(from, to)
        else net.slow(from, to, 200)
      }
      return later(() => {
        for (const [from, to] of paths as [string, string][]) net.heal(from, to)
      })
    }
    case 'postgres.crash':
      postgres.crash()
      return later(() => postgres.start())
    case 'postgres.killOne':
      return postgres.killOne()
    case 'statement': {
      const armed = { prefix: fault.prefix!, fault: fault.what as StatementFault, left: fault.count!, ms }
      postgres.armed.push(armed)
      return
    }
    case 'client.cut':
      return clients[Number(target) - 1]!.cut()
    case 'client.offline': {
      const client = clients[Number(target) - 1]!
      client.offline()
      return later(() => client.online())
    }
    case 'skew':
      if (target === 'pg') postgres.proc.skewMs = ms
      else (target.startsWith('e') ? engines : gateways)[Number(target.slice(1)) - 1]!.skew(ms)
      return
    default:
      kind satisfies never
  }

  /** Started again some time after it has ended by itself. */
  function again(isRunning: () => boolean, start: () => void): void {
    kernel.at(kernel.world, ms + 200, () => (isRunning() ? again(isRunning, start) : start()))
  }
}
