-- A person has seen at Stripe that somebody else made a transfer that a row was to make: by hand in the dashboard, say.
--
-- The machine never adopts what does not bear the row's mark, and does not send beside it either: the row is parked.
-- That it is the row's payment only a person can say. If it is not, it is recorded under a transfer_key of its own, and
-- the row is tried again.

create or replace function marketplace.mark_paid(p_id bigint, p_stripe_transfer_id text, p_reason text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_before text;
begin
  perform marketplace._require_stripe_id('p_stripe_transfer_id', p_stripe_transfer_id, array['tr']);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_row := marketplace._lock_order_of(p_id);
  perform marketplace._require_seen_paid(v_row, p_stripe_transfer_id);
  -- Two who give one id to two rows wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('seller-transfers transfer ' || p_stripe_transfer_id, 0));
  perform marketplace._require_free_transfer_id(p_stripe_transfer_id, v_row);

  v_before := marketplace._give_reason(
    format('marked paid by %s, by %s: %s', session_user, p_stripe_transfer_id, p_reason));
  perform marketplace._write_settled(marketplace._done_row(v_row, p_stripe_transfer_id, null, clock_timestamp()));
  perform marketplace._follow_up(p_id, clock_timestamp());
  perform marketplace._give_reason(v_before);
  perform marketplace._hear_again(p_stripe_transfer_id, v_row.order_id);
  return query select t.* from marketplace.seller_transfers as t where t.id = p_id;
end
$$;

comment on function marketplace.mark_paid(bigint, text, text) is
  'Ends the sending of a transfer that is parked because a look-up found one like it, without its mark, at Stripe: by that one it was paid, says a person. The reason is logged, and refunds that wait take it back. Raises ST002 for a row that is not parked for that, or was before nothing of it could be under way any more; 22023 for a transfer that was not found for it, or of another amount; ST003 for that of another row.';

create or replace function marketplace._is_seen_paid(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_row.lease_token is null and p_row.completed_at is null
    and coalesce(starts_with(p_row.parked_reason, 'mismatch:'), false)
    and coalesce((
      select a.action = 'look_up_transfer' and a.verdict = 'mismatch'
        and a.started_at >= coalesce(marketplace._quiet_from(p_row), '-infinity')
      from marketplace.transfer_attempts as a
      where a.transfer_id = p_row.id and a.disposition = 'applied'
      order by a.id desc limit 1), false);
end
$$;

comment on function marketplace._is_seen_paid(marketplace.seller_transfers) is
  'True for an unpaid row that is parked because its last look-up, claimed when nothing of it could be under way any more, found a transfer at Stripe that the machine cannot adopt.';

create or replace function marketplace._require_seen_paid(
  p_row marketplace.seller_transfers, p_stripe_transfer_id text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_quiet_from timestamptz := marketplace._quiet_from(p_row);
begin
  if p_row.status not in ('pending', 'failed') or p_row.parked_reason is null then
    raise exception 'transfer % is % and does not wait for that', p_row.id, p_row.status
      using errcode = 'ST002',
            hint = 'Only what is parked because something like it was found at Stripe is marked. What the app paid itself: record_completed_transfer().',
            schema = 'marketplace', table = 'seller_transfers', column = 'status';
  end if;
  if not marketplace._is_seen_paid(p_row) then
    raise exception 'transfer %: what became of it at Stripe is not certain', p_row.id
      using errcode = 'ST002',
            hint = format('retry_now(p_id => %s, p_reason => ''…''), then wait for the look-up%s.', p_row.id,
              case when v_quiet_from > clock_timestamp()
                then format('; one before %s is too early', date_trunc('second', v_quiet_from)) else '' end),
            schema = 'marketplace', table = 'seller_transfers', column = 'parked_reason';
  end if;
  -- The look-up has put what it found in words, with what it amounts to.
  if p_row.parked_reason !~ format('[[:<:]]%s [(]%s %s[)]', p_stripe_transfer_id, p_row.amount, p_row.currency) then
    raise exception '% was not found for transfer % as % %', p_stripe_transfer_id, p_row.id, p_row.amount, p_row.currency
      using errcode = 'invalid_parameter_value',
            hint = format('Pass one that it is parked for, of its amount. %s', p_row.parked_reason),
            schema = 'marketplace', table = 'seller_transfers', column = 'p_stripe_transfer_id';
  end if;
end
$$;

comment on function marketplace._require_seen_paid(marketplace.seller_transfers, text) is
  'Raises ST002 for a row that is not parked for a transfer that looks like its own, or was too early; 22023 for a transfer that it is not parked for, or of another amount.';
