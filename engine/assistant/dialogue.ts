/**
 * The built-in model's manners: rules tried in order, each a test and an answer over the conversation as it was sent.
 * Pure and deterministic. What concerns the task list is in errands.ts.
 */
export interface ChatMessage {
  role: string
  content: string
  /** What an assistant's message called. */
  calls?: { id: string; name: string; arguments: string }[]
  /** Of a tool's message: the call that it answers. */
  callId?: string
}

export interface Said {
  /** The speaker's name where the message begins with one, as in groups. */
  speaker: string | undefined
  text: string
}

interface Context {
  last: Said
  /** What people said before the last message, oldest first. */
  earlier: Said[]
  answers: number
}

interface Rule {
  name: string
  test: RegExp
  answer(context: Context): string
}

const rules: readonly Rule[] = [
  {
    name: 'silence',
    test: /^\W*$/u,
    answer: ({ last }) => `I am here${to(last)}. What would you like to talk about?`,
  },
  {
    name: 'thanks',
    test: /^(thanks|thank you|thx|danke|merci|gracias)\b/iu,
    answer: ({ last, answers }) =>
      `You are welcome${to(last)}! ${answers > 0 ? `That was answer number ${answers + 1} here from me.` : ''}`.trim(),
  },
  {
    name: 'self',
    test: /\b(who|what) are you\b|\bwhat can you do\b|^\W*help\W*$/iu,
    answer: context =>
      [
        `I am Parley’s **built-in model**${to(context.last)}: small rules, no network, always the same answer to the same words. I can`,
        '',
        '- read this conversation and say what was said,',
        '- keep your task list: *add a task: buy milk*, *show my tasks*, *mark milk done*,',
        '- stream long answers: try `#stream words=60 delay_ms=40`,',
        '- fail on demand: `#fault 429`, `quota`, `500`, `cut`, `stall`, `badjson`, `slow`,',
        '- show Markdown: ask me for a *list*, a *table* or some *code*.',
        '',
        'Point `OPENAI_BASE_URL` at a real model for real answers.',
      ].join('\n'),
  },
  {
    name: 'recall',
    test: /\b(summari[sz]e|summary|recap|what (did|have) (i|we|they)|what was said|catch me up)\b/iu,
    answer: ({ last, earlier }) => {
      if (earlier.length === 0) return `Nothing was said before your question${to(last)}. This is the beginning.`
      const shown = earlier.slice(-5)
      const lines = shown.map(said => `- ${said.speaker ? `**${said.speaker}**: ` : ''}${quote(said.text)}`)
      const count = earlier.length === 1 ? 'one message' : `${earlier.length} messages`
      const which = shown.length < earlier.length ? `; the last ${shown.length}` : ''
      return [`I read ${count} from people before your question${which}:`, '', ...lines].join('\n')
    },
  },
  {
    name: 'code',
    test: /\bcode\b|\bfunction\b|\bprogram\b/iu,
    answer: ({ last }) =>
      [
        `Here is a small piece${to(last)}:`,
        '',
        '```ts',
        'export function greet(name: string): string {',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a program
        '  return `Hello, ${name}!`',
        '}',
        '```',
        '',
        'It has no branch, so there is little that can go wrong.',
      ].join('\n'),
  },
  {
    name: 'table',
    test: /\btable\b/iu,
    answer: context =>
      [
        'The conversation in numbers:',
        '',
        '| what | how many |',
        '| --- | ---: |',
        `| messages from people | ${context.earlier.length + 1} |`,
        `| answers from me | ${context.answers} |`,
        `| words in the last message | ${words(context.last.text)} |`,
      ].join('\n'),
  },
  {
    name: 'list',
    test: /\blist\b/iu,
    answer: ({ last }) => {
      const items = itemsOf(last.text)
      const lines = (items.length > 0 ? items : ['think', 'write', 'read it again']).map((t, i) => `${i + 1}. ${t}`)
      return ['As a list:', '', ...lines].join('\n')
    },
  },
  {
    name: 'greeting',
    test: /^(hi|hello|hey|good (morning|evening|afternoon)|hallo|hola|bonjour|ciao)\b/iu,
    answer: ({ last, earlier }) =>
      earlier.length === 0
        ? `Hello${to(last)}! I am the assistant of this server. Ask me something, or say *help* to see what I can do.`
        : `Hello again${to(last)}! Before this you wrote ${quote(earlier.at(-1)!.text)}.`,
  },
]

