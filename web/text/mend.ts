/**
 * Makes an unfinished piece of Markdown presentable: markers that may still turn into something are held back, so that a
 * reader never sees a raw `**` that vanishes a moment later. Pure text to text; parsing and rendering are blocks.ts's.
 */

/** A last line that is only a marker so far: its meaning is decided by what comes next. */
const bareMarker = /^\s*(?:#{1,6}|[-+*]|\d{1,9}[.)]?|>|`{1,}|~{1,}|-{2,}|\*{2,}|_{2,}|=+|\|.*)\s*$/

export function mend(source: string): string {
  const lineAt = source.lastIndexOf('\n') + 1
  const line = source.slice(lineAt)
  // Inside of code all is code, but for a line that may be the mark of its end.
  if (fencesIn(source.slice(0, lineAt)).openAt !== undefined) {
    return /^\s*[`~]+$/.test(line) ? source.slice(0, lineAt) : source
  }
  const { openAt, closedTo } = fencesIn(source)
  // The box comes once the fence's first line is complete.
  if (openAt !== undefined) return source.slice(0, openAt)
  const heldFrom =
    unfinishedTable(source, lineAt) ?? (bareMarker.test(line) && !isInTable(source, lineAt) ? lineAt : undefined)
  const kept = source.slice(0, heldFrom)
  const inlineAt = Math.max(kept.lastIndexOf('\n\n') + 1, closedTo)
  return kept.slice(0, inlineAt) + mendInline(kept.slice(inlineAt))
}

const row = /^\s*\|/
const delimiterSoFar = /^\s*\|?[\s:|-]*$/

/** A row goes on with a table only where a whole delimiter row stands before it. */
function isInTable(source: string, lineAt: number): boolean {
  return row.test(source.slice(lineAt)) && hasDelimiterRow(source.slice(0, lineAt))
}

/** Where a header row starts whose delimiter row may still come: neither is shown before both are whole. */
function unfinishedTable(source: string, lineAt: number): number | undefined {
  if (lineAt === 0 || !delimiterSoFar.test(source.slice(lineAt)) || hasDelimiterRow(source.slice(0, lineAt))) return
  const headerAt = source.lastIndexOf('\n', lineAt - 2) + 1
  const aboveAt = source.lastIndexOf('\n', headerAt - 2) + 1
  const isHeader = row.test(source.slice(headerAt, lineAt))
  return isHeader && (headerAt === 0 || !row.test(source.slice(aboveAt, headerAt))) ? headerAt : undefined
}

function hasDelimiterRow(lines: string): boolean {
  return /(?:^|\n)\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*(?:\n|$)/.test(lines)
}

/** Where the fence starts that is open at the end of the text, if one is, and where the last that was closed ends. */
function fencesIn(source: string): { openAt: number | undefined; closedTo: number } {
  let open: { at: number; mark: string } | undefined
  let closedTo = 0
  let at = 0
  for (const line of source.split('\n')) {
    const mark = /^\s{0,12}(`{3,}|~{3,})/.exec(line)?.[1]
    at += line.length + 1
    if (mark && !open) open = { at: at - line.length - 1, mark }
    else if (mark && open && mark[0] === open.mark[0] && mark.length >= open.mark.length && line.trim() === mark) {
      open = undefined
      closedTo = Math.min(at, source.length)
    }
  }
  return { openAt: open?.at, closedTo }
}

interface Marker {
  at: number
  text: string
}

/** Takes out opening marks of code, emphasis and links that nothing closes yet. */
function mendInline(source: string): string {
  const open: Marker[] = []
  let i = 0
  while (i < source.length) {
    const c = source[i]!
    if (c === '\\') {
      i += 2
      continue
    }
    if (c === '`') {
      const run = runAt(source, i)
      const close = closingRun(source, i + run.length, run)
      if (close === undefined) {
        open.push({ at: i, text: run })
        break
      }
      i = close
      continue
    }
    if (c === '*' || c === '_' || c === '~') {
      const run = runAt(source, i)
      mark(source, i, run, open)
      i += run.length
      continue
    }
    i++
  }
  let text = source
  for (const marker of open.toReversed()) text = text.slice(0, marker.at) + text.slice(marker.at + marker.text.length)
  return mendLink(text)
}

function mark(source: string, at: number, run: string, open: Marker[]): void {
  const before = source[at - 1] ?? ' '
  const after = source[at + run.length] ?? ' '
  const last = open.at(-1)
  if (last && /\S/.test(before) && last.text[0] === run[0] && run.length >= last.text.length) {
    open.pop()
    if (run.length > last.text.length) mark(source, at + last.text.length, run.slice(last.text.length), open)
    return
  }
  const isAtEnd = at + run.length === source.length
  const opens = /\S/.test(after) && (run[0] !== '_' || !/\w/.test(before)) && (run[0] !== '~' || run.length > 1)
  if (isAtEnd ? /\s/.test(before) || run.length > 1 || last !== undefined : opens) open.push({ at, text: run })
}

const runAt = (source: string, at: number): string => /^(.)\1*/s.exec(source.slice(at, at + 64))![0]

function closingRun(source: string, from: number, run: string): number | undefined {
  for (let i = source.indexOf('`', from); i >= 0; i = source.indexOf('`', i)) {
    const found = runAt(source, i)
    i += found.length
    if (found === run) return i
  }
  return undefined
}

function mendLink(source: string): string {
  return source
    .replace(/!?\[([^\]\n]*)\]\([^)\n]*$/, '$1')
    .replace(/!?\[([^\]\n]*)\]?$/, '$1')
    .replace(/!$/, '')
}
