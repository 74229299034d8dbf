/**
 * People: accounts, sessions, refresh tokens, blocks, reports, audit, and the two database roles with their grants.
 * Owns nothing of conversations. Roles belong to the whole cluster, so `down` leaves them.
 */
import { Migration } from '@mikro-orm/migrations'

export class Accounts extends Migration {
  override up(): void {
    // Postgres 18 has uuidv7(); older servers get one with the same layout.
    this.addSql(`
do $do$ begin
  if to_regproc('pg_catalog.uuidv7') is null then
    execute $f$
      create function uuidv7() returns uuid language sql volatile parallel safe as $body$
        select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
          placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
          from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
      $body$
    $f$;
  end if;
end $do$`)

    // Only parley_engine writes the log. Where the login may not make roles, it serves as both.
    this.addSql(`
do $do$ declare role_name text; begin
  foreach role_name in array array['parley_engine', 'parley_gateway'] loop
    begin
      if not exists (select 1 from pg_roles where rolname = role_name) then
        execute format('create role %I nologin', role_name);
      end if;
      if not pg_has_role(current_user, role_name, 'member') or (select not rolsuper from pg_roles where rolname = current_user) then
        execute format('grant %I to %I', role_name, current_user);
      end if;
    exception
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise warning 'role % cannot be made or granted: every process will use the login itself', role_name;
    end;
    if exists (select 1 from pg_roles where rolname = role_name) then
      execute format('grant usage on schema %I to %I', current_schema(), role_name);
    end if;
  end loop;
end $do$`)

    this.addSql(`
create table users (
  id uuid primary key default uuidv7(),
  username text constraint users_username_key unique check (username ~ '^[a-z0-9_]{1,30}$'),
  email text check (char_length(email) <= 320),
  password_bcrypt text,
  display_name text check (char_length(display_name) <= 255),
  avatar_url text check (char_length(avatar_url) <= 2048),
  is_guest boolean not null default false,
  is_bot boolean not null default false,
  role text not null default 'user' check (role in ('user', 'moderator', 'admin')),
  disabled_at timestamptz,
  deleted_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
create unique index users_email_key on users (lower(email));
create index users_username_prefix on users (username text_pattern_ops);
insert into users (id, username, display_name, is_bot)
values ('00000000-0000-7000-8000-0000000a1000', 'assistant', 'Assistant', true);

create table oauth_identities (
  id uuid primary key default uuidv7(),
  user_id uuid not null references users on delete cascade,
  provider text not null,
  provider_user_id text not null,
  created_at timestamptz not null default clock_timestamp(),
  unique (provider, provider_user_id)
);
create index oauth_identities_user on oauth_identities (user_id);

-- A session is a family of refresh tokens; its id is the family's.
create table sessions (
  id uuid primary key default uuidv7(),
  user_id uuid not null references users on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  idle_expires_at timestamptz not null,
  last_used_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz,
  revoked_reason text,
  user_agent text check (char_length(user_agent) <= 512)
);
create index sessions_user on sessions (user_id);
create index sessions_revoked on sessions (revoked_at) where revoked_at is not null;
create index sessions_expires on sessions (expires_at);

create table refresh_token (
  token_hash bytea primary key check (octet_length(token_hash) = 32),
  family_id uuid not null references sessions on delete cascade,
  user_id uuid not null references users on delete cascade,
  issued_at timestamptz not null default clock_timestamp(),
  used_at timestamptz,
  replaced_by bytea,
  sealed_successor bytea,
  expires_at timestamptz not null
);
create index refresh_token_user on refresh_token (user_id);
create index refresh_token_family on refresh_token (family_id);
create index refresh_token_expires on refresh_token (expires_at);

create table signing_key (
  kid text primary key,
  private_pem text not null,
  public_jwk jsonb not null,
  created_at timestamptz not null default clock_timestamp()
);

create table blocks (
  blocker_id uuid not null references users on delete cascade,
  blocked_id uuid not null references users on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  primary key (blocker_id, blocked_id),
  check (blocker_id <> blocked_id)
);
create index blocks_blocked on blocks (blocked_id);

create table reports (
  id uuid primary key default uuidv7(),
  reporter_id uuid not null references users on delete cascade,
  reported_id uuid not null references users on delete cascade,
  message_id uuid,
  reason text not null check (char_length(reason) between 1 and 2000),
  created_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolved_by uuid references users on delete set null
);
create index reports_open on reports (created_at) where resolved_at is null;

-- What happened, kept after the people are gone: no foreign keys.
create table audit (
  id uuid primary key default uuidv7(),
  at timestamptz not null default clock_timestamp(),
  actor_id uuid,
  action text not null,
  target_type text,
  target_id text,
  session_id uuid,
  request_id text,
  detail jsonb not null default '{}'
);
create index audit_at on audit (at);
create index audit_actor on audit (actor_id, at);
`)

    this.addSql(`
do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select, insert, update, delete on users, oauth_identities, sessions, refresh_token, reports to parley_gateway;
    grant select, insert on signing_key, audit to parley_gateway;
    grant select on blocks to parley_gateway;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select on users to parley_engine;
    grant select, insert, update, delete on blocks to parley_engine;
    grant select, insert on audit to parley_engine;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql(`
drop table audit, reports, blocks, signing_key, refresh_token, sessions, oauth_identities, users;
do $do$ begin
  if to_regprocedure(format('%I.uuidv7()', current_schema())) is not null then
    execute format('drop function %I.uuidv7()', current_schema());
  end if;
end $do$`)
  }
}
