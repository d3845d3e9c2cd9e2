-- What a look-up saw, and what follows from it.
--
-- A look-up counts only if it is complete: every page was read, and the live reversals sum to what Stripe says is
-- reversed. What is ours is told by the identity in its metadata, or by its id where that is known. Where nothing of
-- ours is found, the answer is an absence as of the moment the look-up was claimed, for it may have been read at any
-- time after that.

create or replace function marketplace._read_look_up(
  p_outcome marketplace.stripe_outcome, p_row marketplace.seller_transfers, p_now timestamptz,
  out verdict text, out reversal_id text, out elsewhere bigint, out words text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
  v_identity text := marketplace._reversal_identity(
    v_database_id, p_row.stripe_transfer_id, p_row.reversal_request_id, p_row.call_part);
  v_family text[] := array(
    select marketplace._reversal_identity(v_database_id, s.stripe_transfer_id, s.reversal_request_id, s.call_part)
    from marketplace.seller_transfers as s
    where (s.root_id = coalesce(p_row.root_id, p_row.id) or s.id = coalesce(p_row.root_id, p_row.id))
      and s.reversal_request_id is not null and s.call_part is not null);
  v_seen record;
begin
  verdict := marketplace._verdict_without_success(p_outcome);
  if verdict is not null then
    if verdict = 'not_found' and (
      p_row.stripe_reversal_id is not null
      or (p_row.call_unknown and p_row.leased_at < marketplace._quiet_from(p_row))
    ) then
      -- Stripe holds a reversal, or may be making one, of a transfer that it does not know: rather the key is wrong.
      verdict := 'unclear';
    end if;
    return;
  end if;

  verdict := 'unclear';
  if p_outcome.found is null
    or p_outcome.object ->> 'object' is distinct from 'transfer'
    or p_outcome.object ->> 'id' is distinct from p_row.stripe_transfer_id then
    words := coalesce(p_outcome.error_message, 'The list of reversals could not be read to its end.');
    return;
  end if;
  select * into v_seen from marketplace._reversals_seen(p_outcome.found, p_row, v_identity, v_family);
  if not v_seen.readable
    or marketplace._read_amount(p_outcome.object -> 'amount') is null
    or marketplace._read_amount(p_outcome.object -> 'amount_reversed') is null then
    words := 'The transfer has no amounts, or its list of reversals has one that cannot be read or comes twice.';
    return;
  end if;
  -- Whether Stripe counts what is pending is not documented.
  if marketplace._read_amount(p_outcome.object -> 'amount_reversed')
    not in (v_seen.live_sum, v_seen.live_sum - v_seen.pending_sum) then
    words := format('The list of reversals sums to %s; Stripe says that %s is reversed.',
      v_seen.live_sum, p_outcome.object ->> 'amount_reversed');
    return;
  end if;

  if v_seen.ours_live > 1 then
    verdict := 'moved_twice';
    words := format('moved_twice: Stripe has %s live reversals for this one: %s', v_seen.ours_live, v_seen.ours_ids);
  elsif v_seen.ours_live = 1 then
    reversal_id := v_seen.ours_id;
    if not v_seen.ours_fits
      or p_row.stripe_reversal_id <> v_seen.ours_id
      or exists (
        select from marketplace.seller_transfers as t
        where t.stripe_reversal_id = v_seen.ours_id and t.id <> p_row.id) then
      verdict := 'mismatch';
      words := format('mismatch: Stripe has %s under this row''s identity, which is not the reversal asked for: %s',
        v_seen.ours_id, v_seen.ours_words);
    else
      verdict := case when v_seen.ours_pending then 'accepted' else 'succeeded' end;
    end if;
  elsif p_now >= p_row.lease_expires_at then
    words := 'The look-up was reported after its lease had run out.';
  elsif p_row.stripe_reversal_id is not null and not p_row.stripe_reversal_id = any (v_seen.failed_ids) then
    words := format('Stripe does not list %s, which it had accepted.', p_row.stripe_reversal_id);
  elsif p_row.stripe_reversal_id is not null or v_seen.failed_id is not null then
    verdict := 'insufficient_balance';
    reversal_id := coalesce(p_row.stripe_reversal_id, v_seen.failed_id);
    words := 'Stripe accepted the reversal and could not make it: the seller''s balance did not cover it.';
  else
    if p_row.named_reversal_id is null and marketplace._is_unwanted(p_row) then
      -- What of ours was lost is no evidence of what others made: its request finds it, once that is asked again. For one
      -- that was withdrawn it would be given back, and count twice.
      select * into v_seen from marketplace._reversals_seen(
        marketplace._without_lost(p_outcome.found, p_row, v_family), p_row, v_identity, v_family);
    end if;
    if p_row.named_reversal_id is not null then
      select * into verdict, elsewhere, words
      from marketplace._read_named(p_row, p_outcome.found, v_family, v_seen.foreign_sum);
    else
      select * into verdict, elsewhere, words
      from marketplace._read_rest(
        p_row, p_outcome.object, v_seen.live_sum, v_seen.foreign_sum, v_seen.foreign_pending, v_seen.foreign_words);
    end if;
    if verdict = 'already_reversed' and p_row.call_unknown and p_row.leased_at < marketplace._quiet_from(p_row) then
      -- A request of ours may still be under way, and the other reversal may fail before it arrives.
      verdict := 'unclear';
    elsif verdict = 'already_reversed' and marketplace._may_be_asked_again(p_row, p_outcome.found, v_family) then
      verdict := 'unclear';
      words := 'A request that this database has lost took some of it: that may be asked again, or this one withdrawn.';
    elsif verdict = 'absent' and not marketplace._is_unwanted(p_row) then
      select 'mismatch', w.said into verdict, words
      from marketplace._lost_of_same_cause(p_outcome.found, p_row, v_family) as w (said) where w.said is not null;
      verdict := coalesce(verdict, 'absent');
    end if;
  end if;
end
$$;

comment on function marketplace._read_look_up(
  marketplace.stripe_outcome, marketplace.seller_transfers, timestamptz
) is 'Verdict on a look-up: what it found of this row''s (reversal_id), how much of the row was reversed elsewhere, in words for a person.';
