"""Which kinds of fault are there?  The table; the injector, the journal and the sweep know a kind only through it.

How to add a kind
1. Add its row to `model.fault_kinds`: where it acts, its keys, what rules and proofs must know of it.
2. Write one small file of its name here, with a `KIND` of the type `kind.Kind`. A kind takes what it needs from its
   `Site` (the link, the stack's supervisor; add a control where it needs another). Kinds that differ in a few lines
   share a file, which their rows name (`by`), and have a row each in its `KINDS`.
3. `undo_of` is called before `apply` and goes to the journal. `undo` and `remaining` get nothing but a `Site` and that
   entry: another process must be able to undo the fault. `undo` may be repeated, and may find nothing to undo.
4. `not_in_force` compares what is read back with what was asked; an answer "ok" is not a read-back.
5. `witness` measures the effect itself. What it could not measure is not proved, and says why. `meets` watches whether
   traffic of the run or the target met it; the proof of a kind without it demands that by itself.
6. `escalations` are the harder ways, mildest first, each with what else it ends.
7. Add a test that applies, proves and lifts it on real servers, and one in which the proof fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.inject.kinds.kind import Kind
from loadtests.inject.kinds.latency import RAW_TOXIC
from loadtests.model.fault_kinds import KINDS as ROWS
from loadtests.model.kinds import FaultKind, part


def _acts(row: FaultKind) -> Kind:
    """What a kind does: its row of `KINDS` in the file that it shares, else `KIND` of the file of its own."""
    module = part(row.module)
    kind: Kind = module.KINDS[row.name] if hasattr(module, "KINDS") else module.KIND
    return kind


KINDS: Final[Mapping[str, Kind]] = {row.name: _acts(row) for row in ROWS.values()} | {RAW_TOXIC.name: RAW_TOXIC}
"""All that a profile may name, and the one that only tests use."""
