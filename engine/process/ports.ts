/** Owns the question whether a port is free, asked before anything is started. Refuses to hold one. */
import { createServer } from 'node:net'
import { StartError } from './start-error.ts'

/** Whose address each port is opened on. */
const hostOf: Record<string, string> = {
  PORT: 'HOST',
  METRICS_PORT: 'METRICS_HOST',
  ENGINE_METRICS_PORT: 'METRICS_HOST',
  ENGINE_PORT: 'ENGINE_HOST',
}

/**
 * Throws a StartError that names the setting when the port, or one of the `count` from it on, cannot be had. Port 0 is any free
 * one, of an address that is this machine's.
 */
export async function checkPort(setting: string, first: number, host: string, count = 1): Promise<void> {
  if (first === 0) return checkOne(setting, 0, host)
  if (first + count - 1 > 65_535)
    throw new StartError(`${setting} ${first} leaves no room for ${count} ports. Set ${setting} to a lower port.`)
  for (let port = first; port < first + count; port++) await checkOne(setting, port, host)
}

async function checkOne(setting: string, port: number, host: string): Promise<void> {
  const code = await tryListen(port, host)
  if (code === undefined) return
  if (code === 'EADDRINUSE')
    throw new StartError(
      `${setting} ${port} is in use by another program. Stop that program or set ${setting} to another port.`,
    )
  if (code === 'EACCES')
    throw new StartError(`${setting} ${port} is not allowed to this user. Set ${setting} to a port above 1023.`)
  throw new StartError(
    `${hostOf[setting] ?? setting} ${host} is no address that this machine can open ${setting} ${port} on (${code}).`,
  )
}

function tryListen(port: number, host: string): Promise<string | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen(port, host, () => server.close(() => resolve(undefined)))
  })
}

/** Below the range from which the systems take ports for outgoing connections: nobody else gets one while it is not held. */
const lowest = 20_000
const highest = 31_999

/**
 * The first of `count` neighbouring ports that are free on loopback now, for listeners that come back at the same address.
 * `taken` are left out and grow by what is given.
 */
export async function findPorts(count: number, taken: Set<number>, random: () => number): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const first = lowest + Math.floor(random() * (highest - lowest - count))
    const all = Array.from({ length: count }, (_, i) => first + i)
    if (all.some(port => taken.has(port))) continue
    const codes = await Promise.all(all.map(port => tryListen(port, '127.0.0.1')))
    if (codes.some(code => code !== undefined)) continue
    for (const port of all) taken.add(port)
    return first
  }
  throw new StartError(`No free ports were found between ${lowest} and ${highest}.`)
}
