"""The stressed commands, one a file."""

from stress.kinds import audits, imports, merges, reports, sweeps, trainings

KINDS = {module.KIND.name: module.KIND for module in (sweeps, trainings, merges, audits, reports, imports)}
