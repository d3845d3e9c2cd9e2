-- Who asks for the sellers' share of a refund: the app, which knows more than Stripe, or Stripe's events.

create or replace function marketplace.set_refunds_by(p_who text, p_reason text)
returns setof marketplace.stripe_control
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform marketplace._require_text('p_who', p_who);
  perform marketplace._require_text('p_reason', p_reason, 1000);
  if p_who not in ('app', 'events') then
    raise exception 'p_who is %', left(p_who, 60)
      using errcode = 'invalid_parameter_value', hint = 'Pass app or events.', column = 'p_who';
  end if;
  insert into marketplace.stripe_control_log (change, reason) values ('refunds by ' || p_who, p_reason);
  return query
    update marketplace.stripe_control set refunds_by = p_who returning *;
end
$$;

comment on function marketplace.set_refunds_by(text, text) is
  'Says who asks for the sellers'' share of refunds that Stripe tells to have succeeded from now on: app or events. Either way a refund that fails withdraws its request, and disputes ask by themselves.';
