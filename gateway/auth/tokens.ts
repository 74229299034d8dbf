/**
 * Access tokens: EdDSA, one fixed algorithm, `iss aud sub sid iat exp typ kid`, no personal data. Verified without a query:
 * signature, times, then the set of revoked sessions in memory. Refuses leeway on `exp`; grants 60 s on `iat` and `nbf`.
 */
import { decodeProtectedHeader, errors, jwtVerify, SignJWT } from 'jose'
import type { Clock } from '#engine/ops/clock.ts'
import type { AuthReason } from '#protos/errors.ts'
import { parseId } from '#protos/ids.ts'
import { accessTokenCharsMax } from '#protos/limits.ts'
import type { Db } from './db.ts'
import { type KeyRing, loadKeys } from './keys.ts'

/** Who a token speaks for. Times in ms since 1970. */
export interface Principal {
  userId: string
  sessionId: string
  expiresAt: number
  /** When the session itself ends, whatever is refreshed: an open socket closes 4411 then. */
  sessionExpiresAt: number
}

export type Access = Principal | { reason: AuthReason }

export interface Tokens {
  /** Life is `ttlS` seconds, less if the session ends before. */
  sign(
    who: { userId: string; sessionId: string; sessionExpiresAt: number },
    ttlS: number,
  ): Promise<{ token: string; expiresIn: number }>
  verifyAccess(token: unknown): Promise<Access>
}

const issuer = 'parley'
const audience = 'parley'
const type = 'at+jwt'
const leewayS = 60
/** An unknown kid may be another gateway's newer key: the ring is read again, at most this often. */
const reloadEveryMs = 5000

export async function createTokens(options: {
  db: Db
  clock: Clock
  signingKey: string
  /** Absent: sessions are not judged (the command line). */
  isRevoked?: (sessionId: string) => boolean
}): Promise<Tokens> {
  const { db, clock, signingKey, isRevoked = () => false } = options
  let ring: KeyRing = await loadKeys(db, signingKey)
  let reloadedAt = clock.mono()

  async function keyFor(kid: string) {
    const known = ring.verifying.get(kid)
    if (known || clock.mono() - reloadedAt < reloadEveryMs) return known
    reloadedAt = clock.mono()
    ring = await loadKeys(db, signingKey).catch(() => ring)
    return ring.verifying.get(kid)
  }

  return {
    async sign(who, ttlS) {
      const iat = Math.floor(clock.now() / 1000)
      const sessionEnd = Math.floor(who.sessionExpiresAt / 1000)
      const exp = Math.min(iat + ttlS, sessionEnd)
      const token = await new SignJWT({ sid: who.sessionId, sxp: sessionEnd })
        .setProtectedHeader({ alg: 'EdDSA', typ: type, kid: ring.kid })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(who.userId)
        .setIssuedAt(iat)
        .setExpirationTime(exp)
        .sign(ring.signing)
      return { token, expiresIn: exp - iat }
    },

    async verifyAccess(token) {
      if (typeof token !== 'string' || token === '') return { reason: 'TOKEN_INVALID' }
      if (token.length > accessTokenCharsMax) return { reason: 'TOKEN_INVALID' }
      try {
        const { kid } = decodeProtectedHeader(token)
        const key = typeof kid === 'string' ? await keyFor(kid) : undefined
        if (!key) return { reason: 'TOKEN_INVALID' }
        const { payload } = await jwtVerify(token, key, {
          algorithms: ['EdDSA'],
          issuer,
          audience,
          typ: type,
          clockTolerance: leewayS,
          currentDate: new Date(clock.now()),
          requiredClaims: ['sub', 'sid', 'iat', 'exp', 'sxp'],
        })
        const userId = parseId(payload.sub)
        const sessionId = parseId(payload['sid'])
        const sessionEnd = payload['sxp']
        if (!userId || !sessionId || typeof sessionEnd !== 'number') return { reason: 'TOKEN_INVALID' }
        if (payload.iat! * 1000 > clock.now() + leewayS * 1000) return { reason: 'TOKEN_INVALID' }
        if (payload.exp! * 1000 <= clock.now()) return { reason: 'TOKEN_EXPIRED' }
        if (isRevoked(sessionId)) return { reason: 'TOKEN_REVOKED' }
        return { userId, sessionId, expiresAt: payload.exp! * 1000, sessionExpiresAt: sessionEnd * 1000 }
      } catch (error) {
        return { reason: error instanceof errors.JWTExpired ? 'TOKEN_EXPIRED' : 'TOKEN_INVALID' }
      }
    },
  }
}
