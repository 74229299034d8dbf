/**
 * The session cookie: its name, its attributes, how it is read from a request. Host-only and bound to https by its prefix
 * where the page is served so. Refuses values that are no refresh token of ours.
 */

const plain = 'parley_refresh'
const secure = '__Host-parley_refresh'

export function refreshCookie(token: string, maxAgeS: number, isHttps: boolean): string {
  const attributes = `HttpOnly; SameSite=Strict; Path=/; Max-Age=${Math.max(0, Math.floor(maxAgeS))}`
  return isHttps ? `${secure}=${token}; ${attributes}; Secure` : `${plain}=${token}; ${attributes}`
}

export function expiredCookie(isHttps: boolean): string {
  return refreshCookie('', 0, isHttps)
}

/** The refresh token that a Cookie header carries; over https only under the name that other hosts cannot set. */
export function tokenOfCookies(header: string | undefined, isHttps: boolean): string | undefined {
  if (!header) return undefined
  const wanted = isHttps ? secure : plain
  for (const part of header.split(';')) {
    const at = part.indexOf('=')
    if (at > 0 && part.slice(0, at).trim() === wanted) {
      const value = part.slice(at + 1).trim()
      return value === '' ? undefined : value
    }
  }
  return undefined
}
