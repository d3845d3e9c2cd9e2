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

-- Releases before this one had tables granted to whoever runs, or calls: they go on as members. What they have beyond
-- that, self_check() asks to take back.
do $$
declare
  v_role text;
begin
  for v_role in
    select distinct a.grantee::regrole::text
    from pg_catalog.pg_class as c
    cross join lateral aclexplode(c.relacl) as a
    where c.oid = 'marketplace.seller_transfers'::regclass and a.privilege_type = 'INSERT'
      and a.grantee <> 0 and a.grantee <> c.relowner and not starts_with(a.grantee::regrole::text, 'marketplace_')
  loop
    begin
      execute format('grant marketplace_app, marketplace_runner, marketplace_readonly to %s', v_role);
      raise warning 'role % may write tables: it is a member of marketplace_app, marketplace_runner and marketplace_readonly now', v_role
        using hint = format('Take back the rest: revoke all on all tables in schema marketplace from %s;', v_role);
    exception when insufficient_privilege then
      raise warning 'role % may write tables, and may not be made a member of the groups by %', v_role, current_user
        using hint = format('As an administrator: grant marketplace_app, marketplace_runner, marketplace_readonly to %s;', v_role);
    end;
  end loop;
end
$$;
