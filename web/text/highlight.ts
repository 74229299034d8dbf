/**
 * Gives code blocks their colours once they are whole: in idle time, one block at a time, in place, with the same text and
 * the same metrics, so that nothing moves. Loads the grammars with the first block that needs them; without them code is
 * plain, and that is no error.
 */
import DOMPurify from 'dompurify'

/** Longer code stays plain: a block is coloured in one piece, which may take 8 ms. */
const charsMax = 16_000
/** What code blocks call these languages, so that nothing is loaded for one that has no grammar. */
const names = new Set([
  ...['bash', 'css', 'diff', 'go', 'java', 'javascript', 'json', 'python', 'rust', 'sql', 'typescript', 'xml', 'yaml'],
  ...['console', 'sh', 'shell', 'zsh', 'patch', 'golang', 'cjs', 'js', 'jsx', 'mjs', 'json5', 'jsonc', 'py', 'rs'],
  ...['cts', 'mts', 'ts', 'tsx', 'html', 'svg', 'yml'],
])

type Colour = typeof import('./grammars.ts').coloured
let colour: Colour | undefined
let isLoading = false
const waiting = new Map<HTMLElement, string>()
let isDue = false

const hasGrammar = (language: string): boolean => names.has(language.toLowerCase())

/** Colours every code block in an element whose text will not change any more. */
export function highlightIn(element: HTMLElement): void {
  for (const code of element.querySelectorAll<HTMLElement>('code[data-language]')) {
    const language = code.dataset['language'] ?? ''
    if (code.childElementCount > 0 || !hasGrammar(language) || code.textContent.length > charsMax) continue
    waiting.set(code, language)
  }
  if (waiting.size === 0) return
  if (colour) return schedule()
  if (isLoading) return
  isLoading = true
  import('./grammars.ts').then(
    grammars => {
      colour = grammars.coloured
      schedule()
    },
    () => {
      // Offline, or a newer version was deployed: the next block asks again.
      isLoading = false
      waiting.clear()
    },
  )
}

function schedule(): void {
  if (isDue || waiting.size === 0) return
  isDue = true
  const idle = window.requestIdleCallback ?? ((run: () => void) => setTimeout(run, 16))
  idle(next)
}

function next(): void {
  isDue = false
  const [first] = waiting
  if (!first || !colour) return
  const [code, language] = first
  waiting.delete(code)
  if (code.isConnected) paint(code, colour(code.textContent, language))
  schedule()
}

function paint(code: HTMLElement, html: string | undefined): void {
  if (html === undefined) return
  const spans = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: ['span'],
    ALLOWED_ATTR: ['class'],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  })
  // Colours may change nothing that can be read or copied.
  if (spans.textContent === code.textContent) code.replaceChildren(spans)
}
