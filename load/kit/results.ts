/** Writes one section of load/RESULTS.md, in place of the one with the same heading, or rows of its table of goals. Refuses to touch the others. */
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

export interface Goal {
  id: string
  what: string
  floor: string
  aim: string
  measured: string
  /** Undefined: measured and not judged. */
  isMet: boolean | undefined
}

const goalsHeading = 'Goals measured by commands of their own'
const goalsTop = `Each row is the last run of the command in its last column; their sections below say more.

| # | property | floor | aim | measured | | command, date |
| --- | --- | --- | --- | --- | --- | --- |
`

/** Puts these goals into the table of goals that single commands measure, in place of their last figures. */
export function recordGoals(goals: readonly Goal[], command: string): void {
  const page = existsSync(file) ? readFileSync(file, 'utf8') : opening
  writeFileSync(file, replaceGoals(page, goals, `${command}, ${new Date().toISOString().slice(0, 10)}`))
}

/** The page with these rows in that table; rows are in order of their numbers. */
export function replaceGoals(page: string, goals: readonly Goal[], source: string): string {
  const section = page.split(/^(?=## )/m).find(part => part.startsWith(`## ${goalsHeading}\n`)) ?? ''
  const rows = new Map<string, string>()
  for (const line of section.split('\n').filter(row => /^\| G\d/.test(row))) {
    rows.set(line.split(' | ').slice(0, 2).join(' | '), line)
  }
  for (const { id, what, floor, aim, measured, isMet } of goals) {
    const verdict = isMet === undefined ? '–' : isMet ? 'met' : 'MISSED'
    const line = `| ${id} | ${what} | ${floor} | ${aim} | ${measured} | ${verdict} | ${source} |`
    rows.set(`| ${id} | ${what}`, line)
  }
  const sorted = [...rows.values()].sort((a, b) => Number.parseInt(a.slice(3), 10) - Number.parseInt(b.slice(3), 10))
  return replaceSection(page, goalsHeading, goalsTop + sorted.join('\n'))
}
