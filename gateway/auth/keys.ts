/**
 * The key ring of access tokens: the key that signs and all keys that verify, by kid. The signing key comes from
 * JWT_SIGNING_KEY (one or more PEMs: the first signs, all verify), else from the table `signing_key`, where the first
 * insert wins, so that all gateways sign alike. Refuses to show a private key to anybody.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint } from 'jose'
import { type Db, transaction } from './db.ts'

export interface KeyRing {
  readonly kid: string
  readonly signing: KeyObject
  readonly verifying: ReadonlyMap<string, KeyObject>
}

/** Any number that no other advisory lock of the product uses. */
const signingKeyLock = 0x70_61_72_6b

export async function loadKeys(db: Db, fromConfig: string): Promise<KeyRing> {
  const verifying = new Map<string, KeyObject>()
  let first: { kid: string; signing: KeyObject } | undefined
  for (const pem of pemsOf(fromConfig)) {
    const key = await keyOf(pem)
    verifying.set(key.kid, key.verifying)
    first ??= key
  }
  // Keys of the table verify in any case: tokens signed before JWT_SIGNING_KEY was set live on until they expire.
  for (const pem of first ? await storedPems(db) : await firstStoredPems(db)) {
    const key = await keyOf(pem)
    if (!verifying.has(key.kid)) verifying.set(key.kid, key.verifying)
    first ??= key
  }
  if (!first) throw new Error('no signing key')
  return { kid: first.kid, signing: first.signing, verifying }
}

function pemsOf(text: string): string[] {
  const found = text.replaceAll('\\n', '\n').match(/-----BEGIN [A-Z ]+-----[\s\S]+?-----END [A-Z ]+-----/g) ?? []
  if (text.trim() !== '' && found.length === 0) throw new Error('JWT_SIGNING_KEY: not a private key in PEM form')
  return found
}

async function keyOf(pem: string): Promise<{ kid: string; signing: KeyObject; verifying: KeyObject }> {
  const signing = createPrivateKey(pem)
  if (signing.asymmetricKeyType !== 'ed25519') throw new Error('JWT_SIGNING_KEY: the key must be Ed25519')
  const verifying = createPublicKey(signing)
  return { kid: await calculateJwkThumbprint(verifying.export({ format: 'jwk' }) as never), signing, verifying }
}

async function storedPems(db: Pick<Db, 'query'>): Promise<string[]> {
  const { rows } = await db.query<{ private_pem: string }>(
    'select private_pem from signing_key order by created_at, kid limit 20',
  )
  return rows.map(r => r.private_pem)
}

/** Makes the one key if there is none yet; several gateways at once make one. */
async function firstStoredPems(db: Db): Promise<string[]> {
  const known = await storedPems(db)
  if (known.length > 0) return known
  return transaction(db, async sql => {
    await sql.query('select pg_advisory_xact_lock($1)', [signingKeyLock])
    const meanwhile = await storedPems(sql)
    if (meanwhile.length > 0) return meanwhile
    const pair = generateKeyPairSync('ed25519')
    const pem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    const jwk = pair.publicKey.export({ format: 'jwk' })
    const kid = await calculateJwkThumbprint(jwk as never)
    await sql.query('insert into signing_key (kid, private_pem, public_jwk) values ($1, $2, $3)', [
      kid,
      pem,
      JSON.stringify({ ...jwk, kid, alg: 'EdDSA', use: 'sig' }),
    ])
    return [pem]
  })
}
