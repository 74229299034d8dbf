/**
 * Makes the certificates of internal links: a private CA, kept if it is there, and one for each role, made anew at each run.
 * By the openssl command, because Node can read certificates but not sign them. Refuses to hand the CA's key to any process.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { makeFolder } from '#engine/ops/folder.ts'
import { certificateFiles, engineServerName, type Role, roleUri } from '#engine/ops/identity.ts'
import { StartError } from './start-error.ts'

const caDays = 3650
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

/** Files ca.pem, ca.key, and <role>.pem, <role>.key; all readable by their owner only. Answers their names. */
export async function makeCertificates(folder: string, days: number): Promise<string[]> {
  await openssl(['version'])
  try {
    makeFolder(folder, 0o700)
  } catch (error) {
    throw new StartError(`${folder} cannot be made (${(error as NodeJS.ErrnoException).code}).`)
  }
  const at = (name: string) => path.join(folder, name)
  const made: string[] = []
  if (!existsSync(at('ca.key'))) {
    const extensions = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']
    await openssl([
      ...['req', '-x509', ...newKey, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', `${caDays}`],
      ...['-subj', '/CN=Parley internal CA', ...extensions.flatMap(one => ['-addext', one])],
    ])
    made.push('ca.pem', 'ca.key')
  }
  for (const role of ['gateway', 'engine'] as const) {
    const { certificate, key } = certificateFiles(role)
    const request = at(`${role}.csr`)
    const extensions = at(`${role}.ext`)
    try {
      writeFileSync(extensions, extensionsOf(role))
      await openssl(['req', ...newKey, '-keyout', at(`${key}.next`), '-out', request, '-subj', `/CN=Parley ${role}`])
      await openssl([
        ...['x509', '-req', '-in', request, '-out', at(`${certificate}.next`), '-days', `${days}`],
        ...['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-set_serial', serial(), '-extfile', extensions],
      ])
      renameSync(at(`${key}.next`), at(key))
      renameSync(at(`${certificate}.next`), at(certificate))
    } finally {
      rmSync(request, { force: true })
      rmSync(extensions, { force: true })
    }
    made.push(certificate, key)
  }
  return made
}

function extensionsOf(role: Role): string {
  const names = [`URI:${roleUri(role)}`, ...(role === 'engine' ? [`DNS:${engineServerName}`] : [])]
  return [
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    `extendedKeyUsage=clientAuth${role === 'engine' ? ',serverAuth' : ''}`,
    `subjectAltName=${names.join(',')}`,
  ].join('\n')
}

const serial = () => `0x${randomBytes(16).toString('hex')}`

async function openssl(args: string[]): Promise<void> {
  const mask = process.umask(0o077)
  try {
    await promisify(execFile)('openssl', args)
  } catch (error) {
    const { code, stderr } = error as { code?: string | number; stderr?: string }
    if (code === 'ENOENT') throw new StartError('parley certs needs openssl in PATH: install OpenSSL.')
    throw new StartError(`openssl failed: ${stderr?.trim().split('\n').at(-1) ?? code}`)
  } finally {
    process.umask(mask)
  }
}
