"""The life of ``modelmgr serve``: what it opens, how it waits, how it ends.

Parsing is ``commands.serve``'s. The manager, the workers and the socket are the library's.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelmgr.devices.discovery import discover, open_reader
from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import ModelmgrError, ShutdownTimeoutError, UsageError
from modelmgr.measuring.interruption import StopRequested, StopSignals
from modelmgr.measuring.machine import describe_machine
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.codec import encode_costs, load_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.service import descriptors, quotas
from modelmgr.runtime.service.server import ServiceServer
from modelmgr.scheduling.settings import IsolationMode
from modelmgr.units import format_bytes
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.terminal import Terminal, printable

_BETWEEN_WRITES_S = 60.0
_UNLOAD_S = 10.0
# The first waits for holders, the second ends at once: neither in the middle of the manager's work.
_SIGNALS_BEFORE_THROWN = 2
# A thread that wakes waits for the interpreter so long (5 ms by default), and a lease takes 0.1 ms.
_SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What to serve, and how.

    Attributes:
        models: what clients may ask for.
        devices: names as ``--device`` takes them; empty for every GPU, else the host.
        budget_bytes: what models may take of each device, None for all of it.
        slack: share of each device that stays free.
        socket: where to listen, None for the default.
        costs: preloaded costs.
        learn_to: where to write what was learned, None for nowhere.
        policy: which copies go.
        isolation: how an unknown model is measured.
        max_bypass: how often a request may be passed over.
        min_copies: copies of a model that are safe from another's scaling up.
        max_copies: most copies of a model, None for no ceiling.
        cooldown_s: how long after its use a copy is safe from another's scaling up.
        wait_timeout_s: how long requests wait that do not say it, None for ever.
        stop_timeout_s: how long a stop waits for holders.
        load_timeout_s: how long a load may take, None for ever.
        accept_specs: whether clients may describe models.
        metrics_port: where to serve metrics, None for nowhere.
    """

    models: tuple[ModelSpec, ...]
    devices: tuple[str, ...]
    budget_bytes: int | None
    slack: float
    socket: Path | None
    costs: CostDatabase | None
    learn_to: Path | None
    policy: str
    isolation: IsolationMode
    max_bypass: int
    min_copies: int
    max_copies: int | None
    cooldown_s: float
    wait_timeout_s: float | None
    stop_timeout_s: float
    load_timeout_s: float | None
    accept_specs: bool
    metrics_port: int | None


def serve_until_stopped(settings: ServeSettings, terminal: Terminal) -> Outcome:
    """Serve until a signal or a client ends it.

    Raises:
        UsageError: a device is named twice or is not there, somebody listens at the socket or the
            port already, a setting makes no sense, or too few open files are allowed.
        DeviceError: a device cannot be read.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    descriptors.raise_limit()  # what it has of them is how many clients it can take
    make_metrics = None if settings.metrics_port is None else _metrics_maker()
    with (
        StopSignals(thrown_from=_SIGNALS_BEFORE_THROWN + 1) as signals,
        ExitStack() as opened,
    ):
        readers = _open_readers(settings, opened)
        launcher = opened.enter_context(WorkerLauncher())
        manager = ModelManager(
            readers=readers,
            costs=settings.costs,
            policy=settings.policy,
            isolation=settings.isolation,
            max_bypass=settings.max_bypass,
            min_model_copies=settings.min_copies,
            max_model_copies=settings.max_copies,
            eviction_cooldown_seconds=settings.cooldown_s,
            wait_timeout_seconds=settings.wait_timeout_s,
            verbose_logging=terminal.verbose,
        )
        learned = _LearnedFile(settings, manager, readers[0], terminal)
        server = ServiceServer(
            manager,
            launcher,
            socket_path=settings.socket,
            models={spec.tag: spec for spec in settings.models},
            accept_specs=settings.accept_specs,
            wait_timeout_s=settings.wait_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            # A model that takes more than any device has must fail by itself, harming nobody.
            budget_bytes=max(reader.description.limit_bytes for reader in readers),
        )
        try:
            metrics_url = None
            if make_metrics is not None:
                metrics_url = make_metrics(settings, manager, opened)
            _say_where(settings, server, readers, metrics_url, terminal)
            _wait(server, signals, learned)
        finally:
            if signals.requested:
                terminal.tell("stopping once all copies are released; the same again stops at once")
            timeout_s = settings.stop_timeout_s
            _stop(server, manager, launcher, signals, timeout_s=timeout_s, terminal=terminal)
            learned.write()
    if signals.requested:
        return Outcome.INTERRUPTED
    terminal.tell("stopped by a client")
    return Outcome.FINE


def _wait(server: ServiceServer, signals: StopSignals, learned: _LearnedFile) -> None:
    """Wait for a signal or for a client that stops the server."""
    with suppress(StopRequested):
        while True:
            with signals.interruptible():
                if server.wait(_BETWEEN_WRITES_S):
                    return
            learned.write()


def _stop(
    server: ServiceServer,
    manager: ModelManager,
    launcher: WorkerLauncher,
    signals: StopSignals,
    *,
    timeout_s: float,
    terminal: Terminal,
) -> None:
    """Refuse what is new, wait for holders, and end; at once where another signal comes."""
    # The second signal counts whenever it came, before or while this was said too.
    asked = min(signals.count, 1)
    with suppress(ShutdownTimeoutError):
        manager.shutdown(0)
    try:
        with signals.interruptible(after=asked):
            manager.wait_until_free(timeout_s)
    except StopRequested:
        terminal.tell("stopping at once")
        for pid in launcher.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for line in server.close(0):
        terminal.warn(f"taken back: {line}")
    _shut_down(manager, _UNLOAD_S, terminal)


def _shut_down(manager: ModelManager, timeout_s: float, terminal: Terminal) -> None:
    try:
        manager.shutdown(timeout_s)
    except ShutdownTimeoutError as error:
        terminal.warn(str(error))


def _open_readers(settings: ServeSettings, opened: ExitStack) -> list[MemoryReader]:
    """Open each device once; without any name every GPU, else the host's memory."""
    budget_bytes, slack = settings.budget_bytes, settings.slack
    if not settings.devices or settings.devices == ("auto",):
        found = list(discover(budget_bytes=budget_bytes, slack=slack))
        for reader in found:
            opened.callback(reader.close)
        return found
    readers: list[MemoryReader] = []
    for name in settings.devices:
        if name == "auto":
            raise UsageError("--device: 'auto' is every device there is; give it alone")
        try:
            reader = open_reader(name, budget_bytes=budget_bytes, slack=slack)
        except UsageError as error:
            raise UsageError(f"--device: {error}") from error
        opened.callback(reader.close)
        named = reader.description.name
        if any(other.description.name == named for other in readers):
            raise UsageError(f"--device: {named} is named twice; give each device once")
        readers.append(reader)
    return readers


