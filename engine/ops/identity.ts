/**
 * Who a process is on internal links: certificates of a private CA with a role in each, read from one folder, or nobody, which
 * is for loopback only. Refuses to know what a role may do; whoever serves a method asks for the role of its caller.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { ChannelCredentials, experimental, ServerCredentials } from '@grpc/grpc-js'

export type Role = 'gateway' | 'engine'

/** Engines answer under this one name, wherever they run: what counts is the role that the CA signed. */
export const engineServerName = 'engine.parley.internal'
export const roleUri = (role: Role) => `urn:parley:role:${role}`

/** Names within the folder. */
export const certificateFiles = (role: Role) => ({ certificate: `${role}.pem`, key: `${role}.key`, ca: 'ca.pem' })

/** How often a server looks for renewed files; a client looks at each dial. */
const refreshMs = 60_000

export interface Identity {
  readonly isPlain: boolean
  server(): ServerCredentials
  /** For one dial; renewed files count from the next one on. */
  client(): { credentials: ChannelCredentials; options: Record<string, string> }
  /** Whether a caller may be served as one of these roles. In plaintext everybody may. */
  admits(caller: Caller, roles: readonly Role[]): boolean
}

/** The part of a gRPC call that tells who calls. */
export interface Caller {
  getAuthContext(): { sslPeerCertificate?: { subjectaltname?: string } }
}

/** `folder` '': nobody. Throws when a file is missing. */
export function openIdentity(folder: string, role: Role): Identity {
  if (folder === '') {
    return {
      isPlain: true,
      server: () => ServerCredentials.createInsecure(),
      client: () => ({ credentials: ChannelCredentials.createInsecure(), options: {} }),
      admits: () => true,
    }
  }
  const names = certificateFiles(role)
  const at = {
    certificate: path.join(folder, names.certificate),
    key: path.join(folder, names.key),
    ca: path.join(folder, names.ca),
  }
  const read = () => ({ certificate: readFileSync(at.certificate), key: readFileSync(at.key), ca: readFileSync(at.ca) })
  read()
  return {
    isPlain: false,
    server() {
      const files = watchFiles(read)
      // A caller without a certificate gets through the handshake, because the health check needs none; the methods ask.
      return experimental.createCertificateProviderServerCredentials(files, files, false)
    },
    client() {
      const { certificate, key, ca } = read()
      return {
        credentials: ChannelCredentials.createSsl(ca, key, certificate),
        options: { 'grpc.ssl_target_name_override': engineServerName },
      }
    },
    admits(caller, roles) {
      // Only there when the chain leads to our CA and is not out of date.
      const names = caller.getAuthContext().sslPeerCertificate?.subjectaltname?.split(', ') ?? []
      return roles.some(one => names.includes(`URI:${roleUri(one)}`))
    },
  }
}

/** Addresses that never leave this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

interface Files {
  certificate: Buffer
  key: Buffer
  ca: Buffer
}

/** What is there now, at once; what is there later, for handshakes to come. A renewal that is half written is passed over. */
function watchFiles(read: () => Files): experimental.CertificateProvider {
  const caListeners = new Set<experimental.CaCertificateUpdateListener>()
  const ownListeners = new Set<experimental.IdentityCertificateUpdateListener>()
  let files = read()
  let timer: NodeJS.Timeout | undefined
  const tell = () => {
    for (const listener of caListeners) listener({ caCertificate: files.ca })
    for (const listener of ownListeners) listener({ certificate: files.certificate, privateKey: files.key })
  }
  const look = () => {
    try {
      files = read()
    } catch {
      return
    }
    tell()
  }
  const settle = () => {
    if (caListeners.size + ownListeners.size === 0) {
      clearInterval(timer)
      timer = undefined
    } else timer ??= setInterval(look, refreshMs).unref()
  }
  return {
    addCaCertificateListener(listener) {
      caListeners.add(listener)
      // Later in this turn: the credentials count their own listeners only after this call.
      process.nextTick(() => listener({ caCertificate: files.ca }))
      settle()
    },
    removeCaCertificateListener(listener) {
      caListeners.delete(listener)
      settle()
    },
    addIdentityCertificateListener(listener) {
      ownListeners.add(listener)
      process.nextTick(() => listener({ certificate: files.certificate, privateKey: files.key }))
      settle()
    },
    removeIdentityCertificateListener(listener) {
      ownListeners.delete(listener)
      settle()
    },
  }
}
