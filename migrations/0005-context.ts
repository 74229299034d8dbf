/**
 * What the model was shown: the positions of the messages that each of its rounds used, never their text. So it can be told
 * later what an answer rests on, and a message that is deleted leaves no copy here.
 */
import { Migration } from '@mikro-orm/migrations'

export class Context extends Migration {
  override up(): void {
    this.addSql(`
create table ai_context (
  run_id uuid not null,
  round int not null check (round >= 0),
  conversation_id uuid not null references conversation on delete cascade,
  seqs bigint[] not null,
  at timestamptz not null default clock_timestamp(),
  primary key (run_id, round)
);
create index ai_context_conversation on ai_context (conversation_id);

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, delete on ai_context to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select on ai_context to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql('drop table ai_context')
  }
}
