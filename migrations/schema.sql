create sequence owner_epoch;

create table ai_budget (
  user_id uuid not null,
  day date not null,
  used bigint not null default 0
) with (fillfactor=80);
create table ai_context (
  run_id uuid not null,
  round integer not null,
  conversation_id uuid not null,
  seqs bigint[] not null,
  at timestamp with time zone not null default clock_timestamp()
);
create table ai_run (
  id uuid not null,
  conversation_id uuid not null,
  shard_id integer not null,
  requester uuid not null,
  question_id uuid not null,
  question_seq bigint not null,
  client_message_id uuid not null,
  answer_id uuid not null,
  status text not null,
  model text,
  finish text,
  bytes bigint not null default 0,
  trace text not null default ''::text,
  created_at timestamp with time zone not null,
  started_at timestamp with time zone,
  ended_at timestamp with time zone
);
create table ai_segment (
  run_id uuid not null,
  "offset" bigint not null,
  conversation_id uuid not null,
  text text not null
);
create table ai_slot (
  user_id uuid not null,
  n integer not null,
  run_id uuid not null,
  taken_at timestamp with time zone not null default clock_timestamp()
);
create table ai_spend (
  run_id uuid not null,
  day date not null,
  user_id uuid not null,
  round integer not null,
  reserved bigint not null default 0,
  input bigint not null default 0,
  output bigint not null default 0,
  is_estimated boolean not null default false,
  refused bigint,
  at timestamp with time zone not null default clock_timestamp()
);
create table audit (
  id uuid not null default uuidv7(),
  at timestamp with time zone not null default clock_timestamp(),
  actor_id uuid,
  action text not null,
  target_type text,
  target_id text,
  session_id uuid,
  request_id text,
  detail jsonb not null default '{}'::jsonb
);
create table blocks (
  blocker_id uuid not null,
  blocked_id uuid not null,
  created_at timestamp with time zone not null default clock_timestamp()
);
create table conversation (
  id uuid not null,
  shard_id integer not null,
  kind text not null,
  title text,
  tool_policy text not null default 'requester'::text,
  first_seq bigint not null default 1,
  created_by uuid not null,
  created_at timestamp with time zone not null,
  deleted_at timestamp with time zone,
  deleted_by uuid,
  purge_after timestamp with time zone
);
create table conversation_member (
  conversation_id uuid not null,
  user_id uuid not null,
  role text not null,
  joined_at timestamp with time zone not null,
  joined_seq bigint not null,
  last_read_seq bigint not null default 0,
  last_delivered_seq bigint not null default 0
) with (fillfactor=80);
create table engine_node (
  incarnation uuid not null,
  node_id text not null,
  addrs text[] not null default '{}'::text[],
  version text not null,
  state text not null default 'up'::text,
  beat bigint not null default 0,
  expires_at timestamp with time zone not null,
  started_at timestamp with time zone not null default clock_timestamp()
) with (fillfactor=50);
create table engine_suspicion (
  incarnation uuid not null,
  reporter text not null,
  at timestamp with time zone not null default clock_timestamp()
);
create table event (
  conversation_id uuid not null,
  seq bigint not null,
  message_id uuid not null,
  kind text not null,
  sender_id uuid not null,
  client_id uuid not null,
  body_hash bytea not null,
  body jsonb not null,
  epoch bigint not null,
  created_at timestamp with time zone not null
);
create table message_state (
  conversation_id uuid not null,
  seq bigint not null,
  message_id uuid not null,
  edited_text text,
  edited_at timestamp with time zone,
  deleted_at timestamp with time zone,
  deleted_by uuid,
  purge_after timestamp with time zone,
  reactions jsonb not null default '{}'::jsonb
);
create table oauth_identities (
  id uuid not null default uuidv7(),
  user_id uuid not null,
  provider text not null,
  provider_user_id text not null,
  created_at timestamp with time zone not null default clock_timestamp()
);
create table receipt_mark (
  conversation_id uuid not null,
  user_id uuid not null,
  seq bigint not null,
  delivered_at timestamp with time zone,
  read_at timestamp with time zone
);
create table refresh_token (
  token_hash bytea not null,
  family_id uuid not null,
  user_id uuid not null,
  issued_at timestamp with time zone not null default clock_timestamp(),
  used_at timestamp with time zone,
  replaced_by bytea,
  sealed_successor bytea,
  expires_at timestamp with time zone not null
);
create table reports (
  id uuid not null default uuidv7(),
  reporter_id uuid not null,
  reported_id uuid not null,
  message_id uuid,
  reason text not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  resolved_at timestamp with time zone,
  resolved_by uuid
);
create table sessions (
  id uuid not null default uuidv7(),
  user_id uuid not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  idle_expires_at timestamp with time zone not null,
  last_used_at timestamp with time zone not null default clock_timestamp(),
  revoked_at timestamp with time zone,
  revoked_reason text,
  user_agent text
);
create table shard (
  shard_id integer not null,
  epoch bigint not null default 0,
  owner uuid,
  worker integer,
  changed_at timestamp with time zone not null default clock_timestamp()
) with (fillfactor=50);
create table shard_history (
  shard_id integer not null,
  epoch bigint not null,
  owner uuid,
  worker integer,
  at timestamp with time zone not null default clock_timestamp()
);
create table signing_key (
  kid text not null,
  private_pem text not null,
  public_jwk jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp()
);
create table task (
  id uuid not null default uuidv7(),
  user_id uuid not null,
  title text not null,
  description text,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  completed_at timestamp with time zone
);
create table tool_call (
  run_id uuid not null,
  call_id text not null,
  conversation_id uuid not null,
  answer_id uuid not null,
  requester uuid not null,
  round integer not null,
  ordinal integer not null,
  at_bytes bigint not null,
  name text not null,
  arguments text not null,
  arguments_hash bytea not null,
  approval text not null,
  status text not null default 'pending'::text,
  decision text,
  decided_by uuid,
  decided_at timestamp with time zone,
  expires_at timestamp with time zone,
  result jsonb,
  called_at timestamp with time zone not null,
  returned_at timestamp with time zone,
  started_at timestamp with time zone
);
create table tool_key (
  user_id uuid not null,
  key text not null,
  request_hash bytea not null,
  result jsonb,
  created_at timestamp with time zone not null default clock_timestamp()
);
create table tool_pin (
  server text not null,
  tool text not null,
  hash bytea,
  seen_hash bytea not null,
  spec text,
  seen_spec text not null,
  accepted_at timestamp with time zone,
  seen_at timestamp with time zone not null default clock_timestamp()
);
create table users (
  id uuid not null default uuidv7(),
  username text,
  email text,
  password_bcrypt text,
  display_name text,
  avatar_url text,
  is_guest boolean not null default false,
  is_bot boolean not null default false,
  role text not null default 'user'::text,
  disabled_at timestamp with time zone,
  deleted_at timestamp with time zone,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp()
);

