-- A list of an account's transfers as a look-up reports it: which of them is the row's.

create or replace function marketplace._transfers_seen(
  p_found jsonb, p_row marketplace.seller_transfers, p_identity text, p_transfer_key text, p_of_key text[],
  out readable boolean, out ours bigint, out ours_id text, out ours_words text, out ours_fits boolean,
  out ours_group text, out ours_reversed bigint, out alike_words text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with listed as (
    select
      f.it ->> 'id' as id,
      f.it #>> '{metadata,seller_transfers_identity}' as identity,
      f.it #>> '{metadata,transfer_key}' as transfer_key,
      coalesce(marketplace._read_amount(f.it -> 'amount'), 0) as amount,
      coalesce(marketplace._read_amount(f.it -> 'amount_reversed'), 0) as reversed,
      f.it ->> 'transfer_group' as transfer_group,
      format('%s (%s %s)', f.it ->> 'id', f.it ->> 'amount', left(f.it ->> 'currency', 20)) as words,
      marketplace._is_transfer(f.it) and marketplace._read_amount(f.it -> 'amount') is not null as readable,
      marketplace._fits_send(f.it, p_row) as fits
    from jsonb_array_elements(p_found) as f (it)
  ), told as (
    select
      l.*,
      -- Of several, one that was taken back in full is none any more.
      coalesce(l.identity = p_identity, false) and (
        l.reversed < l.amount
        or not coalesce(bool_or(l.reversed < l.amount) filter (where l.identity = p_identity) over (), false)
      ) as ours
    from listed as l
  )
  select
    coalesce(bool_and(l.readable), true) and count(*) = count(distinct l.id),
    count(*) filter (where l.ours),
    min(l.id) filter (where l.ours),
    left(string_agg(l.words, ', ' order by l.id) filter (where l.ours), 500),
    coalesce(bool_and(l.fits) filter (where l.ours), false),
    left(min(l.transfer_group) filter (where l.ours), 255),
    max(l.reversed) filter (where l.ours),
    -- Without any mark of ours. One with a mark is another row's, or of this key and none of its rows is here any more.
    left(string_agg(l.words, ', ' order by l.id) filter (
      where not marketplace._is_recorded(l.id) and case
        when l.identity is null then
          l.fits and (p_row.source_charge is not null or l.transfer_group is not distinct from p_row.order_id)
        else l.transfer_key = p_transfer_key and l.identity <> all (p_of_key)
      end), 500)
  from told as l
$$;

comment on function marketplace._transfers_seen(jsonb, marketplace.seller_transfers, text, text, text[]) is
  'A reported list of transfers in one row: whether it can be read, what bears the row''s identity, and what looks like it and is no row''s. p_of_key: the identities of all rows of p_transfer_key.';

create or replace function marketplace._read_transfer_look_up(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_now timestamptz,
  out verdict text, out object_id text, out transfer_group text, out reversed bigint, out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_seen record;
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
  v_key text := marketplace._family_key(p_row);
begin
  verdict := marketplace._verdict_without_success(p_outcome);
  if verdict is not null then
    return;
  end if;
  verdict := 'unclear';
  if p_outcome.found is null then
    words := coalesce(p_outcome.error_message, 'The list of transfers could not be read to its end.');
    return;
  end if;
  select * into v_seen from marketplace._transfers_seen(
    p_outcome.found, p_row, marketplace._send_identity(v_database_id, v_key, p_row.made_for), v_key,
    array(
      select marketplace._send_identity(v_database_id, v_key, k.made_for)
      from marketplace._rows_of_key(marketplace._key_root(p_row)) as k));
  if not v_seen.readable then
    words := 'The list of transfers has one that cannot be read or comes twice.';
    return;
  end if;

  if v_seen.ours > 1 then
    verdict := 'moved_twice';
    words := format('moved_twice: Stripe has %s transfers for this one: %s', v_seen.ours, v_seen.ours_words);
  elsif v_seen.ours = 1 then
    object_id := v_seen.ours_id;
    transfer_group := v_seen.ours_group;
    reversed := v_seen.ours_reversed;
    if not marketplace._may_give_up(p_row.leased_at) then
      verdict := 'unclear';
      words := format('Stripe has %s; what a lost history did with it may still arrive there.', object_id);
    elsif object_id = p_row.stripe_transfer_id or (v_seen.ours_fits and not marketplace._is_recorded(object_id)) then
      verdict := 'succeeded';
    elsif not marketplace._is_recorded(object_id)
      and marketplace._rest_beside(p_row, marketplace._listed(p_outcome.found, object_id)) <> 0 then
      if p_now < p_row.lease_expires_at and p_row.leased_at >= coalesce(marketplace._quiet_from(p_row), '-infinity') then
        verdict := 'succeeded';
        words := concat('Stripe has ' || v_seen.ours_words, '; also ' || v_seen.alike_words);
      else
        words := format('Stripe has %s for this one; more of it may still arrive there.', v_seen.ours_words);
      end if;
    else
      verdict := 'mismatch';
      words := format('mismatch: Stripe has %s under this row''s identity, which is not the transfer asked for: %s',
        object_id, v_seen.ours_words);
    end if;
  elsif v_seen.alike_words is not null then
    verdict := 'mismatch';
    words := format('mismatch: Stripe has what looks like this transfer and is no row''s here: %s', v_seen.alike_words);
  elsif p_now >= p_row.lease_expires_at then
    words := 'The look-up was reported after its lease had run out.';
  elsif not marketplace._is_key_known(p_row.leased_by) then
    words := 'Nothing was found, but the runner''s key may not say whose it is, and has not been answered for anything of ours yet.';
  else
    verdict := 'absent';
  end if;
end
$$;

comment on function marketplace._read_transfer_look_up(
  marketplace.stripe_outcome, marketplace.seller_transfers, timestamptz
) is 'Verdict on a look-up for a send: what it found of this row''s (object_id), in words for a person.';
