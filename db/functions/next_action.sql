-- What may be asked of Stripe next: a request, or a look at what is there.
--
-- Stripe refuses a second reversal of a whole transfer. Of a part it refuses none, nor a second transfer, and it
-- forgets keys after a day. So nothing is sent while it is not known what became of the request before; nothing is sent
-- under a key that Stripe may have forgotten; where Stripe would not refuse a second one, it is looked for before the
-- first; and what nobody wants any more is only looked for. What the lengths of time `quiet` and `key_max_age` mean
-- is said here.

create or replace function marketplace._must_look(
  p_row marketplace.seller_transfers, p_control marketplace.stripe_control, p_now timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return
    -- Stripe holds a reversal of ours: what becomes of it is seen there.
    p_row.stripe_reversal_id is not null
    -- So is one that somebody made elsewhere.
    or p_row.named_reversal_id is not null
    or marketplace._is_unwanted(p_row)
    -- The key brings nothing but the error that Stripe stored for it, or may be forgotten.
    or p_row.call_replayed
    or marketplace._is_key_old(p_row, p_now)
    -- Not looked since the last reason to.
    or (
      coalesce(p_row.call_absent_at <= p_control.look_up_first_since, p_row.call_absent_at is null)
      and (
        p_row.call_unknown
        or p_row.call_generation > 1
        or p_control.look_up_first_since is not null
        or not marketplace._is_first_of_its_kind(p_row)
      )
    );
end
$$;

comment on function marketplace._must_look(marketplace.seller_transfers, marketplace.stripe_control, timestamptz) is
  'True if the row''s next call is a look-up and not a request that moves money.';

create or replace function marketplace._silent_until(p_control marketplace.stripe_control)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Leases that a lost history gave out may still be live, the longest as well.
  return p_control.look_up_first_since + 2 * p_control.longest_lease;
end
$$;

comment on function marketplace._silent_until(marketplace.stripe_control) is
  'Until when no call is made after a failover: for two of the longest leases; null if there was none.';

create or replace function marketplace._lost_until()
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select c.look_up_first_since + p.quiet
    from marketplace.stripe_control as c
    cross join marketplace.retry_policy as p
    where p.verdict = 'unknown');
end
$$;

comment on function marketplace._lost_until() is
  'Until when what a lost history sent may still arrive at Stripe; null if none was lost.';

create or replace function marketplace._may_give_up(p_now timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_now >= marketplace._lost_until(), true)
    and not exists (select from marketplace.stripe_control as c where c.reconcile_needed_since is not null);
end
$$;

comment on function marketplace._may_give_up(timestamptz) is
  'False for as long after look_up_first as a request may be under way that this database does not know of.';

create or replace function marketplace._is_first_of_its_kind(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- All of a Stripe transfer: Stripe itself refuses to take that back twice. A send that no row before it can have made.
  return case
    when p_row.completed_at is null then p_row.successor_of is null and p_row.split_from is null
    else p_row.root_id is null and p_row.amount = p_row.original_amount
  end;
end
$$;

comment on function marketplace._is_first_of_its_kind(marketplace.seller_transfers) is
  'True if the first request for the row may be made without a look: another one would be refused, or cannot have been made.';

create or replace function marketplace._is_key_old(p_row marketplace.seller_transfers, p_now timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- From its minting, not from its last use: Stripe counts from the first.
  return p_row.call_minted_at <= p_now - (
    select p.key_max_age from marketplace.retry_policy as p where p.verdict = 'unknown');
end
$$;

comment on function marketplace._is_key_old(marketplace.seller_transfers, timestamptz) is
  'True if Stripe may have forgotten the row''s key by the time a request with it arrives.';

create or replace function marketplace._quiet_from(p_row marketplace.seller_transfers)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A database that may have lost commits may have lost a request sent up to that moment.
  return greatest(
      p_row.call_last_sent_at, (select c.look_up_first_since from marketplace.stripe_control as c)
    ) + (select p.quiet from marketplace.retry_policy as p where p.verdict = 'unknown');
end
$$;

comment on function marketplace._quiet_from(marketplace.seller_transfers) is
  'From when on nothing that was sent for the row can still arrive at Stripe; null if nothing ever was sent.';
