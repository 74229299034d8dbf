/**
 * The key that signs access tokens, as a setting gives it: a private Ed25519 key in PEM form, or one made from a secret text, always
 * the same from the same text. Refuses to keep either.
 */
import { createHash, createPrivateKey } from 'node:crypto'

/** What stands before the 32 bytes of an Ed25519 key in PKCS #8. */
const prefix = Buffer.from('302e020100300506032b657004220420', 'hex')

export function isSigningKey(pem: string): boolean {
  try {
    // Where an environment cannot hold lines, they are written as \\n; the key ring reads them so.
    return createPrivateKey(pem.replaceAll('\\n', '\n')).asymmetricKeyType === 'ed25519'
  } catch {
    return false
  }
}

export function signingKeyFrom(secret: string): string {
  const seed = createHash('sha256').update('parley access tokens\0').update(secret).digest()
  const key = createPrivateKey({ key: Buffer.concat([prefix, seed]), format: 'der', type: 'pkcs8' })
  return key.export({ format: 'pem', type: 'pkcs8' }).toString()
}
