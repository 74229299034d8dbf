/**
 * The REST server: fastify with the routes of this folder, one error body, one log line per request, security headers, CORS,
 * limits per address and user. Owns what is the same for every route; refuses to know what a route does.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { limited, Refusal, unauthorized } from '#gateway/auth/failure.ts'
import type { Principal } from '#gateway/auth/tokens.ts'
import { errorCodes } from '#protos/errors.ts'
import { requestTimeoutMs, restBodyBytesMax } from '#protos/limits.ts'
import { parseJson } from './body.ts'
import { answerOf, bodyOf, plain, retryAfter } from './errors.ts'
import { securityHeaders, wantsJson } from './headers.ts'
import { openApiOf } from './openapi.ts'
import { addressKey, type Client } from './origin.ts'
import { addPages } from './pages.ts'
import { type Context, pathsOf, type RouteSpec } from './route.ts'
import { type HttpDeps, routesOf } from './routes.ts'
import { answerBrokenRequest } from './wire.ts'

interface State {
  client: Client
  startedAt: number
  principal?: Principal
}

const states = new WeakMap<FastifyRequest, State>()

export async function buildHttp(deps: HttpDeps): Promise<FastifyInstance> {
  const { config, log, metrics, clock, tokens, limiter, origins, health } = deps
  const timeoutMs = deps.requestTimeoutMs ?? requestTimeoutMs
  const app = fastify({
    logger: false,
    bodyLimit: restBodyBytesMax,
    requestTimeout: timeoutMs,
    // Node looks for late requests in rounds; the default of 30 s would make 15 s mean 45.
    http: {
      // Node itself would answer without a body; the check is below.
      requireHostHeader: false,
      connectionsCheckingInterval: Math.min(1000, timeoutMs / 2),
      headersTimeout: Math.min(10_000, timeoutMs),
      // Some clients offer HTTP/2 with every request: an offer that nobody takes is an ordinary request.
      shouldUpgradeCallback: (request: { url?: string }) => /^(\/api)?\/ws(\/chat)?(\?|$)/.test(request.url ?? ''),
    },
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    genReqId: () => clock.id(),
    routerOptions: { ignoreTrailingSlash: false, caseSensitive: true, maxParamLength: 500 },
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: false } },
    clientErrorHandler(error, socket) {
      answerBrokenRequest(error as NodeJS.ErrnoException, socket, clock.id())
    },
    frameworkErrors(error, request, reply) {
      fail(error, request, reply as unknown as FastifyReply)
    },
  })

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, async (_request: unknown, bytes: Buffer) =>
    parseJson(bytes),
  )

  function stateOf(request: FastifyRequest): State {
    let state = states.get(request)
    if (!state) states.set(request, (state = { client: origins.clientOf(request.raw), startedAt: clock.mono() }))
    return state
  }

  function fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const answer = answerOf(error)
    if (answer.isFault) {
      log.error('request failed', { requestId: request.id, route: routeOf(request), status: answer.status, err: error })
    }
    const known = Object.entries(errorCodes).find(([, row]) => row.http.code === answer.code)
    metrics.parley_errors_total.inc({ class: known?.[1].class ?? 'validation', code: answer.code })
    if (answer.retryAfterMs !== undefined) reply.header('retry-after', retryAfter(answer.retryAfterMs))
    if (answer.status === 401) reply.header('www-authenticate', 'Bearer')
    // fastify may have begun to stream or the client may be gone: then there is nobody to tell.
    if (reply.sent) return
    reply.header('x-request-id', request.id)
    for (const [name, value] of securityHeaders(stateOf(request).client.isHttps)) reply.header(name, value)
    reply
      .status(answer.status)
      .header('content-type', 'application/json; charset=utf-8')
      .send(JSON.stringify(bodyOf(answer, request.id)))
  }

  // --- every request -----------------------------------------------------------------------------------------------------
  app.addHook('onRequest', async (request, reply) => {
    const { client } = stateOf(request)
    reply.header('x-request-id', request.id)
    for (const [name, value] of securityHeaders(client.isHttps)) reply.header(name, value)
    const origin = request.headers.origin
    if (origin !== undefined && origins.isListed(origin)) {
      reply.header('access-control-allow-origin', origin)
      reply.header('access-control-allow-credentials', 'true')
      reply.header('access-control-expose-headers', 'retry-after, x-request-id')
    }
    if (config.CORS_ALLOWED_ORIGINS.length > 0) reply.header('vary', 'Origin')
    if (request.headers.host === undefined && request.raw.httpVersion === '1.1')
      throw new Refusal(400, 'INVALID_REQUEST', 'A request names its Host.')
    if (/%00/.test(request.url)) throw new Refusal(400, 'INVALID_REQUEST', 'The path is not valid.')
  })

  app.addHook('onResponse', async (request, reply) => {
    const state = stateOf(request)
    const ms = clock.mono() - state.startedAt
    const route = routeOf(request)
    metrics.parley_http_ms.observe(
      { method: request.method, route, status: `${Math.floor(reply.statusCode / 100)}xx` },
      ms,
    )
    log.info('request', {
      requestId: request.id,
      method: request.method,
      route,
      status: reply.statusCode,
      ms: Math.round(ms * 10) / 10,
      ...(state.principal ? { userId: state.principal.userId } : {}),
    })
  })

  // Node answers this one without a body as well.
  app.server.on('checkExpectation', (_request, response) => {
    const requestId = clock.id()
    const answer = plain(417, 'Only 100-continue can be expected.')
    for (const [name, value] of securityHeaders(false)) response.setHeader(name, value)
    response.writeHead(417, { 'content-type': 'application/json; charset=utf-8', 'x-request-id': requestId })
    response.end(JSON.stringify(bodyOf(answer, requestId)))
  })
  app.setErrorHandler((error, request, reply) => fail(error, request, reply))

  // --- the routes --------------------------------------------------------------------------------------------------------
  const specs = routesOf(deps)
  const known: { match: RegExp; isLiteral: boolean; methods: Set<string> }[] = []
  const remember = (path: string, method: string) => {
    const match = new RegExp(`^${path.replace(/\*/g, '.*').replace(/:[a-z_]+/g, '[^/]+')}$`)
    const same = known.find(k => k.match.source === match.source)
    const methods = same?.methods ?? new Set<string>()
    methods.add(method)
    if (method === 'GET') methods.add('HEAD')
    if (!same) known.push({ match, isLiteral: !/[:*]/.test(path), methods })
  }
  for (const spec of specs) for (const path of pathsOf(spec.path)) mount(path, spec)

  function mount(path: string, spec: RouteSpec): void {
    remember(path, spec.method)
    const response: Record<number, unknown> = {}
    for (const [status, answer] of Object.entries(spec.answers)) if (answer.schema) response[+status] = answer.schema
    const nothing = { type: 'object', additionalProperties: false }
    const hasBody = spec.method === 'POST' || spec.method === 'PATCH'
    app.route({
      method: spec.method,
      url: path,
      schema: {
        params: spec.params ?? nothing,
        querystring: spec.query ?? nothing,
        ...(hasBody ? { body: spec.body ?? nothing } : {}),
        response,
      },
      async onRequest(request) {
        await admit(spec, request)
        if (hasBody) mustBePlainUtf8(request)
      },
      async preValidation(request) {
        if (request.body === undefined && spec.isBodyOptional) request.body = {}
        if (!hasBody && request.body !== undefined) {
          throw new Refusal(400, 'INVALID_REQUEST', 'This request takes no body.')
        }
      },
      async handler(request, reply) {
        const state = stateOf(request)
        const context: Context = {
          params: lowerIds(request.params as Record<string, string>),
          query: request.query,
          body: request.body,
          requestId: request.id,
          client: state.client,
          raw: request.raw,
          startedAt: state.startedAt,
          get principal() {
            if (!state.principal) throw new Error('no principal on this route')
            return state.principal
          },
        }
        const answer = await spec.handle(context)
        reply.status(answer.status)
        for (const [name, value] of Object.entries(answer.headers ?? {})) reply.header(name, value)
        if (answer.stream) {
          reply.header('content-type', 'text/event-stream; charset=utf-8')
          reply.hijack()
          reply.raw.writeHead(answer.status, reply.getHeaders() as Record<string, string>)
          return answer.stream(reply.raw)
        }
        if (answer.status === 204 || answer.status === 202) return reply.send()
        reply.header('content-type', 'application/json; charset=utf-8')
        // A handler's own JSON goes out as it is: its bytes are the log's.
        return answer.json === undefined
          ? answer.body
          : reply.serializer((text: unknown) => text as string).send(answer.json)
      },
    })
  }

  /** Who calls and how often: before a body is read. */
  async function admit(spec: RouteSpec, request: FastifyRequest): Promise<void> {
    const state = stateOf(request)
    takeOne('rest_address', addressKey(state.client.address))
    if (spec.auth === 'cookie' || spec.checksOrigin) {
      const origin = request.headers.origin
      if (origin !== undefined && !origins.isAllowed(state.client, origin)) {
        throw new Refusal(403, 'FORBIDDEN', 'This origin may not do that.')
      }
    }
    if (spec.auth === 'bearer') {
      const access = await tokens.verifyAccess(bearerOf(request))
      if ('reason' in access) throw unauthorized('This token is not valid.', access.reason)
      state.principal = access
      takeOne('rest_user', access.userId)
      if (spec.limit) takeOne(spec.limit, access.userId)
    }
    if (!wantsJson(request.headers.accept, spec.streams ? 'text/event-stream' : ''))
      throw new Refusal(406, 'INVALID_REQUEST', 'Only application/json is served.')
  }

  /** What is compressed or in another alphabet is not guessed at. */
  function mustBePlainUtf8({ headers }: FastifyRequest): void {
    const coding = headers['content-encoding']
    const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(headers['content-type'] ?? '')?.[1]
    if ((coding === undefined || /^identity$/i.test(coding)) && (charset === undefined || /^utf-?8$/i.test(charset)))
      return
    throw new Refusal(415, 'INVALID_REQUEST', 'Send JSON in UTF-8, not compressed.')
  }

  function takeOne(limit: 'rest_address' | 'rest_user' | NonNullable<RouteSpec['limit']>, key: string): void {
    const waitMs = limiter.take(limit, key)
    if (waitMs > 0) throw limited(limit, waitMs)
  }

  // --- what is not REST ---------------------------------------------------------------------------------------------------
  for (const [path, ask] of [
    ['/healthz', async () => health.live()],
    [
      '/readyz',
      async () => {
        // Which part is missing is for the internal listener.
        const { status, body } = await health.ready()
        return { status, body: { status: body['status'] } }
      },
    ],
  ] as const) {
    for (const url of pathsOf(path)) {
      remember(url, 'GET')
      app.get(url, async (_request, reply) => {
        const { status, body } = await ask()
        return reply.status(status).header('content-type', 'application/json; charset=utf-8').send(body)
      })
    }
  }
  // No person can have this name, so reading it is a wrong method of `POST /users/me`.
  for (const url of pathsOf('/users/me')) {
    app.get(url, async (request, reply) => {
      reply.header('allow', 'POST, OPTIONS')
      return fail(new Refusal(405, 'INVALID_REQUEST', 'Only POST here.'), request, reply)
    })
  }
  for (const url of ['/ws', '/ws/chat'].flatMap(pathsOf)) {
    remember(url, 'GET')
    app.get(url, async (request, reply) => {
      reply.header('upgrade', 'websocket')
      return fail(new Refusal(426, 'INVALID_REQUEST', 'This is the socket: upgrade to WebSocket.'), request, reply)
    })
  }
  const document = JSON.stringify(openApiOf(specs, config.API_BASE_URL || config.APP_BASE_URL))
  await addPages(app, { document, webDist: deps.webDist, remember })

  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0]!
    const matching = known.filter(k => k.match.test(path))
    // `/users/me` is no person's path, whatever `/users/:username` takes.
    const meant = matching.some(k => k.isLiteral) ? matching.filter(k => k.isLiteral) : matching
    const methods = new Set(meant.flatMap(k => [...k.methods]))
    if (methods.size === 0) return fail(new Refusal(404, 'NOT_FOUND', 'There is nothing here.'), request, reply)
    const allow = [...methods, 'OPTIONS'].join(', ')
    reply.header('allow', allow)
    if (request.method !== 'OPTIONS') {
      return fail(new Refusal(405, 'INVALID_REQUEST', `Only ${allow} here.`), request, reply)
    }
    if (reply.hasHeader('access-control-allow-origin')) {
      reply.header('access-control-allow-methods', allow)
      reply.header('access-control-allow-headers', 'authorization, content-type')
      reply.header('access-control-max-age', '600')
    }
    return reply.status(204).send()
  })
  return app
}

function routeOf(request: FastifyRequest): string {
  return request.routeOptions.url?.replace(/^\/api/, '') ?? 'none'
}

/** The one bearer token of a request. Two Authorization headers are nobody's. */
function bearerOf(request: FastifyRequest): string {
  const { rawHeaders } = request.raw
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]!.toLowerCase() === 'authorization') count++
  const header = request.headers.authorization
  if (header === undefined) throw unauthorized('Send an access token.', 'TOKEN_MISSING')
  const token = count > 1 ? undefined : /^Bearer +([^\s]+)$/i.exec(header)?.[1]
  if (token === undefined) throw unauthorized('This token is not valid.', 'TOKEN_INVALID')
  return token
}

/** Ids in paths are accepted in upper case and lowered; usernames are lowered where they are read. */
function lowerIds(params: Record<string, string>): Record<string, string> {
  const out: Record<string, string> = {}
  for (const [key, value] of Object.entries(params)) out[key] = key === 'username' ? value : value.toLowerCase()
  return out
}
