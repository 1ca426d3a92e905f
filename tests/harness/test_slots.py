"""Is every slot held by one user at a time, the lowest free one first, and never an epoch used twice?

Does every worker get its share of every class?  Locust alone would put all publishers on one of two workers.  And where
publishers are to be apart, has one worker all of them and no consumer, for as long as it lives?
"""

from __future__ import annotations

from contextlib import nullcontext

from hypothesis import given
from hypothesis import strategies as st
from locust import User
from locust.runners import WorkerNode

from loadtests.harness.slots import LOST_EPOCHS, BalancedDispatcher, SlotBook


def test_the_lowest_free_slot_comes_first() -> None:
    book = SlotBook({"publisher": 3})
    assert [book.take("publisher", "a") for _ in range(4)] == [(0, 0, -1), (1, 0, -1), (2, 0, -1), None]
    book.give_back("publisher", 2, 5, 100)
    book.give_back("publisher", 0, 7, 200)
    assert book.take("publisher", "b") == (0, 7, 200)
    assert book.take("publisher", "b") == (2, 5, 100)


def test_a_lost_process_frees_its_slots_beyond_the_epochs_it_may_have_used() -> None:
    book = SlotBook({})
    assert book.take("consumer", "a") == (0, 0, -1)
    assert book.take("consumer", "b") == (1, 0, -1)
    assert book.lose("a") == [("consumer", 0)]
    assert book.take("consumer", "b") == (0, LOST_EPOCHS, -1)


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "lose"]), st.integers(0, 3)), max_size=60))
def test_no_slot_has_two_holders_and_no_epoch_two_lives(steps: list[tuple[str, int]]) -> None:
    book = SlotBook({"publisher": 4})
    held: dict[int, str] = {}
    lives: set[tuple[int, int]] = set()
    for what, number in steps:
        holder = f"p{number % 2}"
        if what == "take":
            found = book.take("publisher", holder)
            if found is None:
                assert len(held) == 4
                continue
            assert found[0] not in held
            life = (found.slot, found.epoch)
            assert life not in lives
            lives.add(life)
            held[found.slot] = holder
        elif what == "give" and number in held:
            del held[number]
            book.give_back("publisher", number, max(e for s, e in lives if s == number) + 1, 0)
        elif what == "lose":
            book.lose(holder)
            held = {slot: who for slot, who in held.items() if who != holder}


def user_class(name: str, count: int) -> type[User]:
    return type(name, (User,), {"fixed_count": count, "weight": 1})


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=3), workers=st.integers(1, 4), rate=st.integers(1, 100))
def test_users_of_every_class_are_dealt_out_evenly(counts: list[int], workers: int, rate: int) -> None:
    classes = [user_class(f"Class{i}", c) for i, c in enumerate(counts)]
    dispatcher = BalancedDispatcher([WorkerNode(f"host_{i}") for i in range(workers)], classes)
    dispatcher._wait_between_dispatch_iteration_context = nullcontext  # no pause between the steps of the ramp
    dispatcher.new_dispatch(sum(counts), rate)
    *_, placed = dispatcher
    for index, count in enumerate(counts):
        shares = [on_worker[f"Class{index}"] for on_worker in placed.values()]
        assert sum(shares) == count
        assert max(shares) - min(shares) <= 1


def test_a_new_worker_gets_its_share_too() -> None:
    classes = [user_class("A", 6), user_class("B", 4)]
    dispatcher = BalancedDispatcher([WorkerNode("host_0")], classes)
    dispatcher.new_dispatch(10, 100)
    list(dispatcher)
    dispatcher.add_worker(WorkerNode("host_1"))
    dispatcher.new_dispatch(10, 100)
    placed = next(dispatcher)
    assert placed == {"host_0": {"A": 3, "B": 2}, "host_1": {"A": 3, "B": 2}}


def planned_classes() -> list[type[User]]:
    return [user_class("EventPublisher", 4), user_class("WebSocketClient", 100), user_class("DatabaseReader", 2)]


def played(dispatcher: BalancedDispatcher, users: int, rate: int = 100) -> dict[str, int]:
    """Who is there after Locust was asked for so many users."""
    dispatcher.new_dispatch(users, rate)
    *_, placed = dispatcher
    return {name: sum(of[name] for of in placed.values()) for name in next(iter(placed.values()))}


@given(
    wanted=st.lists(st.integers(1, 140), min_size=1, max_size=6), workers=st.integers(1, 3), rate=st.integers(1, 200)
)
def test_only_consumers_are_taken_away_and_brought_back(wanted: list[int], workers: int, rate: int) -> None:
    dispatcher = BalancedDispatcher([WorkerNode(f"host_{i}") for i in range(workers)], planned_classes())
    dispatcher._wait_between_dispatch_iteration_context = nullcontext
    there = played(dispatcher, 106)
    for users in wanted:
        there = played(dispatcher, users, rate)
        consumers = min(max(users - 6, 0), 100)
        assert there == {"EventPublisher": 4, "WebSocketClient": consumers, "DatabaseReader": 2}


