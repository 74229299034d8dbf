/**
 * Which addresses a request of ours may go to: public ones, and those that an operator names. The check stands where names
 * become addresses, so what was checked is what is connected to. Refuses to trust a name.
 */
import { type LookupAddress, type LookupOptions, lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { addNetwork } from './mcp-servers.ts'

const special = new BlockList()
for (const network of [
  // This host, private, shared, loopback, link-local with the clouds' metadata, protocol, documentation, benchmarks.
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  // Many receivers, reserved, broadcast.
  ...['224.0.0.0/4', '240.0.0.0/4'],
  // Protocol and tunnels that hold another address, documentation.
  ...['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'],
]) {
  addNetwork(special, network)
}
/** All that is public in version 6; mapped, translated, local and link-local addresses lie outside. */
const global6 = new BlockList()
addNetwork(global6, '2000::/3')

export class AddressRefused extends Error {
  override name = 'AddressRefused'
  readonly code = 'ADDRESS_REFUSED'
  readonly host: string
  constructor(host: string) {
    super(`${host} is not a public address; the operator has not allowed it`)
    this.host = host
  }
}

export type MayReach = (address: string) => boolean

/** `allow`: networks beside the public ones. */
export function publicOr(allow: readonly string[]): MayReach {
  const allowed = new BlockList()
  for (const network of allow) addNetwork(allowed, network)
  return given => {
    const address = given.replace(/%.*$/, '')
    const family = isIP(address)
    if (family === 0) return false
    if (allowed.check(address, family === 4 ? 'ipv4' : 'ipv6')) return true
    if (family === 4) return !special.check(address, 'ipv4')
    return global6.check(address, 'ipv6') && !special.check(address, 'ipv6')
  }
}

const loopback = new BlockList()
addNetwork(loopback, '127.0.0.0/8')
addNetwork(loopback, '::1')

/** For what goes unencrypted. */
export const onlyLoopback: MayReach = address =>
  isIP(address) !== 0 && loopback.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')

/** As dns.lookup does with `all`. */
export type Resolve = (
  host: string,
  options: LookupOptions & { all: true },
  done: (error: Error | null, addresses: LookupAddress[]) => void,
) => void

/**
 * For net.connect: refuses a name of which any address may not be reached; one good address among bad ones is how a name is
 * bound anew between two looks. Not asked for hosts that are addresses already; see `checkHost`.
 */
export function guardedLookup(may: MayReach, resolve: Resolve = lookup): LookupFunction {
  return (host, options, done) => {
    resolve(host, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, '')
      if (addresses.length === 0 || !addresses.every(a => may(a.address))) return done(new AddressRefused(host), '')
      if (options.all) return done(null, addresses)
      done(null, addresses[0]!.address, addresses[0]!.family)
    })
  }
}

/** Throws AddressRefused for a host that is an address which may not be reached; sockets ask no lookup for those. */
export function checkHost(url: URL, may: MayReach): void {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0 && !may(host)) throw new AddressRefused(host)
}