alter table ai_budget add constraint ai_budget_pkey PRIMARY KEY (user_id, day);
alter table ai_context add constraint ai_context_pkey PRIMARY KEY (run_id, round);
alter table ai_context add constraint ai_context_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversation(id) ON DELETE CASCADE;
alter table ai_context add constraint ai_context_round_check CHECK ((round >= 0));
alter table ai_run add constraint ai_run_answer_id_key UNIQUE (answer_id);
alter table ai_run add constraint ai_run_pkey PRIMARY KEY (id);
alter table ai_run add constraint ai_run_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversation(id) ON DELETE CASCADE;
alter table ai_run add constraint ai_run_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'waiting'::text, 'ended'::text])));
alter table ai_segment add constraint ai_segment_pkey PRIMARY KEY (run_id, "offset");
alter table ai_slot add constraint ai_slot_run_id_key UNIQUE (run_id);
alter table ai_slot add constraint ai_slot_pkey PRIMARY KEY (user_id, n);
alter table ai_slot add constraint ai_slot_n_check CHECK ((n = ANY (ARRAY[1, 2])));
alter table ai_spend add constraint ai_spend_pkey PRIMARY KEY (run_id, day);
alter table ai_spend add constraint ai_spend_reserved_check CHECK ((reserved >= 0));
alter table audit add constraint audit_pkey PRIMARY KEY (id);
alter table blocks add constraint blocks_pkey PRIMARY KEY (blocker_id, blocked_id);
alter table blocks add constraint blocks_blocked_id_fkey FOREIGN KEY (blocked_id) REFERENCES users(id) ON DELETE CASCADE;
alter table blocks add constraint blocks_blocker_id_fkey FOREIGN KEY (blocker_id) REFERENCES users(id) ON DELETE CASCADE;
alter table blocks add constraint blocks_check CHECK ((blocker_id <> blocked_id));
alter table conversation add constraint conversation_pkey PRIMARY KEY (id);
alter table conversation add constraint conversation_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id);
alter table conversation add constraint conversation_first_seq_check CHECK ((first_seq >= 1));
alter table conversation add constraint conversation_kind_check CHECK ((kind = ANY (ARRAY['dm'::text, 'group'::text, 'ai'::text])));
alter table conversation add constraint conversation_title_check CHECK ((char_length(title) <= 255));
alter table conversation add constraint conversation_tool_policy_check CHECK ((tool_policy = ANY (ARRAY['requester'::text, 'admins'::text, 'members'::text])));
alter table conversation_member add constraint conversation_member_pkey PRIMARY KEY (conversation_id, user_id);
alter table conversation_member add constraint conversation_member_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversation(id) ON DELETE CASCADE;
alter table conversation_member add constraint conversation_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table conversation_member add constraint conversation_member_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text])));
alter table engine_node add constraint engine_node_pkey PRIMARY KEY (incarnation);
alter table engine_node add constraint engine_node_state_check CHECK ((state = ANY (ARRAY['up'::text, 'draining'::text, 'dead'::text])));
alter table engine_suspicion add constraint engine_suspicion_pkey PRIMARY KEY (incarnation, reporter);
alter table engine_suspicion add constraint engine_suspicion_reporter_check CHECK (((char_length(reporter) >= 1) AND (char_length(reporter) <= 256)));
alter table event add constraint event_position PRIMARY KEY (conversation_id, seq) INCLUDE (sender_id, kind);
alter table event add constraint event_role CHECK (((kind <> 'message.new'::text) OR ((body ->> 'role'::text) = ANY (ARRAY['user'::text, 'assistant'::text]))));
alter table event add constraint event_seq_check CHECK ((seq >= 1));
alter table message_state add constraint message_state_message_id_key UNIQUE (message_id);
alter table message_state add constraint message_state_pkey PRIMARY KEY (conversation_id, seq);
alter table oauth_identities add constraint oauth_identities_provider_provider_user_id_key UNIQUE (provider, provider_user_id);
alter table oauth_identities add constraint oauth_identities_pkey PRIMARY KEY (id);
alter table oauth_identities add constraint oauth_identities_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table receipt_mark add constraint receipt_mark_pkey PRIMARY KEY (conversation_id, user_id, seq);
alter table refresh_token add constraint refresh_token_pkey PRIMARY KEY (token_hash);
alter table refresh_token add constraint refresh_token_family_id_fkey FOREIGN KEY (family_id) REFERENCES sessions(id) ON DELETE CASCADE;
alter table refresh_token add constraint refresh_token_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table refresh_token add constraint refresh_token_token_hash_check CHECK ((octet_length(token_hash) = 32));
alter table reports add constraint reports_pkey PRIMARY KEY (id);
alter table reports add constraint reports_reported_id_fkey FOREIGN KEY (reported_id) REFERENCES users(id) ON DELETE CASCADE;
alter table reports add constraint reports_reporter_id_fkey FOREIGN KEY (reporter_id) REFERENCES users(id) ON DELETE CASCADE;
alter table reports add constraint reports_resolved_by_fkey FOREIGN KEY (resolved_by) REFERENCES users(id) ON DELETE SET NULL;
alter table reports add constraint reports_reason_check CHECK (((char_length(reason) >= 1) AND (char_length(reason) <= 2000)));
alter table sessions add constraint sessions_pkey PRIMARY KEY (id);
alter table sessions add constraint sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table sessions add constraint sessions_user_agent_check CHECK ((char_length(user_agent) <= 512));
alter table shard add constraint shard_pkey PRIMARY KEY (shard_id);
alter table shard add constraint shard_shard_id_check CHECK (((shard_id >= 0) AND (shard_id <= 255)));
alter table shard_history add constraint shard_history_pkey PRIMARY KEY (shard_id, epoch);
alter table signing_key add constraint signing_key_pkey PRIMARY KEY (kid);
alter table task add constraint task_pkey PRIMARY KEY (id);
alter table task add constraint task_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table task add constraint task_description_check CHECK (((char_length(description) >= 1) AND (char_length(description) <= 2048)));
alter table task add constraint task_title_check CHECK (((char_length(title) >= 1) AND (char_length(title) <= 256)));
alter table tool_call add constraint tool_call_pkey PRIMARY KEY (run_id, call_id);
alter table tool_call add constraint tool_call_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversation(id) ON DELETE CASCADE;
alter table tool_call add constraint tool_call_approval_check CHECK ((approval = ANY (ARRAY['auto'::text, 'required'::text])));
alter table tool_call add constraint tool_call_arguments_hash_check CHECK ((octet_length(arguments_hash) = 32));
alter table tool_call add constraint tool_call_call_id_check CHECK (((char_length(call_id) >= 1) AND (char_length(call_id) <= 128)));
alter table tool_call add constraint tool_call_decision_check CHECK ((decision = ANY (ARRAY['approve'::text, 'reject'::text])));
alter table tool_call add constraint tool_call_name_check CHECK ((char_length(name) <= 128));
alter table tool_call add constraint tool_call_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'success'::text, 'error'::text])));
alter table tool_key add constraint tool_key_pkey PRIMARY KEY (user_id, key);
alter table tool_key add constraint tool_key_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE;
alter table tool_key add constraint tool_key_key_check CHECK (((char_length(key) >= 1) AND (char_length(key) <= 255)));
alter table tool_key add constraint tool_key_request_hash_check CHECK ((octet_length(request_hash) = 32));
alter table tool_pin add constraint tool_pin_pkey PRIMARY KEY (server, tool);
alter table tool_pin add constraint tool_pin_check CHECK ((((hash IS NULL) = (spec IS NULL)) AND ((hash IS NULL) = (accepted_at IS NULL))));
alter table tool_pin add constraint tool_pin_hash_check CHECK ((octet_length(hash) = 32));
alter table tool_pin add constraint tool_pin_seen_hash_check CHECK ((octet_length(seen_hash) = 32));
alter table tool_pin add constraint tool_pin_server_check CHECK (((char_length(server) >= 1) AND (char_length(server) <= 24)));
alter table tool_pin add constraint tool_pin_tool_check CHECK (((char_length(tool) >= 1) AND (char_length(tool) <= 64)));
alter table users add constraint users_username_key UNIQUE (username);
alter table users add constraint users_pkey PRIMARY KEY (id);
alter table users add constraint users_avatar_url_check CHECK ((char_length(avatar_url) <= 2048));
alter table users add constraint users_display_name_check CHECK ((char_length(display_name) <= 255));
alter table users add constraint users_email_check CHECK ((char_length(email) <= 320));
alter table users add constraint users_role_check CHECK ((role = ANY (ARRAY['user'::text, 'moderator'::text, 'admin'::text])));
alter table users add constraint users_username_check CHECK ((username ~ '^[a-z0-9_]{1,30}$'::text));

