-- A transfer that is known already turns out to be paid, or by which transfer at Stripe: the root is told, and with it
-- every slice that is still open.

create or replace function marketplace._announced_amount(p_transfer_key text, p_amount bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_announced bigint;
  v_refunded bigint;
begin
  select
    r.original_amount,
    (select coalesce(sum(s.amount), 0) from marketplace.seller_transfers as s
     -- What took over from the whole and was given up otherwise was refunded to nobody.
     where s.root_id = r.id and s.failure_code = 'refunded_before_transfer' and s.completed_at is null
       and s.made_for is null)
  into v_announced, v_refunded
  from marketplace.seller_transfers as r where r.transfer_key = p_transfer_key;
  if v_refunded > 0 and p_amount = v_announced then
    -- Taken as paid in full, the part refunded before would stay with the seller, and nothing would say so.
    raise exception 'transfer_key %: % of % were refunded before it was paid', p_transfer_key, v_refunded, v_announced
      using errcode = 'ST002',
            hint = format('Pay %s and record that as p_amount. If more was paid already, reverse the rest at Stripe first.',
              v_announced - v_refunded),
            schema = 'marketplace', table = 'seller_transfers', column = 'amount';
  end if;
  return case when p_amount = v_announced - v_refunded then v_announced else p_amount end;
end
$$;

comment on function marketplace._announced_amount(text, bigint) is
  'The amount a transfer was announced with, if p_amount is what was left of it to pay; else p_amount. Raises ST002 for the whole amount where a part was refunded before.';

create or replace function marketplace._complete_known(p_known marketplace.seller_transfers, p_stripe_transfer_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_constraint text;
begin
  if p_known.completed_at is not null
    and (p_stripe_transfer_id is null or p_stripe_transfer_id = p_known.stripe_transfer_id) then
    return;
  end if;
  -- What the row does not say yet may be added; the guards refuse the rest. A pending row is one the app announced and
  -- then made itself; a lease or a sent request means that a runner may have made it too.
  if p_known.status = 'permanently_failed' or p_known.lease_token is not null or p_known.call_last_sent_at is not null
    or exists (
      select from marketplace._family(p_known.id) as f
      where f.status in ('pending', 'failed')
        and (f.call_last_sent_at is not null or marketplace._may_be_under_way(f))) then
    raise exception 'transfer % is %, which leaves no room for %',
      p_known.id, p_known.status, coalesce(p_stripe_transfer_id, 'a payment')
      using errcode = 'ST002',
            hint = case when p_known.completed_at is not null and p_known.stripe_transfer_id is null
              then format('It ended for want of its Stripe id: reopen(p_id => %s, p_reason => ''…'', p_stripe_transfer_id => ''tr_…'').',
                p_known.id)
              else 'If the seller was paid after all, record the payment under a new transfer_key.' end,
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
  if p_stripe_transfer_id is null then
    raise exception 'transfer % is % and is recorded as paid without a Stripe id', p_known.id, p_known.status
      using errcode = 'ST003',
            hint = 'Pass p_stripe_transfer_id: only a row born completed may be without one.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
  if p_known.stripe_transfer_id is not null then
    raise exception 'transfer % stands for %, not %', p_known.id, p_known.stripe_transfer_id, p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'One transfer at Stripe is one row: record the other one under its own transfer_key.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;

  if p_known.completed_at is not null then
    perform marketplace._require_id_of_family(p_known, p_stripe_transfer_id);
  end if;

  -- The root first, for its slices may only stand for the same transfer at Stripe. What is sent beside it, because it was
  -- kept from being paid once, has one of its own.
  for v_id in select f.id from marketplace._family(p_known.id) as f where f.made_for is null order by f.id loop
    update marketplace.seller_transfers set stripe_transfer_id = p_stripe_transfer_id
    where id = v_id and status in ('completed', 'reversal_pending') and coalesce(stripe_transfer_id, '') = '';
    update marketplace.seller_transfers
    set
      status = 'completed',
      completed_at = clock_timestamp(),
      stripe_transfer_id = p_stripe_transfer_id,
      next_retry_at = null,
      parked_reason = null,
      failure_code = null,
      failure_message = null
    where id = v_id and status in ('pending', 'failed');
  end loop;
exception
  when unique_violation then
    get stacked diagnostics v_constraint = constraint_name;
    raise exception 'transfer % belongs to another row', p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'One transfer at Stripe is one row. Look it up in marketplace.seller_transfers.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id', constraint = v_constraint;
end
$$;

comment on function marketplace._complete_known(marketplace.seller_transfers, text) is
  'Adds to a known row that it was paid, or by which transfer at Stripe. Raises ST002 or ST003 where that contradicts the row.';
