/** Headers that every answer carries, and what a client's Accept header lets us answer. Pure. */

/** No inline script or style anywhere; data comes from and goes to the own origin only. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "font-src 'self'",
  "manifest-src 'self'",
  "worker-src 'self'",
  "connect-src 'self'",
  "img-src 'self' blob:",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ')

const everywhere: [string, string][] = [
  ['content-security-policy', contentSecurityPolicy],
  ['x-content-type-options', 'nosniff'],
  ['referrer-policy', 'no-referrer'],
  ['x-frame-options', 'DENY'],
  ['cross-origin-opener-policy', 'same-origin'],
  ['cross-origin-resource-policy', 'same-origin'],
  ['permissions-policy', 'camera=(), microphone=(), geolocation=()'],
  ['cache-control', 'no-store'],
]
const overHttps: [string, string][] = [
  ...everywhere,
  ['strict-transport-security', 'max-age=31536000; includeSubDomains'],
]

export function securityHeaders(isHttps: boolean): readonly [string, string][] {
  return isHttps ? overHttps : everywhere
}

/** Whether JSON (or `also`) is among what an Accept header names; absent or empty means anything. */
export function wantsJson(accept: string | undefined, also = ''): boolean {
  if (accept === undefined || accept.trim() === '') return true
  return accept.split(',').some(part => {
    const [type = '', ...parameters] = part.split(';').map(t => t.trim().toLowerCase())
    const isRefused = parameters.some(p => /^q=0(\.0*)?$/.test(p))
    return !isRefused && ['*/*', 'application/*', 'application/json', also].includes(type)
  })
}
