"""The compiled part of the audit: tokenise, look shingles up, count, compare. Plain arrays in, plain arrays out.

Each file reads alone:

- `text`: bytes to units, units to shingles.
- `sets`: which elements of a sorted set a sequence of hashes holds.
- `table`: the table of shingles that are looked for, and which targets come up in a record often enough.
- `judge`: which of those the record really holds enough of.
- `sift`, `json_lines`: both over texts, and over lines of JSON as they lie in a file.
- `compare`: a record against a target, in full.
- `edits`: a field laid over a record that holds it in an edited form.

Every function releases the GIL and is compiled once per machine (`compiled`).

Layout shared by all functions: texts lie one after another in a byte buffer (UTF-8), text s being
``buffer[text_start[s]:text_start[s + 1]]``; record r owns the texts ``record_start[r]:record_start[r + 1]``.
"""
