-- Whether a worker may still claim: what it registered with lasts until Stripe refuses its key.

create or replace function marketplace._require_registered(p_worker text, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_runner marketplace.runners;
begin
  select * into v_runner from marketplace.runners as r where r.worker = p_worker;
  if v_runner.worker is null or v_runner.ended_at is not null then
    raise exception 'worker % is not registered%', left(p_worker, 120), coalesce(': ' || v_runner.ended_reason, '')
      using errcode = 'ST008',
            hint = 'Call register_runner with what the worker''s Stripe key says; seller-transfers run does so by itself.',
            column = 'p_worker';
  end if;
  -- It may have registered before the database was migrated.
  perform marketplace._require_served(v_runner.version);
  -- Not at every claim: an idle runner need not write. A time in the future is from before the clock stepped back.
  if v_runner.last_seen_at not between p_now - interval '10 s' and p_now or v_runner.registered_at > p_now then
    update marketplace.runners
    set last_seen_at = p_now, registered_at = least(registered_at, p_now)
    where worker = p_worker;
  end if;
end
$$;

comment on function marketplace._require_registered(text, timestamptz) is
  'Raises ST008 unless the worker may claim, ST015 if it is too old; notes that it was seen.';

create or replace function marketplace._end_registrations(p_tokens uuid[], p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refused record;
begin
  -- In order, for two reports may end the same ones.
  for v_refused in
    select a.worker, max(a.started_at) as called_at, max(a.error_message) as words
    from marketplace.transfer_attempts as a
    where a.lease_token = any (p_tokens) and a.disposition = 'applied'
      and a.http_status = 401 and a.error_type is not null
    group by a.worker
    order by a.worker
  loop
    update marketplace.runners
    set ended_at = p_now, ended_reason = left(concat_ws(': ', 'Stripe refused its key', v_refused.words), 1000)
    -- What was called before it registered was called with an earlier key.
    where worker = v_refused.worker and ended_at is null and registered_at <= v_refused.called_at;
  end loop;
end
$$;

comment on function marketplace._end_registrations(uuid[], timestamptz) is
  'Ends the registration of every worker that was told by Stripe, in an outcome just applied under these leases, that its key is no good.';
