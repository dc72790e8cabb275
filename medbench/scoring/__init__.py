"""From a stored generation to scores: Inspect scorers, other harnesses' extractors, and what a score's number is.

    transcript   what was generated, read back from what Inspect stores of it
    judged       what a scorer judges of a sample, and the score of what an output states
    metrics      over scores: intervals, accuracy among the answered, views that differ, macro-F1
    accuracy     option letters, a decision, or a name out of a closed list
    quantity     a number, a date, or weeks and days
    probability  the first token's probabilities over the options
    overlap      BLEU-4 and ROUGE against a reference, beside their floor
    trace, trace_leak  the reasoning trace, and what of it leaks
    extractors   how other harnesses would have read the same output
    units        what a score's number is, and the interval of its mean

Scorers are thin wrappers of the pure judges in the core. Each judges the stored text of one generation under several
views of its reasoning trace (`medbench.thinking.views`) and gives a dict-valued score with keys ``<metric>/<view>``. A
value that does not exist for a sample is NaN, which Inspect counts as unscored. All are registered, so `inspect score`
can judge a log again without a model.
"""
