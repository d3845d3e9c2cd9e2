-- The shapes that cross the line between the database and a runner.
-- depends: 0009.create-stripe-policy

do $$
begin
  if to_regtype('marketplace.stripe_call') is null then
    create type marketplace.stripe_call as (
      id bigint,
      action text,
      lease_token uuid,
      lease_seconds double precision,
      stripe_transfer_id text,
      stripe_reversal_id text,
      amount bigint,
      currency text,
      destination_account text,
      source_charge text,
      transfer_group text,
      idempotency_key text,
      metadata jsonb
    );
  end if;
  if to_regtype('marketplace.stripe_outcome') is null then
    create type marketplace.stripe_outcome as (
      id bigint,
      action text,
      lease_token uuid,
      sent boolean,
      http_status integer,
      error_type text,
      error_code text,
      error_message text,
      stripe_request_id text,
      replayed boolean,
      duration_ms integer,
      object jsonb,
      facts_sha256 text
    );
  end if;
  if to_regtype('marketplace.recorded_outcome') is null then
    create type marketplace.recorded_outcome as (
      id bigint,
      result text,
      verdict text,
      status text,
      next_retry_at timestamptz
    );
  end if;
end
$$;

comment on type marketplace.stripe_call is
  'One leased call: what to do (action), under which lease (token, seconds from the claim), and exactly what to send. Amounts in minor units.';
comment on type marketplace.stripe_outcome is 'The facts of one call as a worker reports them, read and cut; no conclusion.';
comment on type marketplace.recorded_outcome is
  'What became of a report: applied, already_recorded or stale; the verdict; where the row stands now.';
