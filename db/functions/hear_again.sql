-- Stripe may tell of a reversal before it is known here which row the transfer is.

create or replace function marketplace._hear_again(p_stripe_transfer_id text, p_order_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.stripe_events
  set
    state = 'kept', order_id = p_order_id, next_step = null,
    detail = format('ST010: it came before a row stood for %s', p_stripe_transfer_id)
  where object_id = p_stripe_transfer_id and type = 'transfer.reversed' and state = 'ignored'
    -- Not what is of another mode or account.
    and detail like 'nothing to do%';
end
$$;

comment on function marketplace._hear_again(text, text) is
  'Keeps what was told of a transfer at Stripe before a row stood for it, to be tried again. The order is locked.';
