"""All mutants, by what they break."""

from tests.mutants import calling, claiming, keys, limits, looking, parts, records, reporting, withdrawals

ALL = (
    *keys.MUTANTS,
    *looking.MUTANTS,
    *claiming.MUTANTS,
    *limits.MUTANTS,
    *reporting.MUTANTS,
    *parts.MUTANTS,
    *records.MUTANTS,
    *withdrawals.MUTANTS,
    *calling.MUTANTS,
)
