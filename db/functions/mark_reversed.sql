-- A person has seen at Stripe what the machine cannot tell: by which reversal a row's money came back.
--
-- Two ways lead here. Of a row that is parked, Stripe was seen to have reversals of ours: the person says which of them
-- stands for the row. Of any other row it is certain that we made none: somebody made one elsewhere, in the dashboard
-- say. Whether that is so, and how much it took, a look-up says before the row ends. stripe_reversal_id is ours only:
-- the id of that one goes into the message.

create or replace function marketplace.mark_reversed(p_id bigint, p_stripe_reversal_id text, p_reason text)
returns setof marketplace.seller_transfers
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row marketplace.seller_transfers;
  v_before text;
begin
  perform marketplace._require_stripe_id('p_stripe_reversal_id', p_stripe_reversal_id, array['trr']);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  perform marketplace._notice_change();
  v_row := marketplace._lock_order_of(p_id);
  perform marketplace._require_reversal_pending(v_row);
  -- Two who give one id to two rows wait for each other.
  perform pg_advisory_xact_lock(hashtextextended('seller-transfers reversal ' || p_stripe_reversal_id, 0));
  perform marketplace._require_free_reversal_id(p_stripe_reversal_id, v_row);

  if marketplace._is_seen(v_row) then
    perform marketplace._require_reversal_of_ours(p_stripe_reversal_id, v_row);
    v_before := marketplace._give_reason(
      format('marked reversed by %s, by %s: %s', session_user, p_stripe_reversal_id, p_reason));
    perform marketplace._write_settled(marketplace._reversed_row(v_row, p_stripe_reversal_id, null));
    perform marketplace._give_reason(v_before);
  else
    -- Whoever named another one before may correct that.
    v_row.named_reversal_id := null;
    perform marketplace._require_not_made(v_row);
    perform marketplace._require_reversal_of_others(p_stripe_reversal_id, v_row);
    if v_row.stripe_transfer_id is not null then
      perform marketplace._name_reversal(v_row, p_stripe_reversal_id, p_reason);
      return query select t.* from marketplace.seller_transfers as t where t.id = p_id;
      return;
    end if;
    -- Recorded without the id of its transfer, it cannot be looked up.
    perform marketplace._write_settled(marketplace._reversed_row(v_row, null, marketplace._clean_text(
      format('Reversed elsewhere: %s (%s). Marked by %s: %s', p_stripe_reversal_id, v_row.amount, session_user, p_reason),
      1000)));
  end if;
  perform marketplace._follow_up(p_id, clock_timestamp());
  return query select t.* from marketplace.seller_transfers as t where t.id = p_id;
end
$$;

comment on function marketplace.mark_reversed(bigint, text, text) is
  'Says by which reversal at Stripe a reversal_pending transfer came back. One of ours, named where the row is parked for it, ends the row as reversed. One made elsewhere is looked up first: the row ends reversed as far as that one took its money back, and failure_message keeps the id; if it did not, the row is parked and says so. The reason is logged. Raises ST002 for a row that is not on its way back, and while a request for it may have been executed, or may be; ST003 for the reversal of another row.';

create or replace function marketplace._require_reversal_pending(p_row marketplace.seller_transfers)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_open(p_row);
  if p_row.status <> 'reversal_pending' then
    raise exception 'transfer % is %: there is nothing to take back', p_row.id, p_row.status
      using errcode = 'ST002',
            hint = format('It is not paid. To have it not paid at all: give_up(p_id => %s, p_reason => ''…'').', p_row.id),
            schema = 'marketplace', table = 'seller_transfers', column = 'status';
  end if;
end
$$;

comment on function marketplace._require_reversal_pending(marketplace.seller_transfers) is
  'Raises ST002 for a row that is not on its way back.';

create or replace function marketplace._is_seen(p_row marketplace.seller_transfers)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_row.lease_token is null
    and coalesce(p_row.parked_reason ~ '^(moved_twice|mismatch):', false)
    and coalesce((
      select a.action = 'look_up_reversals' and a.verdict in ('moved_twice', 'mismatch')
        and a.started_at >= coalesce(marketplace._quiet_from(p_row), '-infinity')
      from marketplace.transfer_attempts as a
      where a.transfer_id = p_row.id and a.disposition = 'applied'
      order by a.id desc limit 1), false);
end
$$;

comment on function marketplace._is_seen(marketplace.seller_transfers) is
  'True for a row that is parked because its last look-up, claimed when nothing of it could be under way any more, found reversals of ours that the machine cannot adopt.';

create or replace function marketplace._require_free_reversal_id(
  p_stripe_reversal_id text, p_row marketplace.seller_transfers
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  select t.id into v_id from marketplace.seller_transfers as t
  where t.stripe_reversal_id = p_stripe_reversal_id and t.id <> p_row.id;
  if not found then
    -- Or what others made: that is named in words.
    select t.id into v_id from marketplace._rows_of_stripe_transfer(p_row.stripe_transfer_id) as t
    where t.id <> p_row.id and (t.named_reversal_id = p_stripe_reversal_id or (
      t.status = 'reversed' and t.stripe_reversal_id is null
      and t.failure_message ~ ('[[:<:]]' || p_stripe_reversal_id || '[[:>:]]')))
    limit 1;
  end if;
  if v_id is not null then
    raise exception '% is the reversal of transfer %', p_stripe_reversal_id, v_id
      using errcode = 'ST003',
            hint = format('One reversal is evidence for one row. If it took back more than that row: retry_now(p_id => %s, '
              'p_reason => ''…''), and the look-up counts what is left of it.', p_row.id),
            schema = 'marketplace', table = 'seller_transfers', constraint = 'uq_seller_transfers_stripe_reversal_id';
  end if;
end
$$;

comment on function marketplace._require_free_reversal_id(text, marketplace.seller_transfers) is
  'Raises ST003 for a reversal at Stripe that is evidence for another row.';