/** The whole answer to a request's messages. */
export function answerTo(messages: readonly ChatMessage[]): string {
  const said = messages.filter(m => m.role === 'user').map(asSaid)
  const last = said.at(-1) ?? { speaker: undefined, text: '' }
  const context = { last, earlier: said.slice(0, -1), answers: messages.filter(m => m.role === 'assistant').length }
  return (rules.find(rule => rule.test.test(last.text)) ?? { answer: anything }).answer(context)
}

function anything({ last, earlier, answers }: Context): string {
  const topics = topicsOf(last.text)
  const about =
    topics.length > 0 ? `about ${topics.map(t => `**${t}**`).join(' and ')}` : `${quote(last.text)}, if I read it right`
  const opening = last.text.trimEnd().endsWith('?')
    ? `A good question${to(last)}, ${about}.`
    : `I see${to(last)}: this is ${about}.`
  const before = earlier.at(-1)
  const memory = before
    ? `Just before, ${before.speaker ?? 'you'} wrote ${quote(before.text)}; I have read ${earlier.length + 1} messages and given ${answers} ${answers === 1 ? 'answer' : 'answers'} here.`
    : 'It is the first message that I read here.'
  return `${opening} ${memory} I am the built-in model, so do not expect wisdom; say *help* to see what I can do.`
}

/** The message without a speaker's name in front and without the mention that woke the assistant. */
export function withoutAddress(text: string): string {
  return text
    .slice(speakerIn(text)?.length ?? 0)
    .replace(/^\s*@assistant\b[\s,:]*/iu, '')
    .trimStart()
}

export function asSaid(message: ChatMessage): Said {
  return { speaker: speakerIn(message.content)?.slice(0, -2), text: withoutAddress(message.content) }
}

/** "Ana: " in front of a message; what begins like a request ("add a task: …") is no name. */
function speakerIn(text: string): string | undefined {
  const found = /^(?!#)[^\n:@#]{1,64}: /u.exec(text)?.[0]
  return found &&
    !/^(?:add|create|make|put|new|note|to-?do|task|item|remind|i|we|please|can|could|show|change)\b/iu.test(found)
    ? found
    : undefined
}

const to = (said: Said) => (said.speaker ? `, ${said.speaker}` : '')
const words = (text: string) => text.split(/\s+/u).filter(Boolean).length

/** The first words of a text, on one line, in quotation marks. */
function quote(text: string): string {
  const line = text.replace(/\s+/gu, ' ').trim()
  const chars = Array.from(line)
  return `“${chars.length > 60 ? `${chars.slice(0, 57).join('').trimEnd()}…` : line}”`
}

/** What a message lists: behind its last colon or "list of", between commas, semicolons and "and". */
function itemsOf(text: string): string[] {
  const listed = text.split(/:\s|\blist of\b|\blist\b/iu).at(-1) ?? ''
  const items = listed.split(/[,;\n]|\band\b/iu).map(item => item.replace(/^[\s\-*.]+|[\s.!?]+$/gu, ''))
  return items.filter(Boolean).slice(0, 20)
}

/** Up to two words that a message seems to be about: its longest, in order, with the common ones left out. */
function topicsOf(text: string): string[] {
  const found = (text.match(/[\p{L}\p{N}][\p{L}\p{N}'’-]{3,39}/gu) ?? []).filter(w => !common.has(w.toLowerCase()))
  const unique = [...new Map(found.map(w => [w.toLowerCase(), w])).values()]
  const longest = unique.toSorted((a, b) => b.length - a.length).slice(0, 2)
  return unique.filter(w => longest.includes(w))
}

const common = new Set(
  `about after again assistant because been before being could does doing each every from give have here into just know like list make
  many more most much need only other please really said same should some such tell than thank that their them then there these
  they thing things think this those very want wants well were what when where which while will with would write your yours`
    .split(/\s+/)
    .filter(Boolean),
)
