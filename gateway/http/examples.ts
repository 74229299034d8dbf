/** Examples of the OpenAPI document, one per thing. Owns no schema; a test checks them against the schemas. */

const conversationId = '018f3b20-11aa-7c3e-8b57-2d9c5f60a7e1'
const userId = '018f3b1e-7c55-7a61-9d2c-6f1f0a4c2b11'

export const exampleMessage = {
  id: '018f3b21-5d02-7f10-a4c8-93b1e07d4422',
  conversation_id: conversationId,
  seq: 17,
  sender_id: userId,
  role: 'user',
  content: 'Shall we meet at noon?',
  client_message_id: '018f3b21-5cff-7001-8d11-0c2f6a9b3e55',
  reply_to: null,
  attachments: [],
  reactions: [],
  edited_at: null,
  deleted_at: null,
  tool_calls: [],
  tokens: null,
  finish: null,
  created_at: '2026-01-05T09:30:00.123Z',
}

export const exampleMember = {
  user_id: userId,
  username: 'ada',
  display_name: 'Ada',
  avatar_url: null,
  role: 'owner',
  joined_at: '2026-01-05T09:00:00.000Z',
}

export const exampleConversation = {
  id: conversationId,
  type: 'group',
  title: 'Lunch',
  tool_policy: 'requester',
  created_by: userId,
  created_at: '2026-01-05T09:00:00.000Z',
  updated_at: '2026-01-05T09:30:00.123Z',
  head_seq: 17,
  first_seq: 1,
  read_seq: 17,
  unread: 0,
  last_message: exampleMessage,
  members: [exampleMember],
}

export const exampleEvents = {
  items: [
    {
      type: 'message.new',
      conversationId,
      seq: 17,
      ts: '2026-01-05T09:30:00.123Z',
      messageId: exampleMessage.id,
      senderId: userId,
      role: 'user',
      content: 'Shall we meet at noon?',
      clientMessageId: exampleMessage.client_message_id,
    },
  ],
  first_seq: 1,
  head_seq: 17,
}

export const exampleTask = {
  id: '018f3b23-6a10-7d42-b1c5-0e9a4c7d2f11',
  title: 'Buy milk',
  description: null,
  completed: false,
  created_at: '2026-01-05T09:30:00.123Z',
  updated_at: '2026-01-05T09:30:00.123Z',
  completed_at: null,
}

export const exampleUsage = {
  day: '2026-01-05',
  resets_at: '2026-01-06T00:00:00.000Z',
  tokens: { limit: 500_000, used: 1834, reserved: 6120, left: 492_046, is_estimated: false },
}

export const exampleContext = { items: [{ round: 0, seqs: [2, 4, 5, 9], at: '2026-01-05T14:07:31.120Z' }] }

export const exampleChat = {
  conversation_id: conversationId,
  message_id: '018f3b24-11c4-7f38-9e02-6d1b8a0f5c33',
  response: 'Added **milk** to your list.',
  tool_calls: [
    {
      tool_name: 'add_task',
      tool_id: '5f0d2f52-2b6b-5c43-8a11-9d3c7be1a0f4',
      status: 'success',
      result: {
        success: true,
        task_id: exampleTask.id,
        title: 'milk',
        description: null,
        created_at: '2026-01-05T09:30:00.123Z',
      },
    },
  ],
  tokens: { input: 412, output: 38, total: 450 },
}

export const exampleDecision = {
  conversation_id: conversationId,
  call_id: '5f0d2f52-2b6b-5c43-8a11-9d3c7be1a0f4',
  decision: 'approve',
  seq: 21,
  duplicate: false,
}
