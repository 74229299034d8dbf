/**
 * Preloaded into a gateway by --import: connections to an engine's address go through the link that RIG_LINKS names for it, so
 * that this gateway's way to that engine can be cut. Nothing of the product imports it; without RIG_LINKS it does nothing.
 */
import { Socket } from 'node:net'

/** host:port → port of the link. */
const routes = JSON.parse(process.env['RIG_LINKS'] ?? '{}') as Record<string, number>

interface Target {
  host?: string
  port?: number | string
}

const direct = Socket.prototype.connect as (this: Socket, ...args: unknown[]) => Socket
const rerouted = function (this: Socket, ...args: unknown[]): Socket {
  // net.connect hands over its own normalized list, whose first item are the options.
  const list = Array.isArray(args[0]) ? (args[0] as unknown[]) : args
  const target = list[0] as Target | null
  if (target !== null && typeof target === 'object' && target.port !== undefined) {
    const port = routes[`${target.host ?? '127.0.0.1'}:${target.port}`]
    if (port !== undefined) list[0] = { ...target, host: '127.0.0.1', port }
  }
  return direct.apply(this, args)
}
if (Object.keys(routes).length > 0) Socket.prototype.connect = rerouted as typeof Socket.prototype.connect
