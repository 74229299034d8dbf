/**
 * Brings an element's content to what it should be by the fewest changes: what is the same stays the same node, so a
 * selection, a scrolled table and a button under the pointer live through the growth of a text.
 */

/** Text that only grew is appended to, which keeps a selection in it. */
function setText(from: Text, text: string): void {
  if (text.startsWith(from.data)) from.appendData(text.slice(from.data.length))
  else from.data = text
}

function isAlike(a: Element, b: Element): boolean {
  return (
    a.tagName === b.tagName &&
    a.attributes.length === b.attributes.length &&
    [...a.attributes].every(({ name, value }) => b.getAttribute(name) === value)
  )
}

export function morph(into: Node, want: Node): void {
  const wanted = [...want.childNodes]
  for (const [i, node] of wanted.entries()) {
    const has = into.childNodes[i]
    if (!has) into.appendChild(node)
    else if (has.isEqualNode(node)) continue
    else if (has instanceof Text && node instanceof Text) setText(has, node.data)
    else if (has instanceof Element && node instanceof Element && isAlike(has, node)) morph(has, node)
    else into.replaceChild(node, has)
  }
  while (into.childNodes.length > wanted.length) into.lastChild!.remove()
}
