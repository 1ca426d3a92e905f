"""What does a consumer do in `roaming-consumers`?  Leaves once, as a phone that changes its network, and comes back."""

from __future__ import annotations

from loadtests.drive.consume.connection import Connection
from loadtests.drive.consume.consumer_faults import ConsumerFault


class Roaming(ConsumerFault):
    """Leaves the connection that is open when it begins."""

    def act(self, connection: Connection) -> None:
        self.user.drop(connection, self, goodbye=True)

    def arrived(self, connection: Connection) -> None:
        """It stays."""

    @property
    def in_force(self) -> bool:
        return self.user.was_closed_by(self)
