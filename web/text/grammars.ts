/** The thirteen languages that code blocks are coloured in. Loaded apart, when the first block with one of them is whole. */
import hljs from 'highlight.js/lib/core'
import bash from 'highlight.js/lib/languages/bash'
import css from 'highlight.js/lib/languages/css'
import diff from 'highlight.js/lib/languages/diff'
import go from 'highlight.js/lib/languages/go'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import python from 'highlight.js/lib/languages/python'
import rust from 'highlight.js/lib/languages/rust'
import sql from 'highlight.js/lib/languages/sql'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'

const grammars = { bash, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml }
for (const [name, grammar] of Object.entries(grammars)) hljs.registerLanguage(name, grammar)
hljs.registerAliases(['shell', 'console'], { languageName: 'bash' })

/** The text as HTML of spans with a class each; undefined where the language has no grammar here. */
export function coloured(text: string, language: string): string | undefined {
  return hljs.getLanguage(language) && hljs.highlight(text, { language, ignoreIllegals: true }).value
}
