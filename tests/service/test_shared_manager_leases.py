"""One manager for several processes: leases, calls, questions, and their errors."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelmgr
from modelmgr import (
    AcquireTimeoutError,
    DoesNotFitError,
    InferenceError,
    LeaseError,
    ManagerClosedError,
    ModelLoadError,
    OutOfMemoryError,
    RemoteManager,
    ServiceLostError,
    ServiceServer,
    UsageError,
    WorkerDiedError,
)
from modelmgr.runtime.service import messages, parcels
from modelmgr.runtime.service.link import Link
from modelmgr.runtime.service.permits import Permit, Permits
from modelmgr.runtime.service.remote_lease import RemoteModel
from modelmgr.units import MIB
from modelmgr.workload.model_spec import ModelSpec
from support.parties import Party, wait_until
from support.received import as_array, as_dict
from support.service_parties import python_spec, serving, synthetic_spec


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceServer]:
    with serving(tmp_path_factory.mktemp("service") / "m.sock") as made:
        yield made


@pytest.fixture
def client(server: ServiceServer) -> Iterator[RemoteManager]:
    with modelmgr.connect(server.path) as made:
        yield made


def test_a_lease_across_processes_is_granted_called_and_given_back(client: RemoteManager) -> None:
    with client.lease("echo") as model:
        assert model.infer({"a": [1, 2.5, None, "text", b"bytes"]}) == {
            "a": [1, 2.5, None, "text", b"bytes"]
        }
        assert model.alive
        assert model.memory().anon_bytes > 0
        held = [copy for copy in client.snapshot().copies if copy.tag == "echo"]
        assert held[0].state == "active"
    with client.lease("echo") as again:
        assert again.copy == model.copy
        assert again.pid == model.pid


def test_a_call_runs_in_the_server_s_worker_and_arrays_of_any_size_come_back(
    client: RemoteManager,
) -> None:
    rng = np.random.default_rng(1)
    with client.lease("echo") as model:
        for shape in [(0,), (), (3,), (200, 200), (1500, 1501)]:
            given = rng.standard_normal(shape)
            got = as_array(model.infer(given))
            assert got.dtype == given.dtype
            assert got.shape == given.shape
            assert (got == given).all()
            got[...] = 0  # the caller's own, as a local worker's would be
        many = {"a": rng.integers(0, 9, 70_001, np.int32), "b": np.arange(5), "c": "text"}
        got_many = as_dict(model.infer(many))
        assert (as_array(got_many["a"]) == many["a"]).all()
        assert (as_array(got_many["b"]) == many["b"]).all()
        assert got_many["c"] == "text"


def test_long_lists_go_through_shared_memory_as_well(client: RemoteManager) -> None:
    batch = ["some text " * 10] * 30_000
    with client.lease("echo") as model:
        assert model.infer(batch) == batch


def test_a_batch_that_cannot_be_sent_is_a_usage_error_and_harms_nothing(
    client: RemoteManager,
) -> None:
    with client.lease("echo") as model:
        for batch in (object(), "\ud800", ["x" * (65 << 20)]):
            with pytest.raises(UsageError):
                model.infer(batch)
        assert model.infer("then") == "then"


def test_two_clients_wait_for_each_other_s_leases(
    server: ServiceServer, client: RemoteManager
) -> None:
    with modelmgr.connect(server.path) as other:
        lease = client.lease("echo")
        with pytest.raises(AcquireTimeoutError, match="Timeout waiting to acquire model") as told:
            other.lease("echo", timeout=0)
        assert told.value.tag == "echo"
        assert told.value.reasons
        assert all(reason in str(told.value) for reason in told.value.reasons)
        waiting = Party(lambda: other.lease("echo", timeout=None))
        wait_until(lambda: len(client.snapshot().queue) == 1, "the other waits")
        lease.release()
        got = waiting.result()
        assert got.copy == lease.copy
        assert got.serial > lease.serial
        got.release()


def test_a_request_that_waits_holds_up_no_other_thread_of_its_client(
    server: ServiceServer, client: RemoteManager
) -> None:
    with modelmgr.connect(server.path) as other:
        lease = client.lease("echo")
        waiting = [Party(lambda: other.lease("echo", timeout=None)) for _ in range(8)]
        wait_until(lambda: len(client.snapshot().queue) == 8, "they wait")
        with other.lease("small") as small:
            assert small.alive
        lease.release()
        for _ in range(8):
            wait_until(lambda: any(party.done for party in waiting), "the next is granted")
            party = next(party for party in waiting if party.done)
            waiting.remove(party)
            party.result().release()


def test_more_threads_than_connections_wait_their_turn_and_releases_go_on(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "m.sock", max_connections_per_client=6) as server,
        modelmgr.connect(server.path) as client,
    ):
        lease = client.lease("echo")
        waiting = [Party(lambda: client.lease("echo", timeout=None)) for _ in range(10)]
        wait_until(lambda: len(client.snapshot().queue) == 2, "as many wait as have connections")
        with pytest.raises(AcquireTimeoutError):
            client.lease("echo", timeout=0.01)
        assert lease.instance.infer(1) == 1
        lease.release()
        for _ in range(10):
            wait_until(lambda: any(party.done for party in waiting), "the next is granted")
            party = next(party for party in waiting if party.done)
            waiting.remove(party)
            party.result().release()


@pytest.mark.parametrize(
    ("tag", "kind"),
    [("raises", InferenceError), ("dies", WorkerDiedError), ("full", OutOfMemoryError)],
)
def test_what_a_model_raises_arrives_as_what_it_is(
    client: RemoteManager, tag: str, kind: type[modelmgr.WorkerError]
) -> None:
    with client.lease(tag) as model, pytest.raises(kind) as caught:
        model.infer(1)
    assert type(caught.value) is kind
    assert caught.value.pid == model.pid


def test_a_worker_that_died_in_a_client_s_hands_is_replaced(client: RemoteManager) -> None:
    with client.lease("dies") as first, pytest.raises(WorkerDiedError):
        first.infer(1)
    with client.lease("dies") as second:
        assert second.pid != first.pid
        assert second.alive


def test_a_load_that_fails_arrives_as_what_it_is_and_leaves_nothing(client: RemoteManager) -> None:
    with pytest.raises(ModelLoadError, match="upside down") as caught:
        client.lease("fails")
    assert caught.value.details is not None
    assert client.all_models("fails") == []


def test_out_of_memory_in_use_costs_the_copy_and_is_tried_once_more(client: RemoteManager) -> None:
    seen: list[int] = []

    def use(model: RemoteModel) -> object:
        seen.append(model.copy)
        return model.infer(1)

    with pytest.raises(OutOfMemoryError):
        client.run("full", None, use)
    assert len(set(seen)) == 2


def test_a_model_that_can_never_fit_is_refused_with_its_figures(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "m.sock", models={"huge": synthetic_spec("huge")}) as server,
        modelmgr.connect(server.path) as client,
        pytest.raises(DoesNotFitError) as caught,
    ):
        client.lease("huge")
    assert caught.value.tag == "huge"
    assert caught.value.limit_bytes is not None


def test_a_model_that_the_list_does_not_have_is_refused_with_the_nearest_name(
    client: RemoteManager,
) -> None:
    with pytest.raises(UsageError, match="did you mean 'echo'"):
        client.lease("ecko")
    with pytest.raises(UsageError, match="malformed message"):
        client.lease("x" * 5000)
    with pytest.raises(UsageError, match="only models of its own list"):
        client.lease("mine", synthetic_spec("mine"))


def test_a_description_is_taken_where_that_is_allowed_and_code_is_not(tmp_path: Path) -> None:
    listed = {"echo": python_spec("echo")}
    with (
        serving(tmp_path / "m.sock", models=listed, accept_specs=True) as server,
        modelmgr.connect(server.path) as client,
    ):
        with client.lease("mine", synthetic_spec("mine", resident_bytes=MIB), worst_case_mb=50):
            pass
        with client.lease("mine", timeout=0):
            pass
        with client.lease("other", python_spec("other"), worst_case_mb=50.0) as model:
            assert model.infer(3) == 3
        with pytest.raises(UsageError, match="as another model"):
            client.lease("mine", synthetic_spec("mine", resident_bytes=2 * MIB))
        evil = ModelSpec(tag="evil", loader="python", target="os:system")
        with pytest.raises(UsageError, match="runs no code that a client names"):
            client.lease("evil", evil)
        with pytest.raises(UsageError, match="takes no code"):
            client.lease("mine", lambda: 1)  # type: ignore[arg-type]  # what is refused


def test_a_second_release_changes_nothing(server: ServiceServer, client: RemoteManager) -> None:
    lease = client.lease("echo")
    lease.release()
    with modelmgr.connect(server.path) as other, other.lease("echo"):
        with pytest.raises(LeaseError):
            lease.release()
        assert [c.state for c in client.snapshot().copies if c.tag == "echo"] == ["active"]
    with pytest.raises(LeaseError), lease:
        pass
    with pytest.raises(LeaseError):
        lease.instance.infer(1)


def test_acquire_and_release_by_instance_are_fenced_as_well(client: RemoteManager) -> None:
    model = client.acquire_model("echo")
    with pytest.raises(LeaseError, match="held as 'echo'"):
        client.release_model("small", model)
    client.release_model("echo", model)
    with pytest.raises(LeaseError):
        client.release_model("echo", model)
    with pytest.raises(LeaseError):
        client.release_model("echo", object())


def test_questions_and_orders_are_answered_as_by_the_manager_itself(
    client: RemoteManager,
) -> None:
    assert "echo" in client.models()
    with client.lease("echo") as model:
        found = client.all_models("echo")
        assert [copy.copy for copy in found] == [model.copy]
        assert found[0].infer(5) == 5
    assert client.all_models("nobody") == []
    with pytest.raises(LeaseError):
        client.all_models("echo")[0].infer(5)
    assert client.should_spawn_model("small", None) in {True, False}
    assert client.try_enter_isolation_mode("unheard-of", None) in {True, False}
    client.pin("echo")
    assert all(c.pinned for c in client.snapshot().copies if c.tag == "echo")
    client.unpin("echo")
    client.force_reset()
    wait_until(lambda: client.all_models("echo") == [], "the copies went")
    assert "reset" in {eviction.reason for eviction in client.evictions()}
    assert client.snapshot().devices[0].name == "fixed"


def test_a_shape_is_measured_in_the_server_s_worker(client: RemoteManager) -> None:
    with client.lease("small") as model:
        report = model.run_shape(
            {"batch_size": 2}, phase="latency", warmups=1, repeats=3, seed=0, timeout_s=None
        )
        assert len(report.latencies_ns) == 3
        with pytest.raises(UsageError):
            model.run_shape(
                {"nonsense": 2}, phase="latency", warmups=0, repeats=1, seed=0, timeout_s=None
            )


def test_shutdown_gives_back_what_the_client_holds_and_the_server_goes_on(
    server: ServiceServer, client: RemoteManager
) -> None:
    other = modelmgr.connect(server.path)
    lease = other.lease("echo")
    other.shutdown()
    other.shutdown()
    with client.lease("echo", timeout=20.0) as model:
        assert model.copy == lease.copy
    with pytest.raises(ManagerClosedError):
        other.lease("echo")
    with pytest.raises(ManagerClosedError):
        lease.release()
    with pytest.raises(ManagerClosedError):
        other.__enter__()


def test_a_client_that_was_shut_down_leaves_nothing_in_memory(server: ServiceServer) -> None:
    def left() -> int:
        gc.collect()
        # By type: asking some objects of other packages for their class is a warning.
        kinds = {Link, Permits, Permit}
        return sum(type(found) in kinds for found in gc.get_objects())

    before = left()
    client = modelmgr.connect(server.path)
    with client.lease("echo") as model:
        model.infer(1)
    client.shutdown()
    assert left() > before
    del client, model
    assert left() == before


def test_shutdown_wakes_a_thread_that_waits(server: ServiceServer, client: RemoteManager) -> None:
    other = modelmgr.connect(server.path)
    with client.lease("echo"):
        waiting = Party(lambda: other.lease("echo", timeout=None))
        wait_until(lambda: len(client.snapshot().queue) == 1, "it waits")
        other.shutdown()
        with pytest.raises(ManagerClosedError):
            waiting.result()
        wait_until(lambda: client.snapshot().queue == (), "its ticket is gone")


def test_a_server_that_stops_refuses_waiters_and_waits_for_holders(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "m.sock") as server,
        modelmgr.connect(server.path) as holder,
        modelmgr.connect(server.path) as waiter,
    ):
        lease = holder.lease("echo")
        waiting = Party(lambda: waiter.lease("echo", timeout=None))
        wait_until(lambda: len(holder.snapshot().queue) == 1, "it waits")
        holder.stop_server(timeout=None)
        with pytest.raises(ManagerClosedError):
            waiting.result()
        with pytest.raises(ManagerClosedError):
            waiter.lease("small")
        assert lease.instance.infer(1) == 1
        assert not server.wait(0)
        assert not server.path.exists()
        lease.release()
        assert server.wait(20)
        with pytest.raises(ServiceLostError):
            holder.snapshot()
        with pytest.raises(ServiceLostError):
            modelmgr.connect(server.path)


def test_the_last_release_is_answered_by_a_server_that_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server took it and cut the connection before its answer: a lease well released raised."""
    post = parcels.post

    def post_late(stream: Any, encoder: Any, message: Any, buffers: Any = ()) -> None:
        if isinstance(message, messages.Answer):
            threading.Event().wait(0.2)  # so long the stop has to be faster
        post(stream, encoder, message, buffers)

    with serving(tmp_path / "m.sock") as server, modelmgr.connect(server.path) as client:
        lease = client.lease("small")
        client.stop_server(timeout=None)
        monkeypatch.setattr(parcels, "post", post_late)
        lease.release()
        assert server.wait(20)


