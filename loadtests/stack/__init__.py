"""Which servers run here for a test, and how are they started, broken and ended?  Imports only the model of ours."""

from __future__ import annotations

from loadtests.stack.errors import MissingServer, PortInUse, StackError
from loadtests.stack.folder import servers_folder, stack_folder
from loadtests.stack.local import LocalStack
from loadtests.stack.passwords import adopt

__all__ = ["LocalStack", "MissingServer", "PortInUse", "StackError", "adopt", "servers_folder", "stack_folder"]
