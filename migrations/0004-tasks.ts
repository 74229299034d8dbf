/**
 * Tasks, and the ledger of tool calls. A task is a row of its owner. A call of a turn is unique by (run, call id), one from
 * outside by its owner's key; the first result is kept beside it, so that no call takes effect twice.
 */
import { Migration } from '@mikro-orm/migrations'

export class Tasks extends Migration {
  override up(): void {
    this.addSql(`
create table task (
  id uuid primary key default uuidv7(),
  user_id uuid not null references users on delete cascade,
  title text not null check (char_length(title) between 1 and 256),
  description text check (char_length(description) between 1 and 2048),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz
);
create index task_user on task (user_id, created_at, id);

create table tool_call (
  run_id uuid not null,
  call_id text not null check (char_length(call_id) between 1 and 128),
  conversation_id uuid not null references conversation on delete cascade,
  answer_id uuid not null,
  requester uuid not null,
  round int not null,
  ordinal int not null,
  -- Bytes of the answer when it was called: as long as no more are stored, the turn can go on from here.
  at_bytes bigint not null,
  name text not null check (char_length(name) <= 128),
  -- Exactly as the model wrote it: what is approved and what is run are the same bytes.
  arguments text not null,
  arguments_hash bytea not null check (octet_length(arguments_hash) = 32),
  approval text not null check (approval in ('auto', 'required')),
  status text not null default 'pending' check (status in ('pending', 'success', 'error')),
  decision text check (decision in ('approve', 'reject')),
  decided_by uuid,
  decided_at timestamptz,
  expires_at timestamptz,
  -- Written with the effect, in its transaction; status follows with the event that tells it.
  result jsonb,
  called_at timestamptz not null,
  returned_at timestamptz,
  primary key (run_id, call_id)
);
create index tool_call_conversation on tool_call (conversation_id, call_id);

create table tool_key (
  user_id uuid not null references users on delete cascade,
  key text not null check (char_length(key) between 1 and 255),
  request_hash bytea not null check (octet_length(request_hash) = 32),
  result jsonb,
  created_at timestamptz not null default clock_timestamp(),
  primary key (user_id, key)
);

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, update, delete on task, tool_call to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select, insert, update, delete on task, tool_key to parley_gateway;
    grant select on tool_call to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql('drop table tool_key, tool_call, task')
  }
}
