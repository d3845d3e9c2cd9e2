-- By which reversal, made elsewhere, somebody says that a row's money came back: what a look-up makes of that.
--
-- Of a part, enough may be left at Stripe to take it once more, and nothing there says whom a reversal made elsewhere
-- was for: a person does. But whether there is such a reversal, and how much it took, Stripe knows better.

create or replace function marketplace._read_named(
  p_row marketplace.seller_transfers, p_found jsonb, p_family text[], p_foreign_sum bigint,
  out verdict text, out elsewhere bigint, out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_named jsonb;
  v_unused bigint;
  v_flaw text;
begin
  select f.it into v_named
  from jsonb_array_elements(p_found) as f (it) where f.it ->> 'id' = p_row.named_reversal_id;
  -- What was made elsewhere is evidence once.
  select p_foreign_sum - coalesce(sum(t.amount), 0) into v_unused
  from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
  where t.status = 'reversed' and t.stripe_reversal_id is null;
  v_flaw := case
    when v_named is null then 'is no reversal of ' || p_row.stripe_transfer_id
    when v_named #>> '{metadata,seller_transfers_identity}' = any (p_family) or exists (
      select from marketplace.seller_transfers as t where t.stripe_reversal_id = p_row.named_reversal_id
    ) then 'was made here, and not elsewhere'
    when v_named ->> 'status' in ('failed', 'canceled') then 'took nothing back: it is ' || (v_named ->> 'status')
    when v_named ->> 'currency' <> p_row.currency then 'is in ' || (v_named ->> 'currency')
    when v_unused <= 0 and v_named ->> 'status' is distinct from 'pending' then 'stands for other rows already'
  end;
  if v_flaw is not null then
    verdict := 'mismatch';
    words := format('refuted: %s %s. Name the right one by mark_reversed(); or retry_now(), and it is taken back by a '
      'request from here.', p_row.named_reversal_id, v_flaw);
  elsif v_named ->> 'status' = 'pending' then
    verdict := 'unclear';
    words := format('Stripe has not made %s yet.', p_row.named_reversal_id);
  else
    verdict := 'already_reversed';
    elsewhere := least(p_row.amount, marketplace._read_amount(v_named -> 'amount'), v_unused);
    words := format('Reversed elsewhere: %s (%s), as a person said', p_row.named_reversal_id, v_named ->> 'amount');
  end if;
end
$$;

comment on function marketplace._read_named(marketplace.seller_transfers, jsonb, text[], bigint) is
  'Verdict on a look-up for a row whose money somebody says came back by a reversal made elsewhere: already_reversed, as much of the row as that took (elsewhere); mismatch if it did not. p_family: the identities of the row''s family; p_foreign_sum: what others reversed of the transfer.';

create or replace function marketplace._name_reversal(
  p_row marketplace.seller_transfers, p_stripe_reversal_id text, p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update marketplace.seller_transfers
  set named_reversal_id = p_stripe_reversal_id, parked_reason = null, next_retry_at = clock_timestamp()
  where id = p_row.id;
  insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
  values (p_row.id, p_row.status, p_row.status, marketplace._clean_text(
    format('reversed elsewhere by %s, says %s: %s', p_stripe_reversal_id, session_user, p_reason), 1000));
  perform pg_notify('seller_transfers_due', '');
end
$$;

comment on function marketplace._name_reversal(marketplace.seller_transfers, text, text) is
  'Has a row looked up, now, for the reversal by which somebody says that its money came back.';
