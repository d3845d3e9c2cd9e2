-- Which of Stripe's events are acted on, and what each tells of.

create or replace function marketplace._kinds_of_events()
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- One constant: looked into several times for every event, of whatever type.
  return '{
    "refund.created": "refund", "refund.updated": "refund", "refund.failed": "refund",
    "charge.refund.updated": "refund",
    "charge.dispute.created": "dispute", "charge.dispute.updated": "dispute", "charge.dispute.closed": "dispute",
    "charge.dispute.funds_withdrawn": "dispute", "charge.dispute.funds_reinstated": "dispute",
    "charge.succeeded": "charge", "charge.updated": "charge", "charge.captured": "charge",
    "charge.refunded": "charge",
    "transfer.created": "transfer", "transfer.updated": "transfer", "transfer.reversed": "transfer"
  }'::jsonb;
end
$$;

comment on function marketplace._kinds_of_events() is
  'The types of event that are acted on, and what each tells of: refund, dispute, charge or transfer.';

create or replace function marketplace._kind_of_event(p_type text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return marketplace._kinds_of_events() ->> p_type;
end
$$;

comment on function marketplace._kind_of_event(text) is
  'What a type of event tells of: refund, dispute, charge or transfer; null for types that are not acted on.';

create or replace function marketplace.acted_event_types()
returns setof text
language sql
immutable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select k.event_type from jsonb_object_keys(marketplace._kinds_of_events()) as k (event_type) order by k.event_type
$$;

comment on function marketplace.acted_event_types() is
  'The types of event that are acted on: what to subscribe a webhook endpoint to, and what catch-up reads.';
