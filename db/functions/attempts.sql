-- What Stripe was asked and said, kept: one row per report, whether it is applied or not.

create or replace function marketplace._write_attempt(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers,
  p_kind text, p_verdict text, p_object_id text, p_words text, p_disposition text, p_now timestamptz
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text;
  v_worker text := p_row.leased_by;
  v_started_at timestamptz := p_row.leased_at;
begin
  if p_disposition = 'applied' then
    v_key := marketplace._current_key(p_row);
  else
    -- The lease was lost, and that was noted with key, worker and time.
    select a.idempotency_key, a.worker, a.started_at into v_key, v_worker, v_started_at
    from marketplace.transfer_attempts as a
    where a.lease_token = p_outcome.lease_token and a.kind = 'lost_lease' and a.transfer_id = p_row.id;
  end if;
  insert into marketplace.transfer_attempts (
    transfer_id, kind, action, lease_token, idempotency_key, worker, started_at, finished_at, duration_ms,
    http_status, error_type, error_code, error_message, stripe_request_id, stripe_object_id, found_count,
    replayed, verdict, disposition, facts_sha256
  ) values (
    p_row.id, p_kind, p_outcome.action, p_outcome.lease_token, v_key, v_worker, v_started_at, p_now,
    p_outcome.duration_ms, p_outcome.http_status, p_outcome.error_type, p_outcome.error_code,
    coalesce(p_outcome.error_message, marketplace._clean_text(p_words, 1000)),
    p_outcome.stripe_request_id,
    p_object_id,
    jsonb_array_length(p_outcome.found),
    p_outcome.replayed, p_verdict, p_disposition, p_outcome.facts_sha256
  )
  on conflict on constraint uq_transfer_attempts_lease_token_kind do nothing;
end
$$;

comment on function marketplace._write_attempt(
  marketplace.stripe_outcome, marketplace.seller_transfers, text, text, text, text, text, timestamptz
) is 'Writes one report to transfer_attempts. p_row is the row as it was before; p_object_id is what was made or found, p_words what a look-up came to.';
