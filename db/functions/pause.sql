-- Whether calls are made at all: by a person's word, or because Stripe refuses the key or the account.

create or replace function marketplace.pause_stripe_calls(p_reason text)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  insert into marketplace.stripe_control_log (change, reason) values ('paused by person', p_reason);
  return query
    update marketplace.stripe_control
    set
      paused_at = case paused_by when 'person' then paused_at else clock_timestamp() end,
      paused_by = 'person',
      paused_by_user = session_user,
      pause_reason = p_reason,
      probe_at = null,
      probe_count = 0
    returning *;
end
$$;

comment on function marketplace.pause_stripe_calls(text) is
  'No claim returns a row from the commit of this on, until resume_stripe_calls. Calls under way end as they end.';

create or replace function marketplace.resume_stripe_calls(p_reason text)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
  insert into marketplace.stripe_control_log (change, reason) values ('resumed by person', p_reason);
  perform pg_notify('seller_transfers_due', '');
  return query
    update marketplace.stripe_control
    set
      paused_at = null, paused_by = null, paused_by_user = null, pause_reason = null,
      probe_at = null, probe_count = 0
    returning *;
end
$$;

comment on function marketplace.resume_stripe_calls(text) is
  'Ends a pause, whoever began it.';

create or replace function marketplace._pause_by_verdict(p_reason text, p_probe_at timestamptz, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.stripe_control
  set
    paused_at = p_now,
    paused_by = 'verdict',
    paused_by_user = session_user,
    pause_reason = left(p_reason, 1000),
    probe_at = p_probe_at,
    probe_count = 0
  where paused_by is null or (p_probe_at is null and probe_at is not null);
  if found then
    insert into marketplace.stripe_control_log (change, reason) values ('paused by verdict', left(p_reason, 1000));
  end if;
end
$$;

comment on function marketplace._pause_by_verdict(text, timestamptz, timestamptz) is
  'Pauses calls for what Stripe says, with trial calls from p_probe_at on, or, if that is null, until resume_stripe_calls. A pause that is there already stays as it is, unless it has trial calls and this one has none.';

create or replace function marketplace._schedule_probe(p_now timestamptz)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update marketplace.stripe_control
  set
    probe_count = probe_count + 1,
    probe_at = p_now + marketplace._retry_delay('configuration', probe_count + 2)
  where paused_by = 'verdict'
$$;

comment on function marketplace._schedule_probe(timestamptz) is
  'Notes that a trial call was claimed, and when the next one may be.';

create or replace function marketplace._lift_pause_by_verdict(p_tokens uuid[], p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer record;
begin
  -- Only an answer to a call that was claimed after the pause began shows that the trouble is over.
  select a.transfer_id, a.verdict, a.http_status between 200 and 299 as is_proof into v_answer
  from marketplace.transfer_attempts as a
  cross join marketplace.stripe_control as c
  where c.paused_by = 'verdict' and c.probe_at is not null
    and a.lease_token = any (p_tokens) and a.kind = 'call' and a.disposition = 'applied'
    and a.http_status is not null and a.verdict <> 'configuration'
    and a.started_at > c.paused_at
  order by a.http_status between 200 and 299 desc
  limit 1;
  if not found then
    return;
  end if;
  update marketplace.stripe_control
  set
    paused_at = null, paused_by = null, paused_by_user = null, pause_reason = null,
    probe_at = null, probe_count = 0,
    proven_at = case when v_answer.is_proof then p_now else proven_at end,
    proven_by = case when v_answer.is_proof then v_answer.transfer_id else proven_by end
  where paused_by = 'verdict' and probe_at is not null;
  if not found then
    return;
  end if;
  insert into marketplace.stripe_control_log (change, reason)
  values ('resumed by answer', format('the trial call for transfer %s was answered: %s', v_answer.transfer_id, v_answer.verdict));
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._lift_pause_by_verdict(uuid[], timestamptz) is
  'Ends a pause by verdict if one of the outcomes just applied under these leases is an answer to a call made during it.';

create or replace function marketplace._is_at_fault(p_row marketplace.seller_transfers, p_http_status integer)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A 401 is about the key whichever row it was used for.
  return p_http_status <> 401
    and p_row.failure_code is not distinct from 'configuration'
    and exists (
      select
      from marketplace.transfer_attempts as a
      cross join marketplace.stripe_control as c
      where a.transfer_id = p_row.id and a.verdict = 'configuration' and a.disposition = 'applied'
        and c.proven_at > a.finished_at and c.proven_by <> p_row.id
    );
end
$$;

comment on function marketplace._is_at_fault(marketplace.seller_transfers, integer) is
  'True if the account''s trouble is this row''s own: it was refused for it before, and another row has been answered since.';
