"""How fast is Tickstorm?  Measures it beside a C program and beside its peers; `python -m benchmarks`.

Uses Tickstorm as its user does: by its command line, profiles and `results.json`; imports nothing of it.
"""
