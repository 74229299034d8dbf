/** What gateways say about engines that they cannot reach although these renew their leases: two reporters allow burying. */
import { Migration } from '@mikro-orm/migrations'

export class Suspicion extends Migration {
  override up(): void {
    this.addSql(`
create table engine_suspicion (
  incarnation uuid not null,
  reporter text not null check (char_length(reporter) between 1 and 256),
  at timestamptz not null default clock_timestamp(),
  primary key (incarnation, reporter)
);

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, delete on engine_suspicion to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select, insert, update on engine_suspicion to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql('drop table engine_suspicion')
  }
}
