"""What is a score worth? Metrics against people's labels and ratings, and the cards that say so beside every score.

`medbench meta FILE` reads a file of judged outputs (`columns`, `people`), measures them (`measures`), compares both by
groups (`evaluate`) and makes a card (`make`); `card` reads cards and finds those that ship, `line` makes the sentence
that `medbench metrics`, the leaderboard and the report print beside a surface score; `replicate` tries a card on
another file. docs/meta-evaluation.md says what a card can and cannot conclude.
"""
