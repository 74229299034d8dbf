/**
 * Owns the proof that a predecessor of the same name is gone: a name in Linux's abstract socket space, which the kernel frees
 * with the process, whatever killed it. Refuses to prove anything on other systems: there one waits for the lease.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { hostname } from 'node:os'

export type Hold =
  /** Nobody else on this machine holds the name, as long as this process lives or until release. */
  | { kind: 'held'; release(): void }
  | { kind: 'taken' }
  /** Abstract sockets do not exist here. */
  | { kind: 'unproved' }

export async function holdName(name: string): Promise<Hold> {
  if (process.platform !== 'linux') return { kind: 'unproved' }
  const server = createServer(socket => socket.destroy())
  return new Promise(resolve => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve({ kind: error.code === 'EADDRINUSE' ? 'taken' : 'unproved' }),
    )
    server.listen(`\0parley-${digest(name)}`, () => {
      server.unref()
      resolve({ kind: 'held', release: () => server.close() })
    })
  })
}

/**
 * The name under which a node is written down: what people call it, and where the proof holds, that is this boot of this
 * machine and this network namespace (abstract names are one's own per namespace).
 */
export function nodeName(given: string, role: string): string {
  return `${given || `${hostname()}-${role}`}#${digest(placeOf()).slice(0, 8)}`
}

function placeOf(): string {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}/${readlinkSync('/proc/self/ns/net')}`
  } catch {
    return hostname()
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
