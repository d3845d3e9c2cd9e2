-- Whose key a worker calls with.

create or replace function marketplace._is_key_known(p_worker text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- What is asked for is at the end of a history of years: from its beginning, the first to fit is the last to be read.
set enable_seqscan = off
as $$
declare
  v_runner marketplace.runners;
begin
  select r.* into v_runner from marketplace.runners as r where r.worker = p_worker;
  -- A restricted key need not be allowed to say. That another account has none of our transfers proves nothing; that it
  -- was answered for one of them does.
  return v_runner.stripe_account is not null or exists (
    select from marketplace.transfer_attempts as a
    where a.finished_at > v_runner.registered_at and a.worker = p_worker
      and a.http_status between 200 and 299 and a.action <> 'look_up_transfer'
      and a.verdict in ('succeeded', 'accepted', 'absent', 'already_reversed'));
end
$$;

comment on function marketplace._is_key_known(text) is
  'True if the worker''s key is known to be of this database''s Stripe account: it says so, or has been answered for a transfer of ours since the worker registered.';
