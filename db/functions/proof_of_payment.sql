-- Stripe says that a transfer was made: proof for a row that does not know it was paid.

create or replace function marketplace._note_transfer_created(p_transfer jsonb)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stripe_id text := marketplace._read_text(p_transfer -> 'id', 255);
  v_row marketplace.seller_transfers;
  v_now timestamptz;
begin
  if v_stripe_id is null or v_stripe_id !~ '^tr_[A-Za-z0-9]+$' then
    return 'nothing to do: the object has no id of a transfer';
  end if;
  select s.* into v_row from marketplace._lock_sent_row(p_transfer) as s;
  if v_row.id is null then
    return format('nothing to do: %s was not sent for a row of this database', v_stripe_id);
  end if;
  v_now := clock_timestamp();

  if v_row.completed_at is not null then
    if v_row.stripe_transfer_id = v_stripe_id then
      return format('nothing to do: transfer %s is known to be paid by %s', v_row.id, v_stripe_id);
    end if;
    perform marketplace._keep_proof(v_row, 'send', v_stripe_id, 'moved_twice', format(
      'An event: %s was made for this row as well, which was paid by %s.',
      v_stripe_id, coalesce(v_row.stripe_transfer_id, 'another one')));
    return format('acted: transfer %s was paid twice, by %s as well', v_row.id, v_stripe_id);
  elsif v_row.status = 'permanently_failed' then
    if marketplace._continue_on_evidence(v_row, v_now) is null then
      perform marketplace._keep_proof(v_row, 'send', v_stripe_id, 'late_success', format(
        'An event: %s was made for this row, which had ended, and another has taken over.', v_stripe_id));
    end if;
    return format('acted: transfer %s had ended and was paid by %s', v_row.id, v_stripe_id);
  elsif v_row.lease_token is not null then
    perform marketplace._not_yet(format('transfer %s is leased', v_row.id));
  end if;
  perform marketplace._doubt_row(v_row.id, v_now);
  perform pg_notify('seller_transfers_due', '');
  return format('acted: %s is looked up for transfer %s', v_stripe_id, v_row.id);
end
$$;

comment on function marketplace._note_transfer_created(jsonb) is
  'What a transfer at Stripe, as an event has it, proves about the row it was sent for; in words what it came to. Raises ST010 while the row is leased.';

create or replace function marketplace._lock_sent_row(p_transfer jsonb)
returns setof marketplace.seller_transfers
language plpgsql
rows 1
set search_path = pg_catalog, pg_temp
as $$
declare
  v_identity text := p_transfer #>> '{metadata,seller_transfers_identity}';
  v_root marketplace.seller_transfers;
begin
  if v_identity is null then
    return;
  end if;
  select t.* into v_root from marketplace.seller_transfers as t
  where t.transfer_key = p_transfer #>> '{metadata,transfer_key}';
  if not found then
    return;
  end if;
  v_root := marketplace._lock_order_of(v_root.id);
  return query select s.* from marketplace._row_sent_as(v_root.id, v_root.transfer_key, v_identity) as s;
end
$$;

comment on function marketplace._lock_sent_row(jsonb) is
  'The row that this transfer at Stripe was sent for, told by our metadata, with its order locked; no row if it is not ours.';

create or replace function marketplace._row_sent_as(p_root_id bigint, p_transfer_key text, p_identity text)
returns setof marketplace.seller_transfers
language plpgsql
stable
rows 2
set search_path = pg_catalog, pg_temp
as $$
declare
  v_database_id uuid := (select c.database_id from marketplace.stripe_control as c);
begin
  -- Slices are not sent: what an unpaid row gives away is not paid at all. Nor is what took over from a paid row. Of those
  -- that handed one obligation on, the last has it.
  return query
    select k.* from marketplace._rows_of_key(p_root_id) as k
    where k.split_from is null
      and not exists (
        select from marketplace.seller_transfers as b where b.id = k.successor_of and b.completed_at is not null)
      and marketplace._send_identity(v_database_id, p_transfer_key, k.made_for) = p_identity
    order by k.id desc
    limit 1;
end
$$;

comment on function marketplace._row_sent_as(bigint, text, text) is
  'The row of a transfer_key, by its root, that was sent under this identity; no row if none was.';

create or replace function marketplace._not_yet(p_why text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'not yet: %', p_why
    using errcode = 'ST010', hint = 'Nothing was done: try again when what is under way is known.';
end
$$;

comment on function marketplace._not_yet(text) is 'Raises ST010: what an event says cannot be acted on yet.';
