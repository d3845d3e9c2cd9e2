-- Stripe may tell of a reversal before it is known here which row the transfer is, or while what it took was given up.

create or replace function marketplace._hear_again(p_stripe_transfer_id text, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Also what was acted on: some of it may have found nothing to be taken from.
  update marketplace.stripe_events
  set
    state = 'kept', kept_at = clock_timestamp(), order_id = p_order_id, next_step = null,
    detail = format('ST010: what the rows have of %s has changed since it came', p_stripe_transfer_id)
  where object_id = p_stripe_transfer_id and type = 'transfer.reversed'
    -- Not what is of another mode or account.
    and (state = 'acted' or (state = 'ignored' and detail like 'nothing to do%'));
end
$$;

comment on function marketplace._hear_again(text, text) is
  'Keeps what was told of the reversals of a transfer at Stripe, to be tried again: a row stands for it that did not, or has its money again. The order is locked.';
