-- A refund asks for an order's money back.
--
-- The order's lock first, then all its rows in id order whatever their status, then the decision: an UPDATE with the
-- status in its WHERE would wait for a row that becomes completed meanwhile, and then touch nothing. A request stands:
-- a transfer that is recorded for the order afterwards is taken back at its birth.

create or replace function marketplace.request_reversal(
  p_order_id text, p_reversal_request_id text, p_reason text default 'refund'
)
returns setof marketplace.seller_transfers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.reversal_requests;
  v_ids bigint[];
  v_id bigint;
  v_before text;
begin
  perform marketplace._require_text('p_order_id', p_order_id);
  perform marketplace._require_text('p_reversal_request_id', p_reversal_request_id);
  perform marketplace._require_text('p_reason', p_reason);
  if p_reversal_request_id ~ '^(acct|ch|cus|evt|in|pi|po|py|tr|trr|txn)_[A-Za-z0-9]+$' then
    raise exception 'p_reversal_request_id is an id of something else: %', left(p_reversal_request_id, 60)
      using errcode = 'invalid_parameter_value',
            hint = 'Pass what caused the reversal: the refund (re_…), the dispute (dp_…), or an id of your own.',
            column = 'p_reversal_request_id';
  end if;
  if p_reason not in ('refund', 'dispute', 'manual') then
    raise exception 'p_reason is %', left(p_reason, 60)
      using errcode = 'invalid_parameter_value', hint = 'Pass refund, dispute or manual.', column = 'p_reason';
  end if;
  perform marketplace._require_read_committed();
  perform marketplace._lock_order(p_order_id);

  v_ids := array(
    select t.id from marketplace.seller_transfers as t where t.order_id = p_order_id order by t.id for update);
  insert into marketplace.reversal_requests (reversal_request_id, order_id, reason)
  values (p_reversal_request_id, p_order_id, p_reason)
  on conflict on constraint pk_reversal_requests do nothing;
  if found then
    if v_ids = '{}' then
      raise exception 'no transfer is known for order %', p_order_id
        using errcode = 'ST004',
              hint = 'Check the order id; if its transfers are still to be recorded, record them first.',
              column = 'p_order_id';
    end if;
    v_before := marketplace._add_reason(format('%s %s requested', p_reason, p_reversal_request_id));
    foreach v_id in array v_ids loop
      perform marketplace._take_back(v_id, p_reversal_request_id);
    end loop;
    perform marketplace._give_reason(v_before);
    perform pg_notify('seller_transfers_due', '');
  else
    select * into strict v_known from marketplace.reversal_requests as r
    where r.reversal_request_id = p_reversal_request_id;
    if (v_known.order_id, v_known.reason) <> (p_order_id, p_reason) then
      raise exception 'reversal request % is known for order % with reason %',
        p_reversal_request_id, v_known.order_id, v_known.reason
        using errcode = 'ST003',
              hint = 'The same id is the same request. For another request pass another id.',
              schema = 'marketplace', table = 'reversal_requests', constraint = 'pk_reversal_requests';
    end if;
  end if;
  return query
    select t.* from marketplace.seller_transfers as t
    where t.order_id = p_order_id and t.reversal_request_id = p_reversal_request_id
    order by t.id;
end
$$;

comment on function marketplace.request_reversal(text, text, text) is
  'Asks for all of an order''s money back. Returns the transfers this request took, as they stand; the same request again changes nothing. Raises ST004 for an order without transfers, ST003 for an id known with another order or reason.';
