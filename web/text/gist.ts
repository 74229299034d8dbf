/**
 * Texts made short: one line of a message for the list, and the end of an answer for the question that goes on from it.
 * Pure; what is left is text and never markup.
 */

/** More than any line of the list shows. */
const gistCharsMax = 160
const endCharsMax = 80

/** The beginning of a Markdown text as one plain line. */
export const gist = (text: string): string => plain(text.slice(0, gistCharsMax * 2)).slice(0, gistCharsMax)

/** A Markdown text as one plain line. Marks go only where they mark something. */
export function plain(text: string): string {
  return text
    .replace(/^ {0,3}(?:```|~~~)[^\n]*$/gm, '')
    .replace(/^ {0,3}\|?[\s:|-]*-[\s:|-]*$/gm, '')
    .replace(/^ {0,3}(?:#{1,6}|>|[-+*]) +/gm, '')
    .replace(/\[([^\]\n]*)\]\([^)\s]*\)/g, '$1')
    .replace(/(\*\*|__|~~|`)(?=\S)(.*?\S)\1/g, '$2')
    .replace(/(?<![\p{L}\p{N}*])\*(?=[^\s*])([^*\n]*[^\s*])\*(?!\*)/gu, '$1')
    .replace(/\s*\|\s*/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
}

/** The last words of a text, whole ones where it has any. */
export function endOf(text: string): string {
  const chars = [...text.replace(/\s+/g, ' ').trim()]
  if (chars.length <= endCharsMax) return chars.join('')
  const end = chars.slice(-endCharsMax).join('')
  const space = end.indexOf(' ')
  return `…${space >= 0 && space < endCharsMax - 1 ? end.slice(space + 1) : end}`
}
