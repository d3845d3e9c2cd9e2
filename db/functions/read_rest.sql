-- A look-up that found nothing of the row's own: is there enough left to take, and who took the rest?

create or replace function marketplace._read_rest(
  p_row marketplace.seller_transfers, p_transfer jsonb, p_live_sum bigint, p_foreign_sum bigint,
  p_foreign_pending boolean, p_foreign_words text, out verdict text, out elsewhere bigint, out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_left bigint := marketplace._read_amount(p_transfer -> 'amount') - p_live_sum;
  v_unused bigint;
begin
  -- What was made elsewhere is evidence once; siblings may have used some of it.
  select p_foreign_sum - coalesce(sum(s.amount), 0) into v_unused
  from marketplace._family(coalesce(p_row.root_id, p_row.id)) as s
  where s.stripe_transfer_id = p_row.stripe_transfer_id
    and s.status = 'reversed' and s.stripe_reversal_id is null;
  if p_transfer ->> 'currency' is distinct from p_row.currency then
    verdict := 'mismatch';
    words := format('mismatch: at Stripe the transfer is in %s, here in %s',
      coalesce(left(p_transfer ->> 'currency', 20), 'no currency'), p_row.currency);
  elsif p_transfer ->> 'destination' <> p_row.destination_account then
    verdict := 'mismatch';
    words := format('mismatch: at Stripe the transfer is to %s, here to %s: is it the right one?',
      left(p_transfer ->> 'destination', 255), p_row.destination_account);
  elsif exists (
    select from marketplace.reversal_requests as r
    where r.reversal_request_id = p_row.reversal_request_id and r.is_evidence
  ) then
    -- Nothing is asked for: what counts is not what is left, but what was made.
    select e.* into verdict, elsewhere, words
    from marketplace._read_evidence(p_row, v_unused, p_foreign_pending, p_foreign_words) as e;
  elsif v_left >= p_row.amount then
    verdict := 'absent';
  elsif p_foreign_pending then
    verdict := 'unclear';
    words := format('Somebody else''s reversal of this transfer is under way at Stripe: %s', p_foreign_words);
  else
    elsewhere := p_row.amount - v_left;
    if elsewhere <= v_unused then
      verdict := 'already_reversed';
      words := format('Reversed elsewhere: %s', p_foreign_words);
    else
      verdict := 'mismatch';
      words := format('mismatch: %s is left of the transfer at Stripe, less than the %s of this row, and no reversal made elsewhere explains it',
        v_left, p_row.amount);
    end if;
  end if;
end
$$;

comment on function marketplace._read_rest(
  marketplace.seller_transfers, jsonb, bigint, bigint, boolean, text
) is 'Verdict on a look-up that found nothing of the row''s own: absent if enough is left to take, already_reversed if others took it.';