CREATE INDEX ai_context_conversation ON ai_context USING btree (conversation_id);
CREATE INDEX ai_run_conversation ON ai_run USING btree (conversation_id, question_seq);
CREATE INDEX ai_run_open ON ai_run USING btree (shard_id) WHERE (status <> 'ended'::text);
CREATE INDEX ai_spend_user ON ai_spend USING btree (user_id, day);
CREATE INDEX audit_actor ON audit USING btree (actor_id, at);
CREATE INDEX audit_at ON audit USING btree (at);
CREATE INDEX blocks_blocked ON blocks USING btree (blocked_id);
CREATE INDEX conversation_member_user ON conversation_member USING btree (user_id);
CREATE INDEX conversation_shard ON conversation USING btree (shard_id);
CREATE INDEX engine_node_alive ON engine_node USING btree (node_id) WHERE (state <> 'dead'::text);
CREATE UNIQUE INDEX event_client ON event USING btree (sender_id, conversation_id, client_id);
CREATE INDEX event_message ON event USING btree (message_id);
CREATE INDEX oauth_identities_user ON oauth_identities USING btree (user_id);
CREATE INDEX refresh_token_expires ON refresh_token USING btree (expires_at);
CREATE INDEX refresh_token_family ON refresh_token USING btree (family_id);
CREATE INDEX refresh_token_user ON refresh_token USING btree (user_id);
CREATE INDEX reports_open ON reports USING btree (created_at) WHERE (resolved_at IS NULL);
CREATE INDEX sessions_expires ON sessions USING btree (expires_at);
CREATE INDEX sessions_revoked ON sessions USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);
CREATE INDEX sessions_user ON sessions USING btree (user_id);
CREATE INDEX shard_history_at ON shard_history USING btree (at);
CREATE INDEX shard_owner ON shard USING btree (owner);
CREATE INDEX task_user ON task USING btree (user_id, created_at, id);
CREATE INDEX tool_call_conversation ON tool_call USING btree (conversation_id, call_id);
CREATE UNIQUE INDEX users_email_key ON users USING btree (lower(email));
CREATE INDEX users_username_prefix ON users USING btree (username text_pattern_ops);