def test_a_stop_that_runs_out_of_time_names_the_holders_and_takes_their_leases(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "m.sock") as server, modelmgr.connect(server.path) as client:
        lease = client.lease("echo")
        (line,) = server.close(0)
        assert "'echo'" in line
        with pytest.raises(ServiceLostError):
            lease.release()


def test_the_end_of_a_lost_server_s_lease_hides_no_error_of_the_body(tmp_path: Path) -> None:
    with serving(tmp_path / "m.sock") as server, modelmgr.connect(server.path) as client:

        def work() -> None:
            with client.lease("echo"):
                server.close(0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()
        with pytest.raises(ServiceLostError, match="reconnect"):
            client.snapshot()


def test_many_threads_of_one_client_lose_no_lease(client: RemoteManager) -> None:
    turns: list[int] = []

    def work() -> None:
        for turn in range(25):
            with client.lease("echo", timeout=60.0) as model:
                assert model.infer(turn) == turn
                turns.append(turn)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(turns) == 200
    assert client.snapshot().queue == ()


@pytest.mark.parametrize("timeout_s", [1e10, 1e300, 10**400])
def test_a_time_out_beyond_what_the_clock_takes_ends_nothing(
    client: RemoteManager, timeout_s: float
) -> None:
    with client.lease("echo", timeout=timeout_s) as model:
        assert model.infer(1, timeout_s=timeout_s) == 1
        assert model.infer(2) == 2
        with pytest.raises(UsageError, match="timeout_s must be seconds"):
            model.infer(3, timeout_s=-1.0)
        assert model.infer(4) == 4
