"""Leaks seen from the model alone: does it know more of a test set than its text gives away?

    texts        item -> the text that is scored, its option orders and other rewrites
    likelihood   texts -> log-probabilities of their tokens, from any Inspect provider that returns a prompt's
    nulls        what a score is compared with: permutation tests and p-values, as pure functions of arrays
    measures     log-probabilities -> Min-K%++, CoDeC's change, verbatim run
    scoring      every text of a set that the tests need, scored once
    tests        the tests themselves: scores -> one result per test, and per-item scores
    run          from a model and a task to OUT/items.jsonl, summary.json and manifest.json
    command      `medbench contamination`

docs/contamination.md has the false alarms of each test over clean models, and what it finds of planted leaks.
"""
