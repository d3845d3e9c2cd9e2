"""A database on several servers: a primary and its standbys, of which one is to be found."""

from psycopg.conninfo import conninfo_to_dict, make_conninfo


def count_servers(conninfo: str) -> int:
    """How many servers a conninfo or URL names; libpq tries them in that order."""
    parts = conninfo_to_dict(conninfo)
    return 1 + max(str(parts.get(name, "")).count(",") for name in ("host", "hostaddr"))


def only_the_primary(conninfo: str) -> str:
    """The same, but of several servers none is taken that does not write, unless it says otherwise."""
    if count_servers(conninfo) == 1 or "target_session_attrs" in conninfo_to_dict(conninfo):
        return conninfo
    # Else a standby that stands first would be taken, at every try, and refuse to write.
    return make_conninfo(conninfo, target_session_attrs="read-write")
