-- Stripe says how much of a transfer is reversed: some of it ours, the rest somebody else's.

create or replace function marketplace._note_transfer_reversed(p_transfer jsonb)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stripe_id text := marketplace._read_text(p_transfer -> 'id', 255);
  v_reversed bigint := marketplace._read_amount(p_transfer -> 'amount_reversed');
  v_row_id bigint;
  v_ours record;
  v_elsewhere bigint;
  v_acted text[] := '{}'::text[];
begin
  if v_reversed is null or v_stripe_id is null or v_stripe_id !~ '^tr_[A-Za-z0-9]+$' then
    return 'nothing to do: the object is no transfer with an amount reversed';
  end if;
  select t.id into v_row_id from marketplace._rows_of_stripe_transfer(v_stripe_id) as t limit 1;
  if not found then
    -- Sent, and its answer not here yet: then there will be a row.
    select s.id into v_row_id from marketplace._lock_sent_row(p_transfer) as s where s.completed_at is null;
    if found then
      perform marketplace._not_yet(format('transfer %s does not know yet that it was paid', v_row_id));
    end if;
    return format('nothing to do: no row stands for %s', v_stripe_id);
  end if;
  perform marketplace._lock_order_of(v_row_id);

  select
    v_reversed
      - coalesce((select sum(t.amount) from marketplace._rows_of_stripe_transfer(v_stripe_id) as t
                  where t.status = 'reversed'), 0)
      - coalesce((select sum(o.amount) from marketplace._our_reversals(p_transfer) as o
                  where (o.held).status <> 'reversed'), 0)
  into v_elsewhere;
  if v_elsewhere > 0 then
    perform marketplace._require_none_lost(p_transfer);
    perform marketplace._require_nothing_under_way(v_stripe_id);
  end if;
  for v_ours in select o.* from marketplace._our_reversals(p_transfer) as o order by (o.held).id, o.id loop
    v_acted := v_acted || marketplace._note_our_reversal(v_ours.held, v_ours.id);
  end loop;
  if v_elsewhere > 0 then
    v_acted := v_acted || marketplace._adopt_elsewhere(v_stripe_id, v_reversed, v_elsewhere);
  end if;
  if coalesce(cardinality(array_remove(v_acted, null)), 0) = 0 then
    return format('nothing to do: what is reversed of %s is known', v_stripe_id);
  end if;
  return 'acted: ' || left(array_to_string(array_remove(v_acted, null), '; '), 900);
end
$$;

comment on function marketplace._note_transfer_reversed(jsonb) is
  'What a transfer at Stripe, as an event has it, proves about its reversals; in words what it came to. Ours are told by their metadata; what nobody here has made is looked up. Raises ST010 while something of the transfer is under way that may explain it, or was lost by a restore.';

create or replace function marketplace._our_reversals(p_transfer jsonb)
returns table (id text, amount bigint, held marketplace.seller_transfers)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $$
declare
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
begin
  -- Its 10 newest: what is older is known, or found by a look-up. Of rows that handed one obligation on, the last.
  return query
    select distinct on (r.it ->> 'id')
      r.it ->> 'id', coalesce(marketplace._read_amount(r.it -> 'amount'), 0), t
    from jsonb_array_elements(case jsonb_typeof(p_transfer #> '{reversals,data}')
      when 'array' then p_transfer #> '{reversals,data}' else '[]' end) as r (it)
    inner join marketplace._rows_of_stripe_transfer(p_transfer ->> 'id') as t
      on t.stripe_reversal_id = r.it ->> 'id'
      or (t.call_part is not null and r.it #>> '{metadata,seller_transfers_identity}' = marketplace._reversal_identity(
        v_database_id, t.stripe_transfer_id, t.reversal_request_id, t.call_part))
    where coalesce(r.it ->> 'status', 'succeeded') in ('pending', 'succeeded')
      and coalesce(r.it ->> 'id', '') ~ '^trr_[A-Za-z0-9]+$' and length(r.it ->> 'id') <= 254
    order by r.it ->> 'id', t.id desc;
end
$$;

comment on function marketplace._our_reversals(jsonb) is
  'The live reversals that a transfer at Stripe, as an event has it, lists and that are of rows here: id, amount in minor units, row.';

create or replace function marketplace._note_our_reversal(p_row marketplace.seller_transfers, p_reversal_id text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  if (p_row.stripe_reversal_id = p_reversal_id and p_row.status = 'reversed') or exists (
    -- One that has failed since does not come to life again; the event is older than that.
    select from marketplace.transfer_attempts as a
    where a.transfer_id in (select t.id from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t)
      and a.stripe_object_id = p_reversal_id and a.verdict = 'insufficient_balance' and a.disposition = 'applied'
  ) then
    return null;
  elsif p_row.status = 'reversed' then
    perform marketplace._keep_proof(p_row, 'reverse', p_reversal_id, 'moved_twice', format(
      'An event: %s was made for this row as well, which was reversed %s.', p_reversal_id,
      coalesce('by ' || p_row.stripe_reversal_id, 'elsewhere')));
    return format('transfer %s was reversed twice, by %s as well', p_row.id, p_reversal_id);
  elsif p_row.status = 'permanently_failed' then
    if marketplace._continue_on_evidence(p_row, v_now) is null then
      perform marketplace._keep_proof(p_row, 'reverse', p_reversal_id, 'late_success', format(
        'An event: %s was made for this row, which had ended, and another has taken over.', p_reversal_id));
    end if;
    return format('transfer %s had ended and was reversed by %s', p_row.id, p_reversal_id);
  elsif p_row.lease_token is not null then
    perform marketplace._not_yet(format('transfer %s is leased', p_row.id));
  end if;
  if p_row.status = 'reversal_pending' then
    perform marketplace._doubt_row(p_row.id, v_now);
  end if;
  perform pg_notify('seller_transfers_due', '');
  return format('%s is looked up for transfer %s', p_reversal_id, p_row.id);
end
$$;

comment on function marketplace._note_our_reversal(marketplace.seller_transfers, text) is
  'What a reversal of ours that an event lists proves about its row; null if that is known. Raises ST010 while the row is leased.';
