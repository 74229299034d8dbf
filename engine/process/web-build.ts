/**
 * Owns the freshness of web/dist: builds when the sources are not the ones it was built from, by their content, so that a
 * checkout's file times do not matter. Refuses to build anything else.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { StartError } from './start-error.ts'

const stampName = '.built-from'

/** `say` hears one line when there is something to wait for or to know. */
export async function buildWeb(root: string, say: (line: string) => void): Promise<void> {
  const web = path.join(root, 'web')
  const dist = path.join(web, 'dist')
  const hasApp = existsSync(path.join(dist, 'index.html'))
  if (!existsSync(path.join(web, 'vite.config.ts'))) {
    say('web/ has no vite.config.ts: the web app is not built.')
    return
  }
  const vite = path.join(root, 'node_modules/vite/bin/vite.js')
  const stamp = path.join(dist, stampName)
  const hash = hashOf(root)
  if (hasApp && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return
  if (!existsSync(vite)) {
    // An install without development packages carries a finished web/dist.
    if (hasApp) return
    throw new StartError('web/dist is missing and vite is not installed: run npm ci.')
  }
  say('Building the web app …')
  const failure = await run(root, [vite, 'build', '--config', 'web/vite.config.ts', '--logLevel', 'warn'])
  if (failure === undefined) writeFileSync(stamp, hash)
  else if (hasApp) say(`The web app did not build; the last one is served.\n${failure}`)
  else throw new StartError(`The web app did not build.\n${failure}`)
}

function run(cwd: string, args: string[]): Promise<string | undefined> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    const hear = (chunk: Buffer) => {
      said = (said + chunk).slice(-4000)
    }
    child.stdout.on('data', hear)
    child.stderr.on('data', hear)
    child.once('error', error => resolve(error.message))
    child.once('exit', code => resolve(code === 0 ? undefined : said.trim()))
  })
}

function hashOf(root: string): string {
  const hash = createHash('sha256')
  const skipped = new Set(['dist', 'node_modules'])
  const visit = (folder: string) => {
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (skipped.has(entry.name) || entry.name.endsWith('.test.ts')) continue
      const full = path.join(folder, entry.name)
      if (entry.isDirectory()) visit(full)
      else if (entry.isFile()) hash.update(path.relative(root, full)).update(readFileSync(full))
    }
  }
  visit(path.join(root, 'web'))
  visit(path.join(root, 'protos'))
  hash.update(readFileSync(path.join(root, 'package.json')))
  return hash.digest('hex')
}
