/**
 * What a REST route is: method, path, who may call it, strict schemas, every answer it can give. fastify is fed from these
 * specs, and so are the OpenAPI document and the authorization test. Refuses to know fastify.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Static, type TObject, type TSchema, Type } from 'typebox'
import type { Principal } from '#gateway/auth/tokens.ts'
import type { LimitName } from './limiter.ts'
import type { Client } from './origin.ts'

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'

export interface Context<P = unknown, Q = unknown, B = unknown> {
  params: P
  query: Q
  body: B
  requestId: string
  client: Client
  /** The raw request, for its headers; the body is in `body`. */
  raw: IncomingMessage
  /** Of a `bearer` route always there; throws otherwise. */
  principal: Principal
  /** Monotonic ms at which it arrived. */
  startedAt: number
}

export interface Answer {
  status: number
  body?: unknown
  /** JSON made by the handler itself, in place of `body`. */
  json?: string
  headers?: Record<string, string>
  /** Server-sent events in place of a body: called once, with the headers written; ends the response itself. */
  stream?(response: ServerResponse): void
}

export interface RouteSpec {
  method: Method
  /** As in the protocol, without `/api`; every route answers there too. */
  path: string
  /** `bearer`: an access token. `cookie`: the handler looks at the cookie itself, a present Origin is checked. */
  auth: 'none' | 'bearer' | 'cookie'
  /** A present Origin must be the own one or listed, though the route takes no cookie. */
  checksOrigin?: true
  tag: string
  summary: string
  params?: TObject
  query?: TObject
  body?: TSchema
  /** Of each body one that the route takes, for the document. */
  bodyExample?: unknown
  /** An absent body counts as `{}`. */
  isBodyOptional?: boolean
  /** Success: status → schema of the body, and an example. */
  answers: Record<number, { schema?: TSchema; example?: unknown; doc: string }>
  /** Refusals beyond those that follow from the rest of the spec. */
  refusals: number[]
  /** Answers server-sent events, too, to those who take them. */
  streams?: true
  /** Taken per user before the handler runs, beside `rest_user`. */
  limit?: LimitName
  // biome-ignore lint/suspicious/noExplicitAny: typed where the route is written, by route()
  handle(c: Context<any, any, any>): Promise<Answer>
}

const nothing = Type.Object({}, { additionalProperties: false })
type Nothing = typeof nothing

/** A spec whose handler is typed by its schemas. */
export function route<P extends TObject = Nothing, Q extends TObject = Nothing, B extends TSchema = Nothing>(
  spec: Omit<RouteSpec, 'params' | 'query' | 'body' | 'handle'> & {
    params?: P
    query?: Q
    body?: B
    handle(c: Context<Static<P>, Static<Q>, Static<B>>): Promise<Answer>
  },
): RouteSpec {
  return spec as unknown as RouteSpec
}

export const strict = <const T extends Record<string, TSchema>>(fields: T) =>
  Type.Object(fields, { additionalProperties: false })

/** Both paths under which a route answers. */
export function pathsOf(path: string): [string, string] {
  return [path, `/api${path}`]
}
