"""All mutants, by what they break."""

from tests.mutants import calling, claiming, keys, limits, looking, parts, records, reporting

ALL = (
    *keys.MUTANTS,
    *looking.MUTANTS,
    *claiming.MUTANTS,
    *limits.MUTANTS,
    *reporting.MUTANTS,
    *parts.MUTANTS,
    *records.MUTANTS,
    *calling.MUTANTS,
)
