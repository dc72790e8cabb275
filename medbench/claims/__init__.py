"""Claim-level grading of free text: which of the claims that a good answer makes does this answer make, or contradict?

    items -> judges (a model, a replayed file, words in common) -> verdicts -> comprehensiveness, hallucinations
                 |-> card against physicians, floor, slope over length, consistency
                                                       human labels of a few -> corrected rates (`stats.ppi_rate`)

The claims and both scores are K-QA's (Manes et al. 2024, arXiv 2401.14493); docs/claims.md says what they can show.
"""
