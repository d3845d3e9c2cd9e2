"""All mutants, by what they break."""

from tests.mutants import (
    calling,
    claiming,
    comparing,
    events,
    failovers,
    keys,
    limits,
    looking,
    parts,
    proving,
    records,
    reporting,
    sending,
    triage,
    withdrawals,
)

ALL = (
    *keys.MUTANTS,
    *looking.MUTANTS,
    *claiming.MUTANTS,
    *limits.MUTANTS,
    *reporting.MUTANTS,
    *parts.MUTANTS,
    *records.MUTANTS,
    *proving.MUTANTS,
    *withdrawals.MUTANTS,
    *sending.MUTANTS,
    *events.MUTANTS,
    *failovers.MUTANTS,
    *triage.MUTANTS,
    *calling.MUTANTS,
    *comparing.MUTANTS,
)
