/**
 * What browsers load: the built web app and the page of the API. Files are read once into a closed list, so a path can
 * reach nothing else. Hashed assets are immutable, pages are asked for anew. Refuses to serve a folder.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { extname, join, relative, sep } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { unavailable } from '#gateway/auth/failure.ts'
import { pathsOf } from './route.ts'

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.webmanifest': 'application/manifest+json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
}
const isText = (type: string) => /^(text|application)\/|svg/.test(type)
/** Pages of the web app; all are its one document. */
const pagePaths = ['/', '/login', '/setup-username', '/u/*', '/app', '/app/*', '/chat', '/chat/*', '/join/*']

interface Page {
  bytes: Buffer
  gzip: Buffer | undefined
  type: string
  etag: string
  cache: string
}

function pageOf(bytes: Buffer, type: string, cache: string): Page {
  return {
    bytes,
    gzip: isText(type) && bytes.length > 1000 ? gzipSync(bytes) : undefined,
    type,
    etag: `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`,
    cache,
  }
}

export async function addPages(
  app: FastifyInstance,
  options: { document: string; webDist?: string | undefined; remember(path: string, method: string): void },
): Promise<void> {
  const { document, webDist } = options

  function serve(path: string, find: () => Page): void {
    options.remember(path, 'GET')
    app.get(path, (request, reply) => send(request, reply, find()))
  }

  const docs = (name: string) => readFileSync(new URL(`./docs/${name}`, import.meta.url))
  const files: [string, Page][] = [
    ['/docs', pageOf(docs('index.html'), types['.html']!, 'no-cache')],
    ['/docs/page.js', pageOf(docs('page.js'), types['.js']!, 'no-cache')],
    ['/docs/page.css', pageOf(docs('page.css'), types['.css']!, 'no-cache')],
    ['/docs/openapi.json', pageOf(Buffer.from(document), types['.json']!, 'no-cache')],
  ]
  for (const [path, page] of files) for (const url of pathsOf(path)) serve(url, () => page)

  const built = webDist && existsSync(join(webDist, 'index.html')) ? readFolder(webDist) : new Map<string, Page>()
  for (const [path, page] of built) if (path !== '/index.html') serve(path, () => page)
  const document_ = built.get('/index.html')
  for (const path of pagePaths) {
    serve(path, () => {
      if (!document_) throw unavailable('The web app is not built.', 60_000)
      return document_
    })
  }
}

function readFolder(folder: string): Map<string, Page> {
  const found = new Map<string, Page>()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const type = types[extname(entry.name)]
    if (!entry.isFile() || !type) continue
    const file = join(entry.parentPath, entry.name)
    const path = `/${relative(folder, file).split(sep).join('/')}`
    const cache = path.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-cache'
    found.set(path, pageOf(readFileSync(file), type, cache))
  }
  return found
}

function send(request: FastifyRequest, reply: FastifyReply, page: Page) {
  reply.header('cache-control', page.cache).header('etag', page.etag).header('content-type', page.type)
  if (page.gzip) reply.header('vary', 'Accept-Encoding')
  if (request.headers['if-none-match'] === page.etag) return reply.status(304).send()
  const isZipped = page.gzip && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''))
  if (!isZipped) return reply.send(page.bytes)
  return reply.header('content-encoding', 'gzip').send(page.gzip)
}
