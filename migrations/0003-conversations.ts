/**
 * The log and what hangs on it. `event` is the truth: a message is its event. A side row exists only for what changed
 * afterwards or must be found by something else than a position. Every table carries its conversation's id.
 */
import { Migration } from '@mikro-orm/migrations'

export class Conversations extends Migration {
  override up(): void {
    this.addSql(`
create table conversation (
  id uuid primary key,
  shard_id int not null,
  kind text not null check (kind in ('dm', 'group', 'ai')),
  title text check (char_length(title) <= 255),
  tool_policy text not null default 'requester' check (tool_policy in ('requester', 'admins', 'members')),
  first_seq bigint not null default 1 check (first_seq >= 1),
  created_by uuid not null references users,
  created_at timestamptz not null,
  deleted_at timestamptz,
  deleted_by uuid,
  purge_after timestamptz
);
create index conversation_shard on conversation (shard_id);

create table conversation_member (
  conversation_id uuid not null references conversation on delete cascade,
  user_id uuid not null references users on delete cascade,
  role text not null check (role in ('owner', 'admin', 'member')),
  joined_at timestamptz not null,
  joined_seq bigint not null,
  last_read_seq bigint not null default 0,
  last_delivered_seq bigint not null default 0,
  primary key (conversation_id, user_id)
) with (fillfactor = 80);
create index conversation_member_user on conversation_member (user_id);

-- No foreign keys: the actor has checked, and a check per row would double the price of a send.
create table event (
  conversation_id uuid not null,
  seq bigint not null check (seq >= 1),
  message_id uuid not null,
  kind text not null,
  sender_id uuid not null,
  client_id uuid not null,
  body_hash bytea not null,
  body jsonb not null,
  epoch bigint not null,
  created_at timestamptz not null,
  constraint event_position primary key (conversation_id, seq),
  constraint event_role check (kind <> 'message.new' or body ->> 'role' in ('user', 'assistant'))
);
-- The sender first: one index keeps an id unique per (conversation, sender) and finds what someone wrote.
create unique index event_client on event (sender_id, conversation_id, client_id);
create index event_message on event (message_id);
create index event_unread on event (conversation_id, seq) include (sender_id) where kind = 'message.new';

create table message_state (
  conversation_id uuid not null,
  seq bigint not null,
  message_id uuid not null unique,
  edited_text text,
  edited_at timestamptz,
  deleted_at timestamptz,
  deleted_by uuid,
  purge_after timestamptz,
  reactions jsonb not null default '{}',
  primary key (conversation_id, seq)
);

create table ai_run (
  id uuid primary key,
  conversation_id uuid not null references conversation on delete cascade,
  shard_id int not null,
  requester uuid not null,
  question_id uuid not null,
  question_seq bigint not null,
  client_message_id uuid not null,
  answer_id uuid not null unique,
  status text not null check (status in ('queued', 'running', 'waiting', 'ended')),
  model text,
  finish text,
  bytes bigint not null default 0,
  trace text not null default '',
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz
);
create index ai_run_open on ai_run (shard_id) where status <> 'ended';
create index ai_run_conversation on ai_run (conversation_id, question_seq);

create table ai_segment (
  run_id uuid not null,
  "offset" bigint not null,
  conversation_id uuid not null,
  text text not null,
  primary key (run_id, "offset")
);

create table ai_slot (
  user_id uuid not null,
  n int not null check (n in (1, 2)),
  run_id uuid not null unique,
  taken_at timestamptz not null default clock_timestamp(),
  primary key (user_id, n)
);

create table receipt_mark (
  conversation_id uuid not null,
  user_id uuid not null,
  seq bigint not null,
  delivered_at timestamptz,
  read_at timestamptz,
  primary key (conversation_id, user_id, seq)
);

create view messages as
select e.message_id as id, e.conversation_id, e.seq, e.sender_id, e.body ->> 'role' as role,
       case when s.deleted_at is not null then '' else coalesce(s.edited_text, e.body ->> 'content') end as content,
       case when s.deleted_at is null then e.body -> 'toolCalls' end as tool_calls,
       (e.body #>> '{tokens,total}')::int as tokens_used,
       (e.body ->> 'clientMessageId')::uuid as client_message_id,
       e.created_at, s.edited_at, s.deleted_at, s.deleted_by, s.purge_after
  from event e left join message_state s on s.conversation_id = e.conversation_id and s.seq = e.seq
 where e.kind = 'message.new';

-- Positions cover everything below them, so a message's time is that of the first mark at or above it.
create view message_receipts as
select e.message_id, e.conversation_id, m.user_id, r.delivered_at, r.read_at
  from event e
  join conversation_member m on m.conversation_id = e.conversation_id and m.user_id <> e.sender_id
  cross join lateral (
    select min(k.delivered_at) as delivered_at, min(k.read_at) as read_at from receipt_mark k
     where k.conversation_id = e.conversation_id and k.user_id = m.user_id and k.seq >= e.seq) r
 where e.kind = 'message.new' and (r.delivered_at is not null or r.read_at is not null);

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, update, delete on conversation, conversation_member, event, message_state, ai_run, ai_segment,
      ai_slot, receipt_mark to parley_engine;
    grant select on messages, message_receipts to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select on conversation, conversation_member, event, message_state, ai_run, ai_segment, ai_slot, receipt_mark,
      messages, message_receipts to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql(`
drop view message_receipts, messages;
drop table receipt_mark, ai_slot, ai_segment, ai_run, message_state, event, conversation_member, conversation`)
  }
}
