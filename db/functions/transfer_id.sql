-- A transfer at Stripe that turns out to be the one a row was recorded for.

create or replace function marketplace._require_free_transfer_id(
  p_stripe_transfer_id text, p_row marketplace.seller_transfers
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- An index says this of roots; a successor may stand for what no root has.
  if exists (
    select from marketplace._rows_of_stripe_transfer(p_stripe_transfer_id) as t
    where coalesce(t.root_id, t.id) is distinct from coalesce(p_row.root_id, p_row.id)
      or (t.made_for is not null and t.id <> p_row.id)
  ) then
    raise exception 'transfer % belongs to another row', p_stripe_transfer_id
      using errcode = 'ST003',
            hint = 'One transfer at Stripe is one row. Look it up in marketplace.seller_transfers.',
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id',
            constraint = 'idx_seller_transfers_stripe_transfer_id';
  end if;
end
$$;

comment on function marketplace._require_free_transfer_id(text, marketplace.seller_transfers) is
  'Raises ST003 if a row of another family stands for this transfer at Stripe. The order is locked.';

create or replace function marketplace._require_id_of_family(
  p_row marketplace.seller_transfers, p_stripe_transfer_id text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_known marketplace.seller_transfers;
begin
  -- Whichever part was given it first: what was recorded as paid at once was one transfer at Stripe.
  select f.* into v_known from marketplace._family(coalesce(p_row.root_id, p_row.id)) as f
  where f.stripe_transfer_id <> p_stripe_transfer_id limit 1;
  if found then
    raise exception 'transfer % is of the same as transfer %, which stands for %, not %',
      p_row.id, v_known.id, v_known.stripe_transfer_id, p_stripe_transfer_id
      using errcode = 'ST003',
            hint = format('Pass %s, which transfer %s has.', v_known.stripe_transfer_id, v_known.id),
            schema = 'marketplace', table = 'seller_transfers', column = 'stripe_transfer_id';
  end if;
end
$$;

comment on function marketplace._require_id_of_family(marketplace.seller_transfers, text) is
  'Raises ST003 if a part of a transfer that was recorded without its Stripe id was given another id than this. The order is locked.';

create or replace function marketplace._add_transfer_id(
  p_row marketplace.seller_transfers, p_stripe_transfer_id text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_top marketplace.seller_transfers := p_row;
  v_id bigint;
begin
  -- A slice has the id of the row it was split from: from the first of them down, each after the one before it.
  while v_top.split_from is not null loop
    select t.* into strict v_top from marketplace.seller_transfers as t where t.id = v_top.split_from;
  end loop;
  for v_id in
    with recursive parts (id) as (
      select v_top.id
      union all
      select t.id from parts as p inner join marketplace.seller_transfers as t on t.split_from = p.id
      where t.root_id = coalesce(v_top.root_id, v_top.id)
    )
    select p.id from parts as p order by p.id
  loop
    update marketplace.seller_transfers
    set stripe_transfer_id = p_stripe_transfer_id
    where id = v_id and status in ('completed', 'reversal_pending') and coalesce(stripe_transfer_id, '') = '';
  end loop;
  perform marketplace._note_follower(p_row, format('it is %s at Stripe', p_stripe_transfer_id));
end
$$;

comment on function marketplace._add_transfer_id(marketplace.seller_transfers, text) is
  'Gives a paid row that was recorded without it, and what was split off it, the id of its transfer at Stripe.';
