"""Intervals and tests for comparing models on the same items, as pure functions of arrays.

Proportions are 0-1; BLEU is 0-100. A function that draws random numbers takes a `numpy.random.Generator`. An interval
is `Interval(estimate, low, high)`, a comparison `Comparison(difference, low, high, p)`; what the data cannot determine
(one cluster, no items) is NaN, never a number that looks certain. The sources of the formulas stand at the functions;
`docs/statistics.md` says which one is used where, and `benchmarks/interval_coverage.py` measures their coverage.
"""

from medbench.stats.agreement import auc, cohen_kappa, within_item_concordance
from medbench.stats.design import (
    VarianceSplit,
    detectable_difference,
    detectable_difference_paired,
    detectable_from_se,
    items_needed,
    variance_split,
)
from medbench.stats.means import (
    clustered_exact,
    clustered_mean,
    clustered_proportion,
    paired_difference,
    unpaired_mean_difference,
)
from medbench.stats.proportions import (
    Comparison,
    Discordance,
    Interval,
    clopper_pearson,
    mcnemar,
    mcnemar_matrix,
    unpaired_difference,
    wilson,
)
from medbench.stats.ranking import (
    Monotonicity,
    holm,
    indistinguishable_groups,
    kendall_tau,
    letters,
    monotonicity,
    rank_intervals,
    regret,
)
from medbench.stats.resampling import (
    Statistic,
    approximate_randomisation,
    bleu_statistic,
    bootstrap_sums,
    mean_statistic,
    paired_bootstrap,
    percentile_interval,
    randomisation_matrix,
    ratio_statistic,
    resample_counts,
)

__all__ = [
    "Comparison",
    "Discordance",
    "Interval",
    "Monotonicity",
    "Statistic",
    "VarianceSplit",
    "approximate_randomisation",
    "auc",
    "bleu_statistic",
    "bootstrap_sums",
    "clopper_pearson",
    "clustered_exact",
    "clustered_mean",
    "clustered_proportion",
    "cohen_kappa",
    "detectable_difference",
    "detectable_difference_paired",
    "detectable_from_se",
    "holm",
    "indistinguishable_groups",
    "items_needed",
    "kendall_tau",
    "letters",
    "mcnemar",
    "mcnemar_matrix",
    "mean_statistic",
    "monotonicity",
    "paired_bootstrap",
    "paired_difference",
    "percentile_interval",
    "randomisation_matrix",
    "rank_intervals",
    "ratio_statistic",
    "regret",
    "resample_counts",
    "unpaired_difference",
    "unpaired_mean_difference",
    "variance_split",
    "wilson",
    "within_item_concordance",
]
