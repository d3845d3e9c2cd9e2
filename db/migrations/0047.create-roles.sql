-- Who may do what: an owner that nobody logs in as, and four groups that logins are members of. What each may do is in
-- db/functions/zz_access.sql. Roles belong to the server, not to the database: they may be there already.
-- depends: 0046.index-unheard-reversals

set local search_path = pg_catalog, pg_temp;

do $$
declare
  v_role record;
begin
  for v_role in
    select r.name, r.comment
    from (values
      ('marketplace_owner', 'seller-transfers: owns schema marketplace; whoever migrates is a member.'),
      ('marketplace_app', 'seller-transfers: for the logins of the marketplace''s app: payouts, refunds, events.'),
      ('marketplace_runner', 'seller-transfers: for the logins of runners and of the webhook.'),
      ('marketplace_triage', 'seller-transfers: for people who mend things in psql.'),
      ('marketplace_readonly', 'seller-transfers: for people and programs that look.')
    ) as r (name, comment)
    where not exists (select from pg_catalog.pg_roles as p where p.rolname = r.name)
  loop
    begin
      execute format('create role %I nologin', v_role.name);
      execute format('comment on role %I is %L', v_role.name, v_role.comment);
    exception
      -- Another database of this server was migrated at the same time.
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise exception 'role % may not create role %', current_user, v_role.name
          using errcode = 'insufficient_privilege',
                hint = format('As an administrator: alter role %I createrole; or create the five roles marketplace_owner, marketplace_app, marketplace_runner, marketplace_triage and marketplace_readonly, nologin, and grant the first to it.', current_user);
    end;
  end loop;
end
$$;

do $$
declare
  v_now_options text := case when current_setting('server_version_num')::integer >= 160000 then ' with inherit true, set true' else '' end;
begin
  -- Whoever migrates gives everything to the owner, and goes on changing it as its member.
  if not pg_has_role(current_user, 'marketplace_owner', 'usage') then
    begin
      execute format('grant marketplace_owner to %I%s', current_user, v_now_options);
    exception when insufficient_privilege then
      raise exception 'role % is not a member of marketplace_owner', current_user
        using errcode = 'insufficient_privilege',
              hint = format('As an administrator: grant marketplace_owner to %I%s;', current_user, v_now_options);
    end;
  end if;
  if not pg_has_role('marketplace_triage', 'marketplace_readonly', 'usage') then
    begin
      grant marketplace_readonly to marketplace_triage;
    exception when insufficient_privilege then
      raise exception 'role % may not make marketplace_triage a member of marketplace_readonly', current_user
        using errcode = 'insufficient_privilege',
              hint = 'As an administrator: grant marketplace_readonly to marketplace_triage;';
    end;
  end if;
end
$$;