def test_a_worker_that_joins_when_consumers_are_away_moves_no_publisher_away() -> None:
    dispatcher = BalancedDispatcher([WorkerNode("host_0")], planned_classes())
    played(dispatcher, 106)
    played(dispatcher, 10)
    dispatcher.add_worker(WorkerNode("host_1"))
    dispatcher.new_dispatch(10, 100)
    placed = next(dispatcher)
    assert {name: sum(of[name] for of in placed.values()) for name in placed["host_0"]} == {
        "EventPublisher": 4, "WebSocketClient": 4, "DatabaseReader": 2,
    }  # fmt: skip
    assert placed["host_1"] == {"EventPublisher": 2, "WebSocketClient": 2, "DatabaseReader": 1}


class Cluster:
    """Locust's master and its workers, as far as a dispatcher sees them; `apart` is asked for."""

    def __init__(self, workers: int) -> None:
        self.classes = planned_classes()
        self.nodes = [WorkerNode(f"host_{i}") for i in range(workers)]
        self._made = workers
        self.restart()

    def restart(self) -> None:
        """Locust makes another dispatcher, a minute after a worker died: it knows what workers reported, no more."""
        self.dispatcher = BalancedDispatcher(self.nodes, self.classes, apart=True)
        self.dispatcher._wait_between_dispatch_iteration_context = nullcontext
        self.play()

    def die(self, number: int) -> None:
        """A worker is gone, but for the last."""
        if len(self.nodes) > 1:
            self.dispatcher.remove_worker(self.nodes.pop(number % len(self.nodes)))
            self.play()

    def join(self) -> None:
        """Another worker."""
        self._made += 1
        self.nodes.append(WorkerNode(f"host_{self._made}"))
        self.dispatcher.add_worker(self.nodes[-1])
        self.play()

    def play(self) -> None:
        """All users are there; workers report theirs."""
        self.dispatcher.new_dispatch(106, 1000)
        *_, placed = self.dispatcher
        assert placed.keys() == {node.id for node in self.nodes}
        for node in self.nodes:
            node.user_classes_count = placed[node.id]

    @property
    def without_consumers(self) -> list[WorkerNode]:
        """Workers with users of which none is a consumer."""
        return [n for n in self.nodes if n.user_count and not n.user_classes_count["WebSocketClient"]]

    def is_apart(self) -> bool:
        """One worker has all users but the consumers, and no consumer."""
        return [n.user_count for n in self.without_consumers] == [6]


@given(
    workers=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["die", "join", "restart"]), st.integers(0, 4)), max_size=12),
)
def test_apart_every_user_is_placed_once_and_publishers_stay_without_consumers(
    workers: int, steps: list[tuple[str, int]]
) -> None:
    cluster = Cluster(workers)
    assert cluster.is_apart() == (workers > 1)
    for what, number in steps:
        before = cluster.without_consumers if cluster.is_apart() else []
        cluster.die(number) if what == "die" else getattr(cluster, what)()
        there = {name: sum(n.user_classes_count[name] for n in cluster.nodes) for name in ("EventPublisher",
                 "WebSocketClient", "DatabaseReader")}  # fmt: skip
        assert there == {"EventPublisher": 4, "WebSocketClient": 100, "DatabaseReader": 2}
        if what == "join":
            assert cluster.is_apart()
        if before and before[0] in cluster.nodes and len(cluster.nodes) > 1:
            assert cluster.without_consumers == before
        shares = [c for n in cluster.nodes if (c := n.user_classes_count["WebSocketClient"])]
        assert max(shares) - min(shares) <= 1


def test_apart_consumers_stay_where_they_are_when_the_worker_of_the_publishers_dies() -> None:
    cluster = Cluster(3)
    [own] = cluster.without_consumers
    before = {n.id: n.user_classes_count["WebSocketClient"] for n in cluster.nodes if n is not own}
    cluster.die(cluster.nodes.index(own))
    assert {n.id: n.user_classes_count["WebSocketClient"] for n in cluster.nodes} == before
    assert [n.user_classes_count["EventPublisher"] for n in cluster.nodes] == [2, 2]


def test_apart_with_nothing_to_keep_apart_all_workers_share() -> None:
    nodes = [WorkerNode(f"host_{i}") for i in range(2)]
    dispatcher = BalancedDispatcher(nodes, [user_class("EventPublisher", 4)], apart=True)
    dispatcher.new_dispatch(4, 100)
    assert next(dispatcher) == {"host_0": {"EventPublisher": 2}, "host_1": {"EventPublisher": 2}}
