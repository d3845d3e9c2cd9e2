-- A refund asks for an order's money back, all of it or a part.
--
-- The order's lock first, then all its rows in id order whatever their status, then the decision: an UPDATE with the
-- status in its WHERE would wait for a row that becomes completed meanwhile, and then touch nothing. A whole request
-- stands: a transfer that is recorded for the order afterwards is taken back at its birth.
--
-- NO KEY UPDATE: whoever holds a slice and splits it refers to its root; a stronger lock here would wait for the slice
-- and keep the other from the root.

create or replace function marketplace.request_reversal(
  p_order_id text, p_reversal_request_id text, p_reason text default 'refund',
  p_amount bigint default null, p_allocation jsonb default null
)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_ids bigint[];
  v_allocation jsonb := p_allocation;
  v_root record;
  v_is_new boolean;
  v_is_withdrawn boolean := false;
  v_before text;
begin
  perform marketplace._require_reversal_request(p_order_id, p_reversal_request_id, p_reason);
  perform marketplace._require_allocation(p_allocation);
  perform marketplace._require_amount_or_allocation(p_amount, p_allocation);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  perform marketplace._lock_order(p_order_id);

  v_ids := array(
    select t.id from marketplace.seller_transfers as t where t.order_id = p_order_id
    order by t.id for no key update);
  insert into marketplace.reversal_requests (reversal_request_id, order_id, reason, is_whole, asked_amount)
  values (p_reversal_request_id, p_order_id, p_reason, num_nulls(p_amount, p_allocation) = 2, p_amount)
  on conflict on constraint pk_reversal_requests do nothing;
  v_is_new := found;
  if not v_is_new then
    v_is_withdrawn := marketplace._fill_in_withdrawn(
      p_order_id, p_reversal_request_id, p_reason, p_amount, p_allocation);
  end if;
  if v_is_new or v_is_withdrawn then
    if v_ids = '{}' then
      raise exception 'no transfer is known for order %', p_order_id
        using errcode = 'ST004',
              hint = 'Check the order id; if its transfers are still to be recorded, record them first.',
              column = 'p_order_id';
    end if;
  else
    perform marketplace._require_same_request(p_order_id, p_reversal_request_id, p_reason, p_amount, p_allocation);
  end if;
  if v_is_new then
    if p_amount is not null then
      v_allocation := marketplace._spread(p_order_id, p_amount);
    elsif p_allocation is not null then
      perform marketplace._require_left(p_order_id, p_allocation);
    end if;
    v_before := marketplace._add_reason(format('%s %s requested', p_reason, p_reversal_request_id));
    for v_root in select q.* from marketplace._requested(v_ids, v_allocation) as q order by q.id loop
      if v_root.asked is null then
        perform marketplace._take_back_family(v_root.id, p_reversal_request_id, null, 0);
      else
        perform marketplace._take_share(v_root.id, p_reversal_request_id, v_root.asked, null);
      end if;
    end loop;
    perform marketplace._give_reason(v_before);
    perform pg_notify('seller_transfers_due', '');
  elsif v_is_withdrawn then
    perform marketplace._look_for_withdrawn(p_order_id, p_reversal_request_id, v_ids, p_amount, p_allocation);
  end if;
  return query
    select t.* from marketplace.seller_transfers as t
    where t.order_id = p_order_id and t.reversal_request_id = p_reversal_request_id
    order by t.id;
end
$$;

comment on function marketplace.request_reversal(text, text, text, bigint, jsonb) is
  'Asks for an order''s money back: all of it; or p_amount, spread over its transfers by what is left of each; or of each transfer_key its amount, [{"transfer_key": "…", "amount": 250}]. Minor units. Returns the rows this request took, as they stand; the same request again changes nothing. Raises ST004 for an order without transfers, ST005 where more is asked than is left, ST003 for an id known with other values.';

create or replace function marketplace._require_reversal_request(
  p_order_id text, p_reversal_request_id text, p_reason text
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_order_id', p_order_id);
  perform marketplace._require_request_id(p_reversal_request_id);
  perform marketplace._require_text('p_reason', p_reason);
  if p_reason not in ('refund', 'dispute', 'manual') then
    raise exception 'p_reason is %', left(p_reason, 60)
      using errcode = 'invalid_parameter_value', hint = 'Pass refund, dispute or manual.', column = 'p_reason';
  end if;
end
$$;

comment on function marketplace._require_reversal_request(text, text, text) is
  'Raises 22004 or 22023 for the first argument of a request that cannot be meant.';

create or replace function marketplace._require_request_id(p_reversal_request_id text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_reversal_request_id', p_reversal_request_id);
  if p_reversal_request_id ~ '^(acct|ch|cus|evt|in|pi|po|py|tr|trr|txn)_[A-Za-z0-9]+$' then
    raise exception 'p_reversal_request_id is an id of something else: %', left(p_reversal_request_id, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass what caused the reversal: the refund (re_…), the dispute (dp_…), or an id of your own.',
            column = 'p_reversal_request_id';
  end if;
end
$$;

comment on function marketplace._require_request_id(text) is
  'Raises 22004 or 22023 for what cannot be the id of a request.';
