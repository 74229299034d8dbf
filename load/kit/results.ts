/** Writes one section of load/RESULTS.md, in place of the one with the same heading. Refuses to touch the others. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

const file = new URL('../RESULTS.md', import.meta.url)
const opening = `# Results

Last runs of the scripts in this folder, each with the machine it was made on. Figures belong to that machine and its noise;
a benchmark is never an assertion in a test.
`

export function writeSection(heading: string, text: string): void {
  const page = existsSync(file) ? readFileSync(file, 'utf8') : opening
  writeFileSync(file, replaceSection(page, heading, text))
}

/** The page with this section's text replaced, or added at its end. */
export function replaceSection(page: string, heading: string, text: string): string {
  const parts = page.trimEnd().split(/^(?=## )/m)
  const at = parts.findIndex(part => part.startsWith(`## ${heading}\n`))
  const section = `## ${heading}\n\n${text.trim()}\n`
  if (at < 0) parts.push(section)
  else parts[at] = section
  return `${parts.map(part => part.trim()).join('\n\n')}\n`
}
