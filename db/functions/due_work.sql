-- What claims would return next, in their order, and what each row waits for.

create or replace function marketplace._coming_action(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_control marketplace.stripe_control;
begin
  if p_row.lease_expires_at > clock_timestamp() then
    return p_row.lease_action;
  elsif p_row.completed_at is not null and p_row.stripe_transfer_id is null then
    return 'none: no Stripe id';
  end if;
  select * into strict v_control from marketplace.stripe_control;
  return marketplace._action(
    case when p_row.completed_at is null then 'transfers' else 'reversals' end,
    -- A lease that ran out may have moved the money.
    (p_row.lease_token is not null and marketplace._moves_money(p_row.lease_action))
    or marketplace._must_look(p_row, v_control, greatest(clock_timestamp(), p_row.next_retry_at)));
end
$$;

comment on function marketplace._coming_action(marketplace.seller_transfers) is
  'What the next call for an open row will be, as things stand, or what the present one is.';

create or replace function marketplace._waits_for(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_control marketplace.stripe_control;
begin
  select * into strict v_control from marketplace.stripe_control;
  return case
    when p_row.lease_expires_at > v_now then 'Under way: ' || p_row.leased_by
    when v_control.paused_by = 'person' then 'Calls are paused by a person.'
    when p_row.next_retry_at > v_now then concat_ws(': ', marketplace._reason_open(p_row), p_row.failure_message)
    when v_control.paused_by is not null then 'Calls are paused by verdict, but for a trial.'
    when v_control.reconcile_needed_since is not null then 'No calls before it is compared with Stripe.'
    when v_now < marketplace._silent_until(v_control) then 'No calls at first after look_up_first.'
    when p_row.completed_at is not null and marketplace._has_leased_sibling(p_row.id, p_row.root_id, v_now) then
      'Another part of the transfer is under way.'
    when p_row.lease_token is not null then format('Due: %s has not reported.', p_row.leased_by)
    else 'Due: the next free runner takes it.'
  end;
end
$$;

comment on function marketplace._waits_for(marketplace.seller_transfers) is
  'In words, why an open row that is not parked has not been called for yet.';

create or replace view marketplace.due_work as
with open_rows as (
  -- A part for each index.
  select t.id, greatest(t.next_retry_at, t.lease_expires_at) as due_at, t as held
  from marketplace.seller_transfers as t
  where t.status = 'reversal_pending' and t.parked_reason is null
  union all
  select t.id, greatest(t.next_retry_at, t.lease_expires_at), t
  from marketplace.seller_transfers as t
  where t.status = 'pending' and t.parked_reason is null
  union all
  select t.id, greatest(t.next_retry_at, t.lease_expires_at), t
  from marketplace.seller_transfers as t
  where t.status = 'failed' and t.parked_reason is null
)

select
  o.id as transfer_id,
  (o.held).order_id,
  (o.held).amount,
  marketplace.format_amount((o.held).amount, (o.held).currency) as amount_in_words,
  marketplace._coming_action(o.held) as action,
  date_trunc('second', o.due_at - clock_timestamp()) as due_in,
  marketplace._wrapped(marketplace._waits_for(o.held), 30, 150) as waits_for
from open_rows as o
order by o.due_at, o.id;

comment on view marketplace.due_work is 'What claims would return next, first things first: a line per open row that is not parked.';
comment on column marketplace.due_work.transfer_id is 'The row.';
comment on column marketplace.due_work.order_id is 'Its order.';
comment on column marketplace.due_work.amount is 'What the call is about, in minor units.';
comment on column marketplace.due_work.amount_in_words is 'The same, as people write it.';
comment on column marketplace.due_work.action is 'What the call will be, as things stand: reverse or send, which move money, look_up_reversals or look_up_transfer. Under way, what it is.';
comment on column marketplace.due_work.due_in is 'In how long it is due, or its lease ends; negative: for how long it has been.';
comment on column marketplace.due_work.waits_for is 'Why it is not done yet, in words.';
