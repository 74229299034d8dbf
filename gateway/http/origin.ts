/**
 * Where a request came from and which origin it may claim: the client's address, whether it was served over https, the
 * server's own origin, the allow-list. X-Forwarded-* is believed from TRUSTED_PROXIES only.
 * Shared by REST and by the socket upgrade. Refuses wildcards.
 */
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import type { Config } from '#engine/ops/config.ts'

export interface Client {
  /** Without a port; an IPv4 address inside IPv6 is written as IPv4. */
  address: string
  isHttps: boolean
  /** The origin under which this request reached us. */
  origin: string
}

export interface Origins {
  clientOf(request: IncomingMessage): Client
  /** Whether a present Origin header is the server's own or listed. */
  isAllowed(client: Client, origin: string): boolean
  /** Listed in CORS_ALLOWED_ORIGINS (the own origin needs no CORS). */
  isListed(origin: string): boolean
}

export function createOrigins(
  config: Pick<Config, 'APP_BASE_URL' | 'CORS_ALLOWED_ORIGINS' | 'TRUSTED_PROXIES'>,
): Origins {
  const base = URL.canParse(config.APP_BASE_URL) ? new URL(config.APP_BASE_URL) : undefined
  const listed = new Set(config.CORS_ALLOWED_ORIGINS.map(o => (URL.canParse(o) ? new URL(o).origin : o)))
  const proxies = new BlockList()
  for (const entry of config.TRUSTED_PROXIES) addProxy(proxies, entry)
  const isProxy = (address: string) =>
    isIP(address) !== 0 && proxies.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')

  return {
    clientOf(request) {
      const peer = plainAddress(request.socket?.remoteAddress ?? '')
      const isTrusted = isProxy(peer)
      let address = peer
      if (isTrusted) {
        // From the right: each proxy appends whom it saw; the first that is no proxy of ours is the client.
        for (const hop of listOf(request.headers['x-forwarded-for']).reverse()) {
          if (isIP(plainAddress(hop)) === 0) break
          address = plainAddress(hop)
          if (!isProxy(address)) break
        }
      }
      const forwarded = isTrusted ? listOf(request.headers['x-forwarded-proto']).at(-1) : undefined
      const scheme = base?.protocol ?? (forwarded === 'https' ? 'https:' : 'http:')
      const host = (isTrusted && listOf(request.headers['x-forwarded-host']).at(-1)) || request.headers.host || ''
      const isHttps = scheme === 'https:'
      return { address, isHttps, origin: base?.origin ?? originOf(`${scheme}//${host}`) }
    },
    isAllowed: (client, origin) => origin === client.origin || listed.has(origin),
    isListed: origin => listed.has(origin),
  }
}

/** The key under which an address is limited: IPv6 by its /64, because one subscriber has all of it. */
export function addressKey(address: string): string {
  if (isIP(address) !== 6) return address
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...right]
  return `${groups
    .slice(0, 4)
    .map(g => Number.parseInt(g, 16).toString(16))
    .join(':')}::/64`
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : ''
}

function plainAddress(address: string): string {
  const text = address.trim()
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(text) ? text.slice(7) : text
}

function listOf(header: string | string[] | undefined): string[] {
  const text = Array.isArray(header) ? header.join(',') : (header ?? '')
  return text
    .split(',')
    .map(s => s.trim())
    .filter(Boolean)
}

function addProxy(list: BlockList, entry: string): void {
  const [address = '', prefix] = entry.split('/')
  const kind = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  if (isIP(address) === 0) throw new Error(`TRUSTED_PROXIES: ${entry} is no address`)
  if (prefix === undefined) list.addAddress(address, kind)
  else list.addSubnet(address, Number(prefix), kind)
}
