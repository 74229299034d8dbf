/**
 * Who may write: engine incarnations, and one row per shard that is lease and fence at once.
 * The history of epochs is written by a trigger, so that no statement can forget it.
 */
import { Migration } from '@mikro-orm/migrations'

export class Ownership extends Migration {
  override up(): void {
    this.addSql(`
create table engine_node (
  incarnation uuid primary key,
  node_id text not null,
  addrs text[] not null default '{}',
  version text not null,
  state text not null default 'up' check (state in ('up', 'draining', 'dead')),
  beat bigint not null default 0,
  expires_at timestamptz not null,
  started_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create index engine_node_alive on engine_node (node_id) where state <> 'dead';

-- One sequence for all shards: an epoch never comes twice, whatever happens to a row.
create sequence owner_epoch start 1;

create table shard (
  shard_id int primary key check (shard_id between 0 and 255),
  epoch bigint not null default 0,
  owner uuid,
  worker int,
  changed_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create index shard_owner on shard (owner);
insert into shard (shard_id) select generate_series(0, 255);

create table shard_history (
  shard_id int not null,
  epoch bigint not null,
  owner uuid,
  worker int,
  at timestamptz not null default clock_timestamp(),
  primary key (shard_id, epoch)
);
create index shard_history_at on shard_history (at);

create function shard_remember() returns trigger language plpgsql as $f$
begin
  insert into shard_history (shard_id, epoch, owner, worker) values (new.shard_id, new.epoch, new.owner, new.worker);
  -- A hint for gateways; equal notices of one transaction are one.
  perform pg_notify('parley_map', '');
  return null;
end $f$;
create trigger shard_remember after update on shard
  for each row when (old.epoch is distinct from new.epoch) execute function shard_remember();

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, update, delete on engine_node to parley_engine;
    grant select, update on shard to parley_engine;
    grant select, insert, delete on shard_history to parley_engine;
    grant usage on sequence owner_epoch to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select on engine_node, shard, shard_history to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql(`
drop table shard, shard_history, engine_node;
drop function shard_remember();
drop sequence owner_epoch`)
  }
}
