-- A person has dealt with a problem, or decided to leave it: it is not shown any more, and who said so is kept.

create or replace function marketplace.dismiss(p_problem_id text, p_reason text)
returns setof marketplace.dismissals
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_problem marketplace.needs_attention_full;
begin
  perform marketplace._require_text('p_problem_id', p_problem_id, 600);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  perform marketplace._require_read_committed();
  select f.* into v_problem from marketplace.needs_attention_full as f where f.problem_id = p_problem_id;
  if v_problem.transfer_id is not null then
    -- Still so, once nobody can change it.
    perform marketplace._lock_order_of(v_problem.transfer_id);
    select f.* into v_problem from marketplace.needs_attention_full as f where f.problem_id = p_problem_id;
  end if;
  if v_problem.problem_id is null then
    if not exists (select from marketplace.dismissals as d where d.problem_id = p_problem_id) then
      raise exception 'there is no problem %', left(p_problem_id, 100)
        using errcode = 'invalid_parameter_value',
              hint = 'Pass a problem_id of marketplace.needs_attention_full.', column = 'p_problem_id';
    end if;
  elsif v_problem.problem in ('parked', 'paused', 'to reconcile', 'commits lost') then
    raise exception '% is not over by being dismissed', v_problem.problem_id
      using errcode = 'ST002', hint = v_problem.next_step,
            schema = 'marketplace', table = 'needs_attention_full', column = 'problem';
  else
    insert into marketplace.dismissals (problem_id, problem, transfer_id, order_id, why, reason)
    values (p_problem_id, v_problem.problem, v_problem.transfer_id, v_problem.order_id, v_problem.why, p_reason)
    on conflict on constraint pk_dismissals do nothing;
    if found and v_problem.transfer_id is not null then
      insert into marketplace.transfer_status_log (transfer_id, from_status, to_status, reason)
      select t.id, t.status, t.status, marketplace._clean_text(
        format('%s was dismissed by %s: %s', v_problem.problem, session_user, p_reason), 1000)
      from marketplace.seller_transfers as t where t.id = v_problem.transfer_id;
    end if;
  end if;
  return query select d.* from marketplace.dismissals as d where d.problem_id = p_problem_id;
end
$$;

comment on function marketplace.dismiss(text, text) is
  'Takes a problem out of needs_attention for good, and keeps who did and why (dismissals, and the log of its transfer). Nothing else changes: an event that is kept is tried again as before, and shown again if something else keeps it; a row that has ended may be reopened. The same call again changes nothing. Raises 22023 for no problem, ST002 for what is parked or paused, and for a database that is not the one it was.';
