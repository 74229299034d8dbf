/**
 * The only way from rendered Markdown into the page: DOMPurify with a short allow-list, whole blocks, as nodes and never
 * as a string. Links say where they lead; code gets its box and a button to copy.
 */
import DOMPurify from 'dompurify'
import { t } from '../i18n/t.ts'
import { morph } from './morph.ts'

const allowedTags = [
  ...['p', 'br', 'strong', 'em', 's', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li', 'hr', 'a'],
  ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'table', 'thead', 'tbody', 'tr', 'th', 'td'],
]

/** Code of more lines than fit in 480 px is folded. */
const foldLines = 23

/** A table with columns narrower than this scrolls sideways. */
const columnRem = 6

/** Puts one block's HTML into its element; what is there already and stays is not touched. */
export function renderInto(element: HTMLElement, html: string): void {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: allowedTags,
    ALLOWED_ATTR: ['href', 'align', 'start', 'class'],
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    // These hold no address, so the test for addresses is not theirs.
    ADD_URI_SAFE_ATTR: ['align', 'start', 'class'],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  })
  for (const link of fragment.querySelectorAll('a')) dressLink(link)
  for (const code of fragment.querySelectorAll('pre')) dressCode(code, element)
  for (const table of fragment.querySelectorAll('table')) {
    const box = document.createElement('div')
    box.className = 'md-table'
    box.tabIndex = 0
    box.setAttribute('role', 'region')
    box.setAttribute('aria-label', t('table.label'))
    table.style.minWidth = `${columnRem * (table.rows[0]?.cells.length ?? 1)}rem`
    table.replaceWith(box)
    box.append(table)
  }
  for (const other of fragment.querySelectorAll('[class]:not(.md-table, .md-code, .md-code *, .md-host)')) {
    other.removeAttribute('class')
  }
  morph(element, fragment)
}

function dressLink(link: HTMLAnchorElement): void {
  const href = link.getAttribute('href')
  if (!href) return
  link.target = '_blank'
  link.rel = 'noopener noreferrer nofollow'
  const host = URL.parse?.(href)?.host ?? ''
  if (host === '' || link.textContent.includes(host)) return
  const shown = document.createElement('span')
  shown.className = 'md-host'
  shown.textContent = ` (${host})`
  link.append(shown)
}

function dressCode(pre: HTMLPreElement, block: HTMLElement): void {
  const code = pre.querySelector('code')
  const language = /^language-([\w+#.-]{1,24})/.exec(code?.className ?? '')?.[1]
  code?.removeAttribute('class')
  if (language && code) code.dataset['language'] = language
  const figure = document.createElement('figure')
  figure.className = 'md-code'
  const bar = document.createElement('figcaption')
  const name = document.createElement('span')
  name.textContent = language ?? t('code.plain')
  const copy = document.createElement('button')
  copy.type = 'button'
  copy.textContent = t('code.copy')
  copy.addEventListener('click', () => {
    const text = copy.closest('figure')?.querySelector('pre')?.textContent ?? ''
    void copyText(text).then(() => {
      copy.textContent = t('code.copied')
      setTimeout(() => (copy.textContent = t('code.copy')), 1500)
    })
  })
  bar.append(name, copy)
  pre.tabIndex = 0
  pre.setAttribute('aria-label', t('code.label', { language: language ?? '' }))
  pre.setAttribute('role', 'region')
  pre.replaceWith(figure)
  figure.append(bar, pre)
  if (linesOf(pre) > foldLines) figure.append(foldButton(figure, block))
}

const linesOf = (pre: HTMLElement | null) => (pre?.textContent ?? '').replace(/\n$/, '').split('\n').length

/** The choice is kept on the block, which outlives its content while a text grows. */
function foldButton(figure: HTMLElement, block: HTMLElement): HTMLButtonElement {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'md-more'
  const show = (box: HTMLElement) => {
    const isOpen = block.classList.contains('md-unfolded')
    button.textContent = isOpen ? t('code.less') : t('code.more', { n: linesOf(box.querySelector('pre')) })
    button.setAttribute('aria-expanded', String(isOpen))
  }
  button.addEventListener('click', () => {
    block.classList.toggle('md-unfolded')
    show(button.closest('figure') ?? figure)
  })
  show(figure)
  return button
}

/** Copies text; on plain http, where the clipboard is closed to pages, through a selection. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const field = document.createElement('textarea')
  field.value = text
  document.body.append(field)
  field.select()
  document.execCommand('copy')
  field.remove()
}