create view message_receipts as
 SELECT e.message_id,
    e.conversation_id,
    m.user_id,
    r.delivered_at,
    r.read_at
   FROM ((event e
     JOIN conversation_member m ON (((m.conversation_id = e.conversation_id) AND (m.user_id <> e.sender_id))))
     CROSS JOIN LATERAL ( SELECT min(k.delivered_at) AS delivered_at,
            min(k.read_at) AS read_at
           FROM receipt_mark k
          WHERE ((k.conversation_id = e.conversation_id) AND (k.user_id = m.user_id) AND (k.seq >= e.seq))) r)
  WHERE ((e.kind = 'message.new'::text) AND ((r.delivered_at IS NOT NULL) OR (r.read_at IS NOT NULL)));
create view messages as
 SELECT e.message_id AS id,
    e.conversation_id,
    e.seq,
    e.sender_id,
    (e.body ->> 'role'::text) AS role,
        CASE
            WHEN (s.deleted_at IS NOT NULL) THEN ''::text
            ELSE COALESCE(s.edited_text, (e.body ->> 'content'::text))
        END AS content,
        CASE
            WHEN (s.deleted_at IS NULL) THEN (e.body -> 'toolCalls'::text)
            ELSE NULL::jsonb
        END AS tool_calls,
    ((e.body #>> '{tokens,total}'::text[]))::integer AS tokens_used,
    ((e.body ->> 'clientMessageId'::text))::uuid AS client_message_id,
    e.created_at,
    s.edited_at,
    s.deleted_at,
    s.deleted_by,
    s.purge_after
   FROM (event e
     LEFT JOIN message_state s ON (((s.conversation_id = e.conversation_id) AND (s.seq = e.seq))))
  WHERE (e.kind = 'message.new'::text);

CREATE OR REPLACE FUNCTION ai_reserve(p_run uuid, p_user uuid, p_round integer, p_tokens bigint, p_user_max bigint, p_all_max bigint, p_day date)
 RETURNS TABLE(is_granted boolean, user_used bigint, all_used bigint)
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
CREATE OR REPLACE FUNCTION ai_settle(p_run uuid, p_round integer, p_input bigint, p_output bigint, p_is_estimated boolean)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
CREATE OR REPLACE FUNCTION shard_remember()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  insert into shard_history (shard_id, epoch, owner, worker) values (new.shard_id, new.epoch, new.owner, new.worker);
  -- A hint for gateways; equal notices of one transaction are one.
  perform pg_notify('parley_map', '');
  return null;
end $function$
;
CREATE OR REPLACE FUNCTION uuidv7()
 RETURNS uuid
 LANGUAGE sql
 PARALLEL SAFE
AS $function$
        select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
          placing substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
          from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
      $function$
;

CREATE TRIGGER shard_remember AFTER UPDATE ON shard FOR EACH ROW WHEN ((old.epoch IS DISTINCT FROM new.epoch)) EXECUTE FUNCTION shard_remember();

grant delete, insert, select, update on ai_budget to parley_engine;
grant delete, insert, select on ai_context to parley_engine;
grant delete, insert, select, update on ai_run to parley_engine;
grant delete, insert, select, update on ai_segment to parley_engine;
grant delete, insert, select, update on ai_slot to parley_engine;
grant delete, insert, select, update on ai_spend to parley_engine;
grant insert, select on audit to parley_engine;
grant delete, insert, select, update on blocks to parley_engine;
grant delete, insert, select, update on conversation to parley_engine;
grant delete, insert, select, update on conversation_member to parley_engine;
grant delete, insert, select, update on engine_node to parley_engine;
grant delete, select on engine_suspicion to parley_engine;
grant delete, insert, select, update on event to parley_engine;
grant select on message_receipts to parley_engine;
grant delete, insert, select, update on message_state to parley_engine;
grant select on messages to parley_engine;
grant usage on owner_epoch to parley_engine;
grant delete, insert, select, update on receipt_mark to parley_engine;
grant select, update on shard to parley_engine;
grant delete, insert, select on shard_history to parley_engine;
grant delete, insert, select, update on task to parley_engine;
grant delete, insert, select, update on tool_call to parley_engine;
grant insert, select, update on tool_pin to parley_engine;
grant select on users to parley_engine;
grant select on ai_budget to parley_gateway;
grant select on ai_context to parley_gateway;
grant select on ai_run to parley_gateway;
grant select on ai_segment to parley_gateway;
grant select on ai_slot to parley_gateway;
grant select on ai_spend to parley_gateway;
grant insert, select on audit to parley_gateway;
grant select on blocks to parley_gateway;
grant select on conversation to parley_gateway;
grant select on conversation_member to parley_gateway;
grant select on engine_node to parley_gateway;
grant insert, select, update on engine_suspicion to parley_gateway;
grant select on event to parley_gateway;
grant select on message_receipts to parley_gateway;
grant select on message_state to parley_gateway;
grant select on messages to parley_gateway;
grant delete, insert, select, update on oauth_identities to parley_gateway;
grant select on receipt_mark to parley_gateway;
grant delete, insert, select, update on refresh_token to parley_gateway;
grant delete, insert, select, update on reports to parley_gateway;
grant delete, insert, select, update on sessions to parley_gateway;
grant select on shard to parley_gateway;
grant select on shard_history to parley_gateway;
grant insert, select on signing_key to parley_gateway;
grant delete, insert, select, update on task to parley_gateway;
grant select on tool_call to parley_gateway;
grant delete, insert, select, update on tool_key to parley_gateway;
grant delete, insert, select, update on users to parley_gateway;
