-- Who may claim: workers whose Stripe key belongs to the account and mode that this database belongs to.
--
-- The key of another account is accepted by Stripe, and finds none of our transfers there; a test key beside live rows
-- moves play money. So the first runner's account is the database's for good, and a claim asks first who is claiming.
--
-- Lock order: stripe_control, then runners.

create or replace function marketplace.register_runner(
  p_worker text, p_version text, p_stripe_account text, p_livemode boolean
)
returns setof marketplace.runners
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
  v_now timestamptz;
begin
  perform marketplace._require_text('p_worker', p_worker);
  perform marketplace._require_text('p_version', p_version);
  if p_stripe_account is not null then
    perform marketplace._require_stripe_id('p_stripe_account', p_stripe_account, array['acct']);
  end if;
  if p_livemode is null then
    raise exception 'p_livemode is missing'
      using errcode = 'null_value_not_allowed', hint = 'Pass livemode of GET /v1/balance, asked with the key.',
            column = 'p_livemode';
  end if;

  perform marketplace._require_served(p_version);

  select * into strict v_control from marketplace.stripe_control for no key update;
  v_now := clock_timestamp();
  v_control := marketplace._know_database(v_control, v_now);
  perform marketplace._require_own_account(v_control, p_stripe_account, p_livemode);
  if v_control.livemode is null or (v_control.stripe_account is null and p_stripe_account is not null) then
    insert into marketplace.stripe_control_log (change, reason)
    values ('account pinned', format('%s, by runner %s', marketplace._account_in_words(p_stripe_account, p_livemode), p_worker));
    update marketplace.stripe_control
    set stripe_account = p_stripe_account, livemode = p_livemode, pinned_at = coalesce(pinned_at, v_now);
  end if;

  -- A key that Stripe has just accepted need not wait for the next trial call.
  update marketplace.stripe_control set probe_at = v_now where probe_at > v_now;
  return query
    insert into marketplace.runners as r (worker, version, stripe_account, livemode, registered_at, last_seen_at)
    values (p_worker, p_version, p_stripe_account, p_livemode, v_now, v_now)
    on conflict on constraint pk_runners do update
    set
      version = excluded.version, stripe_account = excluded.stripe_account, livemode = excluded.livemode,
      registered_at = excluded.registered_at, last_seen_at = excluded.last_seen_at,
      ended_at = null, ended_reason = null
    returning r.*;
end
$$;

comment on function marketplace.register_runner(text, text, text, boolean) is
  'Lets a worker claim, from now on or again. p_stripe_account and p_livemode are what its Stripe key says, the account null if the key may not tell. The first ones become the database''s; after that others are refused (ST006). A runner of a release that the functions do not know any more is refused (ST015).';

create or replace function marketplace._require_own_account(
  p_control marketplace.stripe_control, p_stripe_account text, p_livemode boolean
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_own text := marketplace._account_in_words(p_control.stripe_account, p_control.livemode);
begin
  if p_control.livemode <> p_livemode or p_control.stripe_account <> p_stripe_account then
    raise exception 'the Stripe key is of %, this database belongs to %',
      marketplace._account_in_words(p_stripe_account, p_livemode), v_own
      using errcode = 'ST006',
            hint = format('Start the runner with a key of %s. A database belongs to one Stripe account and mode; another one needs a database of its own.', v_own),
            column = case when p_control.livemode <> p_livemode then 'p_livemode' else 'p_stripe_account' end;
  end if;
end
$$;

comment on function marketplace._require_own_account(marketplace.stripe_control, text, boolean) is
  'Raises ST006 for a key of another account or mode than the database''s; what is not known, or not pinned yet, is no other.';

create or replace function marketplace._account_in_words(p_stripe_account text, p_livemode boolean)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce('account ' || p_stripe_account, 'an account')
    || case when p_livemode then ' in live mode' else ' in test mode' end;
end
$$;

comment on function marketplace._account_in_words(text, boolean) is 'An account and its mode, as people say it.';
