-- What never changes of a transfer, and nothing any more once it has ended.

create or replace function marketplace.tg_seller_transfers__guard_frozen()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column text;
begin
  if NEW is not distinct from OLD then
    return NEW;
  end if;

  if OLD.status in ('reversed', 'permanently_failed') then
    raise exception 'transfer % is % and stays as it is', OLD.id, OLD.status
      using errcode = 'ST002',
            hint = case OLD.status
              when 'reversed' then 'It is evidence. add_note() adds to its log; if its request fails, withdraw_reversal_request() pays it again.'
              else 'It is evidence. add_note() adds to its log; reopen() lets a successor go on with it.' end,
            schema = tg_table_schema, table = tg_table_name;
  end if;

  v_column := case
    when NEW.id <> OLD.id then 'id'
    when NEW.transfer_key is distinct from OLD.transfer_key then 'transfer_key'
    when NEW.order_id <> OLD.order_id then 'order_id'
    when NEW.seller_id <> OLD.seller_id then 'seller_id'
    when NEW.destination_account <> OLD.destination_account then 'destination_account'
    when NEW.source_charge is distinct from OLD.source_charge then 'source_charge'
    when NEW.original_amount <> OLD.original_amount then 'original_amount'
    when NEW.root_id is distinct from OLD.root_id then 'root_id'
    when NEW.split_from is distinct from OLD.split_from then 'split_from'
    when NEW.successor_of is distinct from OLD.successor_of then 'successor_of'
    when NEW.compensates is distinct from OLD.compensates then 'compensates'
    when NEW.made_for is distinct from OLD.made_for then 'made_for'
    -- A row gives to a slice; that the slice has it is asked at commit. One that may be being paid has none to give.
    when NEW.amount > OLD.amount then 'amount'
    when NEW.amount < OLD.amount and (
      NEW.status <> OLD.status
      or (OLD.status in ('pending', 'failed') and marketplace._may_be_under_way(OLD))
    ) then 'amount'
    when NEW.currency <> OLD.currency then 'currency'
    when NEW.created_at <> OLD.created_at then 'created_at'
    -- Paid is what becomes completed, and then it stays paid.
    when NEW.completed_at is distinct from OLD.completed_at
      and (OLD.completed_at is not null or NEW.status <> 'completed')
      then 'completed_at'
    when NEW.stripe_transfer_id is distinct from OLD.stripe_transfer_id and (
      OLD.stripe_transfer_id is not null
      or (NEW.split_from is not null and NEW.stripe_transfer_id is distinct from (
        select t.stripe_transfer_id from marketplace.seller_transfers as t where t.id = NEW.split_from))
    ) then 'stripe_transfer_id'
    when NEW.stripe_transfer_group is distinct from OLD.stripe_transfer_group and OLD.stripe_transfer_group is not null
      then 'stripe_transfer_group'
    when NEW.reversal_request_id is distinct from OLD.reversal_request_id and OLD.reversal_request_id is not null
      then 'reversal_request_id'
    -- A reversal that Stripe itself reports failed or canceled is the one that may be taken off again.
    when NEW.stripe_reversal_id is distinct from OLD.stripe_reversal_id and OLD.stripe_reversal_id is not null
      and not (NEW.stripe_reversal_id is null and NEW.streak_verdict is not distinct from 'insufficient_balance')
      then 'stripe_reversal_id'
    -- The key of an obligation: its part stays, its generations go up, and a generation's parameters are what was
    -- sent. A new obligation begins where a paid row is asked back.
    when OLD.status = 'completed' and NEW.status = 'reversal_pending' then null
    when NEW.call_part is distinct from OLD.call_part and OLD.call_part is not null then 'call_part'
    when NEW.call_generation < OLD.call_generation then 'call_generation'
    when NEW.call_params is distinct from OLD.call_params and OLD.call_params is not null
      and NEW.call_generation is not distinct from OLD.call_generation
      then 'call_params'
  end;

  if v_column is not null then
    raise exception 'column % of transfer % may not change like that', v_column, OLD.id
      using errcode = 'ST002',
            hint = case
              when v_column = 'stripe_transfer_id' then 'It stays as recorded; reopen() gives one to a row that has none.'
              when v_column = 'stripe_reversal_id' then 'It stays as recorded; mark_reversed() says by which reversal a row came back.'
              when v_column = 'amount' then 'Money leaves a row by request_reversal() only; what is new is a row of its own: create_transfer().'
              when v_column = 'reversal_request_id' or v_column like 'call%' then
                'What was asked of Stripe stays as it was: withdraw_reversal_request() takes a request back, reopen() begins anew.'
              else 'Who is paid how much stays as recorded; what is new is a row of its own: create_transfer().' end,
            schema = tg_table_schema, table = tg_table_name, column = v_column;
  end if;

  NEW.updated_at := clock_timestamp();
  return NEW;
end
$$;

comment on function marketplace.tg_seller_transfers__guard_frozen() is
  'Refuses any change of a row that reached its end, and of money and evidence on every row (ST002); keeps updated_at.';
