-- Money that somebody took back at Stripe, in the dashboard say, without asking here: looked up, never called for.
--
-- What is missing is taken from what is paid and not asked back, for a request that is evidence only. Its rows end
-- reversed if the look-up finds what was made elsewhere; if it does not, successors take over and nothing has happened.

create or replace function marketplace._adopt_elsewhere(
  p_stripe_transfer_id text, p_reversed bigint, p_amount bigint
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_base text := format('elsewhere:%s:%s', p_stripe_transfer_id, p_reversed);
  v_request text := v_base;
  v_count integer := 1;
  v_row marketplace.seller_transfers;
  v_rest bigint := p_amount;
  v_amount bigint;
  v_before text;
begin
  while exists (select from marketplace.reversal_requests as r where r.reversal_request_id = v_request) loop
    -- What a look-up did not find has not happened, whoever tells of it again. But where all was found, a refund that
    -- failed since may have had the rest.
    if exists (
      select from marketplace._rows_of_stripe_transfer(p_stripe_transfer_id) as t
      where t.reversal_request_id = v_request and t.status <> 'reversed'
    ) then
      return null;
    end if;
    v_count := v_count + 1;
    v_request := v_base || ':' || v_count;
  end loop;
  insert into marketplace.reversal_requests (reversal_request_id, order_id, reason, is_whole, is_evidence)
  select v_request, t.order_id, 'manual', false, true
  from marketplace._rows_of_stripe_transfer(p_stripe_transfer_id) as t
  where t.status = 'completed'
  limit 1;
  if not found then
    -- Nothing is left that it could have been taken from.
    return null;
  end if;
  v_before := marketplace._add_reason(format('%s of %s were reversed elsewhere', p_amount, p_stripe_transfer_id));
  for v_row in
    select t.* from marketplace._rows_of_stripe_transfer(p_stripe_transfer_id) as t
    where t.status = 'completed' order by t.id
  loop
    exit when v_rest = 0;
    v_amount := least(v_rest, v_row.amount);
    perform marketplace._take_row(v_row, v_request, v_amount);
    v_rest := v_rest - v_amount;
  end loop;
  perform marketplace._give_reason(v_before);
  perform pg_notify('seller_transfers_due', '');
  return format('%s of %s were reversed elsewhere; looked up as %s', p_amount - v_rest, p_stripe_transfer_id, v_request);
end
$$;

comment on function marketplace._adopt_elsewhere(text, bigint, bigint) is
  'Sets p_amount of what is paid by a transfer at Stripe on its way to be found reversed elsewhere; in words what it came to, null if nothing. p_reversed: what Stripe says is reversed in all. The order is locked and nothing of the transfer is under way.';

create or replace function marketplace._take_for_withdrawn(p_row marketplace.seller_transfers, p_reversed bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_lost boolean := exists (select from marketplace.stripe_control as c where c.look_up_first_since is not null);
  v_line record;
  v_row marketplace.seller_transfers;
  v_rest bigint := p_reversed;
  v_amount bigint;
begin
  -- A lost history may have taken it for a request that was withdrawn here before it was known what there is to take:
  -- under that request it is found, and given back.
  for v_line in
    select w.* from (
      select r.reversal_request_id, r.requested_at, l.unmet, l.transfer_id
      from marketplace.reversal_request_lines as l
      inner join marketplace.reversal_requests as r on r.reversal_request_id = l.reversal_request_id
      where l.transfer_id = any (marketplace._families_of_key(marketplace._key_root(p_row)))
        and l.unmet > 0 and r.withdrawn_at is not null
      union all
      select r.reversal_request_id, r.requested_at, p_row.amount, coalesce(p_row.root_id, p_row.id)
      from marketplace.reversal_requests as r
      where r.order_id = p_row.order_id and r.is_whole and r.withdrawn_at is not null and p_reversed >= p_row.amount
    ) as w
    order by w.requested_at, w.reversal_request_id
  loop
    select t.* into v_row from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
    where t.status = 'completed' order by t.id limit 1;
    exit when not found or v_rest = 0;
    v_amount := least(v_line.unmet, v_rest, v_row.amount);
    -- With no history lost that is known of, somebody else may have taken it, and nobody pays that again: then enough is
    -- left to be looked for as that, for the look-ups to tell the two apart.
    exit when not v_is_lost and v_row.amount - v_amount < v_rest;
    perform marketplace._take_row(v_row, v_line.reversal_request_id, v_amount);
    perform marketplace._note_taken(v_line.reversal_request_id, v_line.transfer_id, v_amount);
    v_rest := v_rest - v_amount;
  end loop;
end
$$;

comment on function marketplace._take_for_withdrawn(marketplace.seller_transfers, bigint) is
  'Sets what withdrawn requests may have taken of a transfer that was found reversed on its way to be looked for. The order is locked.';

create or replace function marketplace._read_evidence(
  p_row marketplace.seller_transfers, p_left_to_explain bigint, p_foreign_pending boolean, p_foreign_words text,
  out verdict text, out elsewhere bigint, out words text
)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_left_to_explain > 0 then
    verdict := 'already_reversed';
    elsewhere := least(p_row.amount, p_left_to_explain);
    words := format('Reversed elsewhere: %s', p_foreign_words);
  elsif p_foreign_pending then
    verdict := 'unclear';
    words := format('Somebody else''s reversal of this transfer is under way at Stripe: %s', p_foreign_words);
  else
    verdict := 'absent';
  end if;
end
$$;

comment on function marketplace._read_evidence(marketplace.seller_transfers, bigint, boolean, text) is
  'Verdict on a look-up for a row that is evidence only: reversed as far as reversals made elsewhere, and not used for other rows, go.';
