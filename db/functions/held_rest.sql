-- A transfer of ours that Stripe has for another amount than the row's.
--
-- A failover can lose a split: a part was refunded before the transfer was sent, what was left was sent, and this
-- database has heard of neither. Found for less than the row, the transfer pays as much of it as it comes to. The rest
-- is a slice that is held: a request that is asked again, or comes, takes it before anything that is paid, and so the
-- rows become what they were. Nobody can say that all of them will be asked again, so it is sent when a person says so,
-- under a name of its own: under the row's, Stripe would take it for the transfer that it has.
--
-- Found for more, by as much as the slices that were split off last, it was sent before they were: they are paid.

create or replace function marketplace._listed(p_found jsonb, p_id text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select f.it from jsonb_array_elements(p_found) as f (it) where f.it ->> 'id' = p_id limit 1);
end
$$;

comment on function marketplace._listed(jsonb, text) is 'The object of this id in a list that a look-up has read.';

create or replace function marketplace._rest_beside(p_row marketplace.seller_transfers, p_transfer jsonb)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_found bigint := marketplace._read_amount(p_transfer -> 'amount');
  v_rest bigint := p_row.amount - v_found;
  v_slice marketplace.seller_transfers;
begin
  if not marketplace._fits_but_for_amount(p_transfer, p_row) then
    return null;
  end if;
  if v_rest > 0 and v_found > 0 then
    return v_rest;
  end if;
  for v_slice in select u.* from marketplace._unpaid_slices(p_row) as u order by u.id desc loop
    exit when v_rest >= 0;
    v_rest := v_rest + v_slice.amount;
  end loop;
  return case when v_rest = 0 then p_row.amount - v_found end;
end
$$;

comment on function marketplace._rest_beside(marketplace.seller_transfers, jsonb) is
  'What an unpaid row is short of if this transfer at Stripe paid it, in minor units: above zero, the part that was not sent; below, what went to the slices split off it last; null if its amount is explained by neither, or it is no transfer for this row at all.';

create or replace function marketplace._unpaid_slices(p_row marketplace.seller_transfers)
returns setof marketplace.seller_transfers
language plpgsql
stable
rows 2
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select f.* from marketplace._family(coalesce(p_row.root_id, p_row.id)) as f
    where f.split_from = p_row.id and f.status = 'permanently_failed' and f.completed_at is null
      and not marketplace._is_followed(f.id);
end
$$;

comment on function marketplace._unpaid_slices(marketplace.seller_transfers) is
  'The slices of an unpaid row that ended without being paid, and that nothing has taken over from.';

create or replace function marketplace._hold_rest(
  p_row marketplace.seller_transfers, p_rest bigint, p_reversed bigint, p_stripe_transfer_id text, p_words text
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers := marketplace._without_lease(p_row);
  v_id bigint;
begin
  -- The look-up was complete, and nothing more can arrive: it is known what became of the row.
  v_row.call_unknown := false;
  v_row.call_absent_at := p_row.leased_at;
  perform marketplace._write_settled(v_row);
  v_id := marketplace._split_transfer(p_row.id, p_rest);
  update marketplace.seller_transfers
  set
    call_absent_at = p_row.leased_at,
    -- Requests of the lost history have taken some of what was sent. Asked again in another order, one of them could be
    -- given this part, and another be reversed a second time: so nobody has it before it was looked for by itself.
    call_unknown = p_reversed > 0,
    parked_reason = marketplace._clean_text(format(
      'held: %s is %s less than transfer %s was to be: a failover has lost who asked for that. Have the app ask '
      'again for all it asked for, which takes it. What is here after that is owed: retry_now sends it. %s',
      p_stripe_transfer_id, marketplace.format_amount(p_rest, p_row.currency), p_row.id, p_words), 1000)
  where id = v_id;
  return v_id;
end
$$;

comment on function marketplace._hold_rest(marketplace.seller_transfers, bigint, bigint, text, text) is
  'Splits off what was not sent with the transfer found for a row, held for a person or a request, and returns the id of that slice.';

create or replace function marketplace._is_held(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_row.split_from is not null and p_row.completed_at is null
    and coalesce(starts_with(p_row.parked_reason, 'held:'), false);
end
$$;

comment on function marketplace._is_held(marketplace.seller_transfers) is
  'True for a part that was not sent with its transfer and waits for somebody to say what becomes of it.';

create or replace function marketplace._goes_on_as(p_row marketplace.seller_transfers)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_row.split_from is null or p_row.completed_at is not null then
    return p_row.made_for;
  end if;
  -- By the transfer it is the rest of: whoever finds that one again, gives the rest the same name.
  return (
    select 'rest:' || coalesce(t.stripe_transfer_id, t.id::text)
    from marketplace.seller_transfers as t where t.id = p_row.split_from);
end
$$;

comment on function marketplace._goes_on_as(marketplace.seller_transfers) is
  'What the successor of a row is made for: the same, but for a slice of what was not paid, which has no name at Stripe yet.';

create or replace function marketplace._send_rest(
  p_row marketplace.seller_transfers, p_reason text, p_now timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_before text := marketplace._give_reason(format('tried again by %s: %s', session_user, p_reason));
begin
  update marketplace.seller_transfers set status = 'failed' where id = p_row.id and status = 'pending';
  perform marketplace._write_settled(marketplace._give_up_row(p_row, 'held', format('It was parked: %s', p_row.parked_reason)));
  v_id := marketplace._succeed(p_row, marketplace._goes_on_as(p_row), null, 'it is sent by itself', p_now);
  perform marketplace._offer_row(v_id);
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
  return v_id;
end
$$;

comment on function marketplace._send_rest(marketplace.seller_transfers, text, timestamptz) is
  'Ends a held part and returns the id of its successor, which is looked for and sent by itself. The order''s rows are locked.';
