/** Says before any work is done whether the file that its result goes to can be written. Refuses to change what it holds. */
import { closeSync, openSync } from 'node:fs'

/** Undefined when it can be written, made empty if need be; else one sentence for a person, beginning with `option`. */
export function whyUnwritable(option: string, file: string): string | undefined {
  try {
    closeSync(openSync(file, 'a', 0o600))
    return undefined
  } catch (error) {
    return `${option} ${file} cannot be written (${(error as NodeJS.ErrnoException).code}).`
  }
}
