"""A standby can be asked: what reads everything need not burden the primary."""

from contextlib import closing

from runner.migrate import migrate
from tests.support.databases import open_database, rows, value
from tests.support.raw_transfers import add_transfer
from tests.support.replication import DATABASE, primary_with_standby
from tests.support.tampering import tamper
from tests.test_cli import command


def test_the_log_is_replayed_and_the_doctor_looks_on_a_standby() -> None:
    with primary_with_standby() as pair:
        migrate(pair.dsn)
        with closing(open_database(pair.primary.dsn(DATABASE))) as db:
            transfer_id = add_transfer(db, "completed")
            pair.catch_up()
            with closing(open_database(pair.standby.dsn(DATABASE))) as standby:
                assert value(standby, "select pg_is_in_recovery()")
                assert rows(standby, "select * from marketplace.verify_log()") == []
                sound = rows(standby, "select problem from marketplace.self_check()")
            tamper(db, "delete from marketplace.transfer_status_log")
            pair.catch_up()

        result = command("doctor", DATABASE_URL=pair.standby.dsn(DATABASE))

    assert sound == []
    assert result.exit_code == 1
    assert f"PROBLEM: history does not hold: transfer {transfer_id} (has no log)" in result.stdout
