"""How are faults applied to links, proved, and always lifted?  The injector process and its parent's side of it.

Imports `loadtests.model` only; the single user of toxiproxy-python is `toxics`.
"""
