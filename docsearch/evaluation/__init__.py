"""How good the answers are, measured so that others can check it: `docsearch eval`.

`judged` reads questions and the pages that answer them, `pages` finds those in an index, `run` asks it, `metrics`
scores what comes, `results` writes it down; `evaluate` is all of that in one call. `diff` compares two results,
`ablate` many settings, `verify` computes a result again by other means.
"""
