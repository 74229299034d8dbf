import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Api } from './api.ts'

interface Asked {
  method: string
  path: string
  token: string | undefined
}

/** A client whose server answers as `serve` says; what it was asked is kept. */
function clientOf(serve: (asked: Asked, before: number) => [status: number, body: unknown]) {
  const asked: Asked[] = []
  const kept = new Map<string, string>([['parley.known', '1']])
  Object.assign(globalThis, {
    localStorage: {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
      removeItem: (key: string) => kept.delete(key),
    },
    fetch: async (url: string, { method, headers }: { method: string; headers: Record<string, string> }) => {
      const one = { method, path: url.replace('/api', ''), token: headers['authorization']?.replace('Bearer ', '') }
      asked.push(one)
      const [status, body] = serve(one, asked.filter(each => each.path === one.path).length - 1)
      if (status === 0) throw new TypeError('no network')
      return new Response(JSON.stringify(body), { status, headers: { 'retry-after': '7' } })
    },
  })
  return { api: new Api(), asked, kept }
}
const signedIn = (token: string) => [200, { access_token: token, user: { id: 'ana' } }] as [number, unknown]
const paths = (asked: Asked[]) => asked.map(one => `${one.path} ${one.token ?? '-'}`)

test('N1 without a token one is asked for first, once for all who ask', async () => {
  const { api, asked } = clientOf(one => (one.path === '/auth/refresh' ? signedIn('t1') : [200, { items: [] }]))
  await Promise.all([api.me(), api.conversations()])
  assert.deepEqual(paths(asked), ['/auth/refresh -', '/me t1', '/conversations?limit=100 t1'])
})

test('N2 a token that is no longer taken is replaced, and the question asked again', async () => {
  const { api, asked } = clientOf((one, before) => {
    if (one.path === '/auth/login') return signedIn('t1')
    if (one.path === '/auth/refresh') return signedIn('t2')
    return before === 0 ? [401, { error_code: 'TOKEN_EXPIRED' }] : [200, { id: 'ana' }]
  })
  const told: unknown[] = []
  api.ontoken = (token, user) => told.push([token, user?.id])
  await api.login({ email: 'a', password: 'b' })
  assert.deepEqual(await api.me(), { value: { id: 'ana' } })
  assert.deepEqual(paths(asked), ['/auth/login -', '/me t1', '/auth/refresh t1', '/me t2'])
  assert.deepEqual(told, [['t2', 'ana']])
})

test('N3 a session that is over is told once and forgotten', async () => {
  const { api, kept } = clientOf(() => [401, { error_code: 'TOKEN_REVOKED' }])
  const told: unknown[] = []
  api.ontoken = token => told.push(token)
  const answer = await api.me()
  assert.equal('failure' in answer && answer.failure.code, 'TOKEN_REVOKED')
  assert.deepEqual([told, kept.size, api.mayHaveSession], [[undefined], 0, false])
})

test('N4 no network, and a refusal, are data: the code, how long to wait, and the session stays', async () => {
  let isDown = true
  const { api } = clientOf(() => (isDown ? [0, undefined] : [429, { error: 'Slow down.', error_code: 'RATE_LIMITED' }]))
  const down = await api.me()
  assert.deepEqual('failure' in down && down.failure, { status: 0, code: 'NETWORK', message: '' })
  isDown = false
  const slow = await api.me()
  assert.deepEqual('failure' in slow && slow.failure, {
    ...{ status: 429, code: 'RATE_LIMITED', message: 'Slow down.', retryAfterS: 7 },
  })
  assert.equal(api.mayHaveSession, true)
})
