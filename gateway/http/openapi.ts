/**
 * The OpenAPI 3.1 document, made from the route specs: per operation every status that occurs, with an example. Owns how
 * specs become a document; refuses to know a route.
 */
import type { RestCode } from '#protos/errors.ts'
import type { RouteSpec } from './route.ts'
import { ErrorBodySchema, shownAs } from './schemas.ts'

const words: Record<number, [code: RestCode, text: string]> = {
  400: ['INVALID_REQUEST', 'The request is not valid.'],
  401: ['UNAUTHORIZED', 'Who is asking is not known.'],
  403: ['FORBIDDEN', 'This is not allowed.'],
  404: ['NOT_FOUND', 'There is no such thing, or not for the asker.'],
  405: ['INVALID_REQUEST', 'This path has other methods; see Allow.'],
  406: ['INVALID_REQUEST', 'Only application/json is served.'],
  408: ['INVALID_REQUEST', 'The request did not arrive in time.'],
  409: ['CONFLICT', 'It does not go with what is there.'],
  413: ['TOO_LARGE', 'The body is too large.'],
  415: ['INVALID_REQUEST', 'Send JSON in UTF-8, not compressed.'],
  429: ['RATE_LIMITED', 'Too many requests; see Retry-After.'],
  500: ['SERVER_ERROR', 'Something went wrong on our side.'],
  503: ['SERVICE_UNAVAILABLE', 'Try again; see Retry-After.'],
}

/** Every refusal that a route can answer: its own, and those that follow from what it takes. */
export function refusalsOf(spec: RouteSpec): number[] {
  const hasBody = spec.method === 'POST' || spec.method === 'PATCH'
  const all = [400, 405, 406, 429, 500, 503, ...spec.refusals]
  // A body that a DELETE does not take is looked at all the same.
  if (hasBody || spec.method === 'DELETE') all.push(408, 413, 415)
  if (spec.auth === 'bearer') all.push(401)
  if (spec.auth === 'cookie') all.push(403)
  return [...new Set(all)].sort((a, b) => a - b)
}

export function openApiOf(specs: readonly RouteSpec[], baseUrl: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const spec of specs) {
    const path = spec.path.replace(/:([a-z_]+)/g, '{$1}')
    paths[path] = { ...paths[path], [spec.method.toLowerCase()]: operationOf(spec) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Parley',
      version: '0.1.0',
      description:
        'Chat where people and an assistant share conversations. Live events come over the WebSocket at /ws.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/api' }, { url: '/' }, ...(baseUrl === '' ? [] : [{ url: baseUrl }])],
    paths,
    components: {
      schemas: { Error: ErrorBodySchema },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'apiKey', in: 'cookie', name: 'parley_refresh' },
      },
    },
  }
}

function operationOf(spec: RouteSpec): Record<string, unknown> {
  const responses: Record<string, unknown> = {}
  for (const [status, answer] of Object.entries(spec.answers)) {
    responses[status] = {
      description: answer.doc,
      ...(answer.schema
        ? {
            content: {
              'application/json': { schema: answer.schema, ...exampleOf(answer.example) },
              ...(spec.streams ? { 'text/event-stream': { schema: { type: 'string' } } } : {}),
            },
          }
        : {}),
    }
  }
  for (const status of refusalsOf(spec)) responses[status] = refusalOf(status, spec)
  return {
    operationId: operationId(spec),
    tags: [spec.tag],
    summary: spec.summary,
    ...(spec.auth === 'bearer' ? { security: [{ bearer: [] }] } : {}),
    ...(spec.auth === 'cookie' ? { security: [{ cookie: [] }, {}] } : {}),
    parameters: [...parametersOf(spec, 'path'), ...parametersOf(spec, 'query')],
    ...(spec.body
      ? {
          requestBody: {
            required: !spec.isBodyOptional,
            content: { 'application/json': { schema: spec.body, ...exampleOf(spec.bodyExample) } },
          },
        }
      : {}),
    responses,
  }
}

function refusalOf(status: number, spec: RouteSpec): Record<string, unknown> {
  const [code, text] = words[status]!
  const details =
    status === 401 && spec.path !== '/auth/login'
      ? { details: { reason: 'TOKEN_EXPIRED' } }
      : status === 400
        ? { details: { field: 'content' } }
        : {}
  const example = { error: text, error_code: code, request_id: '018f3b22-0d0e-7b6a-9a2e-7f54c1de9a01', ...details }
  const header = (name: string, description: string) => ({ [name]: { description, schema: { type: 'string' } } })
  return {
    description: text,
    ...(status === 429 || status === 503 ? { headers: header('Retry-After', 'Seconds.') } : {}),
    ...(status === 405 ? { headers: header('Allow', 'The methods of this path.') } : {}),
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' }, example } },
  }
}

function parametersOf(spec: RouteSpec, where: 'path' | 'query'): unknown[] {
  const schema = where === 'path' ? spec.params : spec.query
  if (!schema) return []
  const required = new Set((schema as unknown as { required?: string[] }).required ?? [])
  return Object.entries(schema.properties).map(([name, field]) => ({
    name,
    in: where,
    required: where === 'path' || required.has(name),
    schema: shownAs.get(field) ?? field,
  }))
}

function operationId(spec: RouteSpec): string {
  const name = spec.path
    .split('/')
    .filter(Boolean)
    .map(part => part.replace(/^:/, 'by_'))
    .join('_')
  return `${spec.method.toLowerCase()}_${name}`
}

function exampleOf(example: unknown): Record<string, unknown> {
  return example === undefined ? {} : { example }
}
