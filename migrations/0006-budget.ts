/**
 * What the assistant's turns may cost and did cost, in tokens of a UTC day. A reservation is made before the model is asked
 * and settled afterwards; both change a person's counter and everybody's under lock, so that turns side by side never pass
 * a limit, and what a crash leaves open counts in full.
 */
import { Migration } from '@mikro-orm/migrations'

export class Budget extends Migration {
  override up(): void {
    this.addSql(`
create table ai_budget (
  -- The nil id stands for everybody together.
  user_id uuid not null,
  day date not null,
  -- Settled and reserved together.
  used bigint not null default 0,
  primary key (user_id, day)
) with (fillfactor = 80);

create table ai_spend (
  run_id uuid not null,
  day date not null,
  user_id uuid not null,
  round int not null,
  -- Of the request under way; 0 when nothing is.
  reserved bigint not null default 0 check (reserved >= 0),
  input bigint not null default 0,
  output bigint not null default 0,
  is_estimated boolean not null default false,
  -- Tokens that were asked for and not granted.
  refused bigint,
  at timestamptz not null default clock_timestamp(),
  primary key (run_id, day)
);
create index ai_spend_user on ai_spend (user_id, day);

-- Limits of 0 are none. Counters are locked in one order: everybody's, then the person's.
create function ai_reserve(p_run uuid, p_user uuid, p_round int, p_tokens bigint, p_user_max bigint, p_all_max bigint, p_day date)
returns table (is_granted boolean, user_used bigint, all_used bigint) language plpgsql as $f$
declare
  everybody constant uuid := '00000000-0000-0000-0000-000000000000';
begin
  insert into ai_budget (user_id, day) values (everybody, p_day), (p_user, p_day) on conflict do nothing;
  select b.used into all_used from ai_budget b where b.user_id = everybody and b.day = p_day for update;
  select b.used into user_used from ai_budget b where b.user_id = p_user and b.day = p_day for update;
  -- Whoever knew what an earlier request cost is gone: it counts as it was reserved, here and in the counters.
  update ai_spend s set input = s.input + s.reserved, reserved = 0, is_estimated = true
   where s.user_id = p_user and s.reserved > 0
     and case when s.run_id = p_run then s.round <> p_round or s.day <> p_day
         else exists (select 1 from ai_run a where a.id = s.run_id and a.status = 'ended'
                         and a.ended_at < clock_timestamp() - interval '1 minute') end;
  if exists (select 1 from ai_spend s where s.run_id = p_run and s.day = p_day and s.reserved > 0) then
    is_granted := true;
  elsif (p_user_max > 0 and user_used + p_tokens > p_user_max) or (p_all_max > 0 and all_used + p_tokens > p_all_max) then
    is_granted := false;
    insert into ai_spend (run_id, day, user_id, round, refused) values (p_run, p_day, p_user, p_round, p_tokens)
        on conflict (run_id, day) do update set refused = excluded.refused;
  else
    is_granted := true;
    update ai_budget b set used = b.used + p_tokens where b.day = p_day and b.user_id in (everybody, p_user);
    user_used := user_used + p_tokens;
    all_used := all_used + p_tokens;
    insert into ai_spend (run_id, day, user_id, round, reserved) values (p_run, p_day, p_user, p_round, p_tokens)
        on conflict (run_id, day) do update set reserved = excluded.reserved, round = excluded.round;
  end if;
  return next;
end $f$;

-- What is settled already stays: a second word about the same request, or one about an earlier round, changes nothing.
create function ai_settle(p_run uuid, p_round int, p_input bigint, p_output bigint, p_is_estimated boolean)
returns boolean language plpgsql as $f$
declare
  everybody constant uuid := '00000000-0000-0000-0000-000000000000';
  v_open ai_spend;
begin
  select * into v_open from ai_spend s where s.run_id = p_run and s.round = p_round and s.reserved > 0 order by s.day desc limit 1;
  if not found then
    return false;
  end if;
  perform 1 from ai_budget b where b.day = v_open.day and b.user_id in (everybody, v_open.user_id) order by b.user_id for update;
  select * into v_open from ai_spend s
   where s.run_id = p_run and s.day = v_open.day and s.round = p_round and s.reserved > 0 for update;
  if not found then
    return false;
  end if;
  update ai_spend s
     set input = s.input + p_input, output = s.output + p_output, reserved = 0, is_estimated = s.is_estimated or p_is_estimated
   where s.run_id = p_run and s.day = v_open.day;
  update ai_budget b set used = b.used - v_open.reserved + p_input + p_output
   where b.day = v_open.day and b.user_id in (everybody, v_open.user_id);
  return true;
end $f$;

do $do$ begin
  if exists (select 1 from pg_roles where rolname = 'parley_engine') then
    grant select, insert, update, delete on ai_budget, ai_spend to parley_engine;
  end if;
  if exists (select 1 from pg_roles where rolname = 'parley_gateway') then
    grant select on ai_budget, ai_spend to parley_gateway;
  end if;
end $do$`)
  }

  override down(): void {
    this.addSql(`
drop function ai_settle(uuid, int, bigint, bigint, boolean);
drop function ai_reserve(uuid, uuid, int, bigint, bigint, bigint, date);
drop table ai_spend, ai_budget`)
  }
}
