"""Reading an output: what it states, found by its structure first and by its sentences second.

`rulefile` reads the rules and word categories that are data (`rules/*.yaml`); everything else is described where it is.
"""