def _metrics_maker() -> Callable[[ServeSettings, ModelManager, ExitStack], str]:
    """Return what serves metrics; refuse, before anything is opened, where its package is not."""
    try:
        from modelmgr.reporting.metrics import (  # noqa: PLC0415 - an extra that few install
            ManagerCollector,
            MetricsServer,
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        raise UsageError(
            "--metrics: the package prometheus-client is not installed; "
            "pip install 'modelmgr[metrics]'"
        ) from error

    def make(settings: ServeSettings, manager: ModelManager, opened: ExitStack) -> str:
        tags = [spec.tag for spec in settings.models]
        collector = ManagerCollector(manager.snapshot, tags)
        return opened.enter_context(MetricsServer(collector, settings.metrics_port or 0)).url

    return make


def _say_where(
    settings: ServeSettings,
    server: ServiceServer,
    readers: list[MemoryReader],
    metrics_url: str | None,
    terminal: Terminal,
) -> None:
    """Tell what is served, where, and how to get at it."""
    count = len(settings.models)
    devices = ", ".join(
        f"{each.name} ({format_bytes(each.limit_bytes)} of {format_bytes(each.total_bytes)})"
        for each in (reader.description for reader in readers)
    )
    models = "1 model" if count == 1 else f"{count} models"
    path = "" if settings.socket is None else repr(str(server.path))
    terminal.tell(f"serving {models} on {devices}, policy {settings.policy}")
    taken = server.quotas.in_all
    if taken < quotas.MOST:
        terminal.tell(
            f"{taken} connections at most, for want of open files: the limit is "
            f"{descriptors.limit()} (`ulimit -Hn`)"
        )
    if metrics_url is not None:
        terminal.tell(f"metrics at {metrics_url}")
    terminal.tell(f"in Python: manager = modelmgr.connect({path})")
    terminal.tell(f"listening at {printable(str(server.path))} (process {os.getpid()})")


class _LearnedFile:
    """Writes what was learned in use into a cost database, where that says more than before."""

    def __init__(
        self,
        settings: ServeSettings,
        manager: ModelManager,
        reader: MemoryReader,
        terminal: Terminal,
    ) -> None:
        self._path = settings.learn_to
        self._costs = settings.costs
        self._manager = manager
        self._terminal = terminal
        if self._path is not None:
            self._machine = describe_machine(reader.description, budget_bytes=settings.budget_bytes)

    def write(self) -> None:
        """Write, if there is something new; what goes wrong is told and ends nothing."""
        path = self._path
        if path is None:
            return
        try:
            # Read anew: somebody may have measured into it meanwhile.
            before = load_costs(path) if path.exists() else self._costs
            learned = self._manager.learned(
                before, machine=self._machine if before is None else None
            )
            if learned.models and (before is None or learned.models != before.models):
                write_atomically(path, encode_costs(learned))
        except (ModelmgrError, OSError, msgspec.MsgspecError) as error:
            self._terminal.warn(f"what was learned was not written: {error}")
