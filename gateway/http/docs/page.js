// Shows the OpenAPI document as a page. Everything is set as text: nothing of the document becomes markup.

function element(name, text, ...children) {
  const node = document.createElement(name)
  if (text) node.textContent = text
  node.append(...children)
  return node
}

function typeOf(schema) {
  if (!schema) return ''
  if (schema.enum) return schema.enum.join(' | ')
  if (schema.$ref) return schema.$ref.split('/').at(-1)
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' | ')
  if (schema.type === 'array') return `list of ${typeOf(schema.items)}`
  const range = [schema.minLength ?? schema.minimum, schema.maxLength ?? schema.maximum]
  const bounds = range.some(n => n !== undefined) ? ` ${range[0] ?? ''}–${range[1] ?? ''}` : ''
  return `${[schema.type].flat().join(' | ')}${bounds}`
}

function rows(caption, entries) {
  if (entries.length === 0) return []
  const body = entries.map(cells => element('tr', '', ...cells.map(cell => element('td', cell))))
  return [element('h4', caption), element('table', '', element('tbody', '', ...body))]
}

function fieldsOf(schema) {
  const required = new Set(schema?.required ?? [])
  return Object.entries(schema?.properties ?? {}).map(([name, field]) => [
    name + (required.has(name) ? '' : ' ?'),
    typeOf(field),
  ])
}

function operationOf(path, method, op) {
  const heading = element('h3', '', element('span', method.toUpperCase()), path)
  heading.firstChild.className = 'method'
  const article = element('article', '', heading, element('p', op.summary))
  article.id = op.operationId
  const body = op.requestBody?.content['application/json'].schema
  article.append(
    ...rows(
      'Parameters',
      op.parameters.map(p => [p.name + (p.required ? '' : ' ?'), p.in, typeOf(p.schema)]),
    ),
    ...rows('Body', fieldsOf(body)),
    ...rows(
      'Answers',
      Object.entries(op.responses).map(([status, r]) => [status, r.description]),
    ),
  )
  for (const [status, response] of Object.entries(op.responses)) {
    const example = response.content?.['application/json'].example
    if (!example || Number(status) >= 300) continue
    const details = element('details', '', element('summary', `Example of ${status}`))
    details.append(element('pre', JSON.stringify(example, null, 2)))
    article.append(details)
  }
  return article
}

const api = await (await fetch('/docs/openapi.json')).json()
document.querySelector('#about').textContent = api.info.description
const main = document.querySelector('#operations')
const contents = document.querySelector('#contents')
main.replaceChildren()
const tags = new Map()
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, op] of Object.entries(methods)) {
    const [tag] = op.tags
    if (!tags.has(tag)) tags.set(tag, [])
    tags.get(tag).push(operationOf(path, method, op))
    const link = element('a', `${method.toUpperCase()} ${path}`)
    link.href = `#${op.operationId}`
    contents.append(link)
  }
}
for (const [tag, articles] of tags) main.append(element('h2', tag), ...articles)
