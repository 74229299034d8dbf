/**
 * Tools of further MCP servers: what each looked like when it was accepted and when it was last seen, and when a call of one
 * was begun. Such a call cannot share our transaction, so its beginning stands here before it is made and it is never repeated.
 */
import { Migration } from '@mikro-orm/migrations'

export class ForeignTools extends Migration {
  override up(): void {
    this.addSql(`
create table tool_pin (
  server text not null check (char_length(server) between 1 and 24),
  tool text not null check (char_length(tool) between 1 and 64),
  -- SHA-256 of name, description and schema as accepted; none: it came later and nobody has accepted it.
  hash bytea check (octet_length(hash) = 32),
  seen_hash bytea not null check (octet_length(seen_hash) = 32),
  -- What was hashed, as JSON, for whoever decides about it.
  spec text,
  seen_spec text not null,
  accepted_at timestamptz,
  seen_at timestamptz not null default clock_timestamp(),
  primary key (server, tool),
  check ((hash is null) = (spec is null) and (hash is null) = (accepted_at is null))
);

alter table tool_call add column started_at timestamptz;

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, update on tool_pin to parley_engine;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql('alter table tool_call drop column started_at; drop table tool_pin')
  }
}
