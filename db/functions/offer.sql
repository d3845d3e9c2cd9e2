-- Money that becomes free, or known, may have been wanted by a request that could not have it yet.

create or replace function marketplace._offer_row(p_id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_line record;
  v_amount bigint;
  v_before text;
begin
  select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
  -- What was asked and could not be had comes first, the oldest request before the others; then what asks for all.
  for v_line in
    select w.* from (
      select r.reversal_request_id, r.requested_at, r.reason, l.transfer_id, l.unmet
      from marketplace.reversal_request_lines as l
      inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
      where l.transfer_id = any (marketplace._families_of_key(marketplace._key_root(v_row)))
        and l.unmet > 0 and r.withdrawn_at is null and not r.is_evidence
      union all
      select r.reversal_request_id, r.requested_at, r.reason, null, null
      from marketplace.reversal_requests as r
      where r.order_id = v_row.order_id and r.is_whole and r.withdrawn_at is null and not r.is_evidence
    ) as w
    order by w.unmet is null, w.requested_at, w.reversal_request_id, w.transfer_id
  loop
    select t.* into strict v_row from marketplace.seller_transfers as t where t.id = p_id;
    exit when not marketplace._is_left(v_row);
    v_amount := least(v_line.unmet, v_row.amount);
    v_before := marketplace._add_reason(format('%s %s stands', v_line.reason, v_line.reversal_request_id));
    perform marketplace._take_row(v_row, v_line.reversal_request_id, v_amount);
    perform marketplace._give_reason(v_before);
    perform pg_notify('seller_transfers_due', '');
    if v_line.transfer_id is null then
      insert into marketplace.reversal_request_lines
        (reversal_request_id, transfer_id, transfer_key, asked, met, unmet)
      values (v_line.reversal_request_id, p_id, marketplace._family_key(v_row), v_row.amount, v_row.amount, 0)
      -- What a line asks is fixed: more than it, that another request let go of, is in the rows only.
      on conflict on constraint pk_reversal_request_lines do nothing;
    else
      update marketplace.reversal_request_lines as l
      set met = l.met + v_amount, unmet = l.unmet - v_amount
      where l.reversal_request_id = v_line.reversal_request_id and l.transfer_id = v_line.transfer_id;
    end if;
  end loop;
end
$$;

comment on function marketplace._offer_row(bigint) is
  'Takes a row that is new, or known by now, for the requests that still want it: unmet lines of its transfer_key, and requests for everything. The order''s rows are locked.';

create or replace function marketplace._take_row(
  p_row marketplace.seller_transfers, p_reversal_request_id text, p_amount bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint := p_row.id;
begin
  if p_amount < p_row.amount then
    v_id := marketplace._split_transfer(p_row.id, p_amount);
  end if;
  if p_row.completed_at is not null then
    perform marketplace._begin_reversal(v_id, p_reversal_request_id);
  else
    perform marketplace._give_up_unpaid(v_id, p_reversal_request_id);
  end if;
end
$$;

comment on function marketplace._take_row(marketplace.seller_transfers, text, bigint) is
  'Takes p_amount of a row for a request: split off if that is not all of it.';
