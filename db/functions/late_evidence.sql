-- Proof of success for a row that had ended without it: the money moved all the same.
--
-- The row stays as it is. Its successor takes the obligation over as it was, and begins with a look, which finds what
-- was made by its identity. Where another row has taken over already, nobody but a person can tell what is right.

create or replace function marketplace._continue_on_evidence(
  p_row marketplace.seller_transfers, p_now timestamptz
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_next marketplace.seller_transfers;
  v_id bigint;
  v_before text;
begin
  if p_row.status = 'permanently_failed' and p_row.completed_at is null then
    select t.* into v_next from marketplace.seller_transfers as t
    where t.successor_of = p_row.id and t.status = 'permanently_failed' and t.completed_at is null
      and t.made_for is not distinct from p_row.made_for;
    if found then
      -- That one has ended, too: whoever was the last to have the obligation goes on with it.
      return marketplace._continue_on_evidence(v_next, p_now);
    end if;
    -- The one that goes on for it has the same name at Stripe, and finds what was made.
    select t.id into v_id from marketplace.seller_transfers as t
    where t.successor_of = p_row.id and t.status in ('pending', 'failed')
      and t.made_for is not distinct from p_row.made_for;
    if found then
      perform marketplace._doubt_row(v_id, p_now);
      return v_id;
    end if;
  end if;
  if p_row.status <> 'permanently_failed' or marketplace._is_followed(p_row.id) then
    return null;
  end if;
  v_id := marketplace._succeed(p_row, p_row.made_for, p_row.stripe_transfer_id, 'late evidence', p_now);
  v_before := marketplace._add_reason('late evidence');
  perform marketplace._continue(v_id, p_row, p_now);
  perform marketplace._doubt_row(v_id, p_now);
  perform marketplace._give_reason(v_before);
  -- What was not to be paid and was paid after all is still to be taken back.
  update marketplace.reversal_request_lines as l
  set met = l.met - p_row.amount, unmet = l.unmet + p_row.amount
  where p_row.completed_at is null and l.reversal_request_id = p_row.reversal_request_id
    and l.transfer_id = coalesce(p_row.root_id, p_row.id) and l.met >= p_row.amount;
  perform pg_notify('seller_transfers_due', '');
  return v_id;
end
$$;

comment on function marketplace._continue_on_evidence(marketplace.seller_transfers, timestamptz) is
  'Makes the successor of a permanently_failed row of which there is proof that its money moved, to be looked up at once, and returns its id; null if another row has taken over already, and not to be sent under the same name. The order''s rows are locked.';

create or replace function marketplace._keep_proof(
  p_row marketplace.seller_transfers, p_action text, p_object_id text, p_verdict text, p_words text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from marketplace.transfer_attempts as a
    where a.transfer_id = p_row.id and a.verdict = p_verdict and a.stripe_object_id = p_object_id
  ) then
    return;
  end if;
  -- No lease and no call: an event told us.
  insert into marketplace.transfer_attempts (
    transfer_id, kind, action, lease_token, stripe_object_id, error_message, verdict, disposition
  ) values (
    p_row.id, 'call', p_action, gen_random_uuid(), p_object_id, p_words, p_verdict, 'late'
  );
end
$$;

comment on function marketplace._keep_proof(marketplace.seller_transfers, text, text, text, text) is
  'Writes what an event proved about a row that had ended to its attempts, once: moved_twice or late_success, for a person.';
