-- Whether calls are made at all: by a person's word, or because Stripe refuses the key or the account.

create or replace function marketplace.pause_stripe_calls(p_reason text)
returns setof marketplace.stripe_control
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
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
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reason', p_reason, 1000);
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

create or replace function marketplace._pause_by_verdict(p_reason text, p_now timestamptz)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update marketplace.stripe_control
  set
    paused_at = p_now,
    paused_by = 'verdict',
    paused_by_user = session_user,
    pause_reason = left(p_reason, 1000),
    probe_at = p_now + marketplace._retry_delay('configuration', 1),
    probe_count = 0
  where paused_by is null
$$;

comment on function marketplace._pause_by_verdict(text, timestamptz) is
  'Pauses calls because Stripe refuses the key or the account. A pause that is there already stays as it is.';

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

create or replace function marketplace._lift_pause_by_verdict(p_leased_after timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Only an answer to a call that was claimed after the pause began shows that the trouble is over.
  update marketplace.stripe_control
  set
    paused_at = null, paused_by = null, paused_by_user = null, pause_reason = null,
    probe_at = null, probe_count = 0
  where paused_by = 'verdict' and paused_at < p_leased_after;
  if found then
    perform pg_notify('seller_transfers_due', '');
  end if;
end
$$;

comment on function marketplace._lift_pause_by_verdict(timestamptz) is
  'Ends a pause by verdict that began before the given claim.';
