"""The manager against Apache Beam's ModelManager, in one run on one machine.

    python results/benchmarks/manager_against_original.py --original apache_beam-2.77.0-....whl

``--quick`` takes a minute and shows that it works; ``--resume`` goes on after the last part that a
stopped run had measured.

``--original`` names the wheel of apache-beam 2.77.0 (``pip download --no-deps
apache-beam==2.77.0``) or a folder with its source; without it only ours is measured and the
comparison says "not measured". The original's module is run unmodified; only its metrics, its
process sharing and ``torch.cuda.empty_cache`` are replaced by stand-ins that do nothing, which
makes it a little faster than it is.

Both are called by the names that both have, ``acquire_model`` and ``release_model``, over one fake
device and one kind of monitor, whose thread samples the device's true use every 0.5 s as the
original's own does; ``refresh`` samples at once. Costs are known beforehand. The two take turns in
rounds, the first mover too, and a ratio is that of a round's two medians: what slows the machine
down slows both. Its interval is the bootstrap's, 95 %, over the rounds. Where both mostly wait
(during loads, under stress) they run at the same time.

* *hit*: acquire and release of a loaded idle model, one after the other, with so many models known
  and loaded once.
* *release after configurations*: 20 models known, five of them loaded; so many different
  combinations were observed before, each once, or each 20 times, which is as many as the original
  keeps. It is kept from solving while they are fed, as feeding would take it a day; its releases
  are timed as they are.
* *stress*: eight threads, twelve models of 800 to 3,500 MB (2.6 times the device), loads of 0.1 to
  0.2 s, holds of 0.1 to 0.3 s. A load is over capacity when the device's true use was above its
  size as the load ended. With ``refresh does nothing`` the monitor shows only what its thread saw
  last. A request that waits for more than ten seconds fails; the original can come to a stop.
* *during a load*: a release of another model, and hits on a third, while a load of 2 s runs. The
  original serves none of them meanwhile, so that it has one hit a load.
* *throughput*: threads that hit and release without pause: each its own copy, or any of eight
  models of which one copy is loaded at first (both may load more, and the device has room).
* *memory*: each manager in processes of its own, first thing there, so that nothing else is in
  the figure: what a manager with a hundred loaded models takes (anonymous pages), what hits and
  releases leave behind after twice as many went before, by the kernel's figure and, in another
  process and after a tenth as many, by Python's own account of its allocations.

Times are this machine's: only their ratios say something.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import logging
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import types
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

import modelmgr
from modelmgr.devices.process_memory import read_host_memory
from modelmgr.stats.bootstrap import bootstrap_interval
from modelmgr.stats.location import median, quantile

# The folder above all: how benchmarks are run is shared.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from results.benchmarks.parts.resumed import (
    Parts,
    add_arguments,
    place_for,
)

MODULE = "apache_beam/ml/inference/model_manager.py"
KNOWN = (2, 10, 30, 100)
CONFIGURATIONS = (1, 50, 3000)
KEPT = 20  # readings of one configuration that the original keeps
POLL_S = 0.5
WAIT_S = 10.0
NOISE_MB = 20.0
_MEMORY = "memory-of"
_QUICK = {
    "rounds": 3,
    "loads": 2,
    "load_seconds": 0.5,
    "configurations": 100,
    "stress_seconds": 3.0,
    "stress_seeds": 1,
    "hits": 5_000,
}
clock = time.perf_counter_ns


class Manager(Protocol):
    """What both managers offer under one name."""

    def acquire_model(self, tag: str, loader_func: Callable[[], Any], /) -> Any:  # noqa: ANN401 - the loader's
        """Return an instance."""
        ...

    def release_model(self, tag: str, instance: Any, /) -> None:  # noqa: ANN401 - the loader's
        """Give it back."""
        ...

    def shutdown(self) -> None:
        """Unload everything."""
        ...


class Device:
    """A device that knows its true use, and what loads did to it."""

    def __init__(self, total_mb: float) -> None:
        self.total_mb = total_mb
        self.used_mb = 0.0
        self.peak_mb = 0.0
        self.loads = 0
        self.over = 0
        self._lock = threading.Lock()

    def load(self, size_mb: float) -> Instance:
        """End a load: its memory is in use from now on."""
        with self._lock:
            self.used_mb += size_mb
            self.peak_mb = max(self.peak_mb, self.used_mb)
            self.loads += 1
            self.over += self.used_mb > self.total_mb
        return Instance(self, size_mb)

    def free(self, size_mb: float) -> None:
        """Take memory back."""
        with self._lock:
            self.used_mb -= size_mb


class Instance:
    """A loaded copy; goes by the name that either manager calls."""

    def __init__(self, device: Device, size_mb: float) -> None:
        self._device = device
        self._size_mb = size_mb
        self.gone = False

    def close(self) -> None:
        """Free its memory, once."""
        if not self.gone:
            self.gone = True
            self._device.free(self._size_mb)

    mock_model_unsafe_hard_delete = close


class PolledMonitor:
    """Shows what a device used when it was last looked at, as the original's own monitor does."""

    def __init__(self, device: Device, *, refreshes: bool = True) -> None:
        self._device = device
        self._refreshes = refreshes
        self._lock = threading.Lock()
        self._noise = random.Random(1)  # noqa: S311 - seeded noise
        self._current_mb = 0.0
        self._history: deque[tuple[float, float]] = deque()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start polling."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._stopped.set()

    def refresh(self) -> None:
        """Look at once, where this monitor can."""
        if self._refreshes:
            self._look()

    def reset_peak(self) -> None:
        """Forget the peak."""
        with self._lock:
            self._history.clear()
            self._history.append((time.monotonic(), self._current_mb))

    def get_stats(self) -> tuple[float, float, float]:
        """Return current, peak and total use, MB."""
        with self._lock:
            peak_mb = max((used for _, used in self._history), default=self._current_mb)
            return self._current_mb, peak_mb, self._device.total_mb

    def _look(self) -> None:
        used_mb = self._device.used_mb
        with self._lock:
            noise_mb = abs(self._noise.gauss(0.0, NOISE_MB)) if used_mb else 0.0
            self._current_mb = used_mb + noise_mb
            now = time.monotonic()
            self._history.append((now, self._current_mb))
            while now - self._history[0][0] > 30.0:
                self._history.popleft()

    def _poll(self) -> None:
        while not self._stopped.wait(POLL_S):
            self._look()


class Ours:
    """Makes ours."""

    name = "modelmgr"

    def make(
        self, device: Device, sizes: Mapping[str, float], *, refreshes: bool = True
    ) -> modelmgr.ModelManager:
        """Return a manager that knows what each model takes, MB."""
        monitor = PolledMonitor(device, refreshes=refreshes)
        return modelmgr.ModelManager(
            monitor, costs=dict(sizes), poll_interval=POLL_S, wait_timeout_seconds=WAIT_S
        )

    def observe(self, manager: Any, readings: Sequence[tuple[dict[str, int], float]]) -> None:  # noqa: ANN401 - either
        """Let it observe configurations and their peaks, MB."""
        for active, peak_mb in readings:
            manager.estimator.add_observation(active, peak_mb)


class Original:
    """Makes the original."""

    name = "original"

    def __init__(self, path: Path) -> None:
        self._module = load_original(path)

    def make(self, device: Device, sizes: Mapping[str, float], *, refreshes: bool = True) -> Any:  # noqa: ANN401 - a module loaded by path
        """Return a manager that knows what each model takes, MB."""
        manager: Any = self._module.ModelManager(
            monitor=PolledMonitor(device, refreshes=refreshes),
            wait_timeout_seconds=WAIT_S,
            lock_timeout_seconds=1.0,
        )
        for tag, size_mb in sizes.items():
            estimator_of(manager).set_initial_estimate(tag, size_mb)
        return manager

    def observe(self, manager: Any, readings: Sequence[tuple[dict[str, int], float]]) -> None:  # noqa: ANN401 - either
        """Let it observe configurations and their peaks, MB, without solving."""
        estimator = estimator_of(manager)
        vars(estimator)["_solve"] = lambda: None
        for active, peak_mb in readings:
            estimator.add_observation(active, peak_mb)
        del vars(estimator)["_solve"]


Maker = Ours | Original


def estimator_of(manager: Any) -> Any:  # noqa: ANN401 - the original's
    """Return the original's estimator, which has no public name."""
    return cast("Any", vars(manager)["_estimator"])


class _NoMetrics:
    """Stands in for Beam's metrics."""

    @staticmethod
    def distribution(*_: object, **__: object) -> _NoMetrics:
        return _NO_METRICS

    def update(self, value: object) -> None:
        pass


_NO_METRICS = _NoMetrics()


def load_original(path: Path) -> types.ModuleType:
    """Return the original's module from its wheel or source folder."""
    if path.is_file():
        folder = Path(tempfile.mkdtemp(prefix="original-"))
        with zipfile.ZipFile(path) as wheel:
            wheel.extract(MODULE, folder)
        path = folder
    parts = ("", ".metrics", ".metrics.metric", ".utils", ".utils.multi_process_shared")
    for name in ("torch", *("apache_beam" + part for part in parts)):
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules["apache_beam.metrics.metric"])["Metrics"] = _NoMetrics
    shared = sys.modules["apache_beam.utils.multi_process_shared"]
    vars(sys.modules["apache_beam.utils"])["multi_process_shared"] = shared
    spec = importlib.util.spec_from_file_location("original_model_manager", path / MODULE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} holds no {MODULE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["torch"]  # nobody else may take it for torch
    vars(module)["torch"] = types.SimpleNamespace(
        cuda=types.SimpleNamespace(empty_cache=lambda: None)
    )
    return module


@dataclass(slots=True)
class Timed:
    """One contender's times in nanoseconds, all together and the median of each round."""

    samples: list[int] = field(default_factory=list[int])
    medians: list[float] = field(default_factory=list[float])

    def add_round(self, samples: list[int]) -> None:
        """Take one round's times."""
        self.samples += samples
        self.medians.append(median(samples))

    def told(self) -> dict[str, float]:
        """Return its figures, microseconds."""
        return {
            "median_us": round(median(self.samples) / 1e3, 2),
            "p99_us": round(quantile(self.samples, 0.99) / 1e3, 2),
            "max_us": round(max(self.samples) / 1e3, 2),
            "samples": len(self.samples),
        }


def compare(timed: Mapping[str, Timed]) -> dict[str, Any]:
    """Return each contender's figures, and how many times ours the original's take."""
    found: dict[str, Any] = {name: of.told() for name, of in timed.items()}
    if "original" in timed:
        rounds = zip(timed["original"].medians, timed["modelmgr"].medians, strict=True)
        found.update(ratio_of([theirs / ours for theirs, ours in rounds]))
    return found


def ratio_of(ratios: list[float]) -> dict[str, Any]:
    """Return the median of the rounds' ratios and its interval."""
    interval = bootstrap_interval(ratios, median, seed=1)
    return {
        "ratio": round(median(ratios), 2),
        "ratio_95": None if interval is None else [round(end, 2) for end in interval],
    }


def turns(contenders: Mapping[str, Any], rounds: int) -> list[tuple[str, Any]]:
    """Return who is measured when: everybody once a round, the order reversed every other round."""
    order = list(contenders.items())
    return [one for number in range(rounds) for one in (order if number % 2 else order[::-1])]


# Hits --------------------------------------------------------------------------------------------


def no_load() -> Instance:
    """Stand in for a loader where none may be needed."""
    raise AssertionError("a hit was no hit")


def warmed(maker: Maker, known: int, loaded: int) -> tuple[Any, list[str]]:
    """Return a manager that knows so many models, the first few of them loaded, and those."""
    device = Device(1000.0 * known)
    tags = [f"m{number}" for number in range(known)]
    sizes = {tag: 200.0 + 5.0 * number for number, tag in enumerate(tags)}
    manager = maker.make(device, sizes)
    for tag in tags[:loaded]:
        instance = manager.acquire_model(tag, partial(device.load, sizes[tag]))
        manager.release_model(tag, instance)
    return manager, tags[:loaded]


def time_hits(manager: Manager, tags: Sequence[str]) -> tuple[list[int], list[int]]:
    """Hit and release each tag; return what both and what the releases alone took, ns."""
    both: list[int] = []
    releases: list[int] = []
    acquire, release = manager.acquire_model, manager.release_model
    for tag in tags:
        before = clock()
        instance = acquire(tag, no_load)
        between = clock()
        release(tag, instance)
        after = clock()
        both.append(after - before)
        releases.append(after - between)
    return both, releases


def measure_hits(makers: Sequence[Maker], rounds: int) -> list[dict[str, Any]]:
    """Return what a hit and its release take by the number of known models."""
    rows: list[dict[str, Any]] = []
    for known in KNOWN:
        managers = {maker.name: warmed(maker, known, known) for maker in makers}
        counts = {"modelmgr": 2000, "original": max(20, 600 // known)}
        timed = {name: Timed() for name in managers}
        draw = random.Random(known)  # noqa: S311 - seeded
        for name, (manager, tags) in managers.items():
            time_hits(manager, draw.choices(tags, k=counts[name] // 2))
        gc.collect()
        for name, (manager, tags) in turns(managers, rounds):
            both, _ = time_hits(manager, draw.choices(tags, k=counts[name]))
            timed[name].add_round(both)
        rows.append({"known": known, **compare(timed)})
        close(manager for manager, _ in managers.values())
    return rows


def measure_memory(makers: Sequence[Maker], original: Path | None, hits: int) -> dict[str, Any]:
    """Return each manager's memory, measured in processes of their own."""
    counts = {"modelmgr": hits, "original": max(20, hits // 200)}
    return {
        maker.name: {
            "hits": counts[maker.name],
            **memory_child(maker.name, original, counts[maker.name], traced=False),
            # Python's account makes everything ten times slower.
            **memory_child(maker.name, original, counts[maker.name] // 10, traced=True),
        }
        for maker in makers
    }


def memory_child(name: str, original: Path | None, hits: int, *, traced: bool) -> dict[str, int]:
    """Start this file anew for one manager and return what it says."""
    how = "traced" if traced else "pages"
    finished = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, __file__, _MEMORY, name, str(original or ""), str(hits), how],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    found: dict[str, int] = json.loads(finished.stdout)
    return found


def tell_memory(name: str, original: str, hits: int, how: str) -> None:
    """Be such a process: make one manager, let it serve, say what it took."""
    maker: Maker = Ours() if name == Ours.name else Original(Path(original))
    held = _traced if how == "traced" else _anonymous
    if how == "traced":
        tracemalloc.start()
    gc.collect()
    before = held()
    manager, tags = warmed(maker, 100, 100)
    monitor_of(manager).stop()  # what it shows is kept for half a minute, and is not the manager's
    made = held()
    found: list[int] = []
    for _ in range(3):
        for number in range(hits):
            tag = tags[number % 100]
            manager.release_model(tag, manager.acquire_model(tag, no_load))
        wait_for_watch()
        gc.collect()
        found.append(held())
    told = {f"manager_{how}_bytes": made - before, f"grown_{how}_bytes": found[2] - found[1]}
    sys.stdout.write(json.dumps(told) + "\n")
    manager.shutdown()


def wait_for_watch() -> None:
    """Wait until ours learns no more: what a solve takes for a moment is not left by hits.

    Its thread ends a second after the last use. That moment once showed as 1.6 MB fewer.
    """
    while any(thread.name == "modelmgr-watch" for thread in threading.enumerate()):
        time.sleep(0.1)


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _anonymous() -> int:
    ctypes.CDLL(None).malloc_trim(0)
    return read_host_memory().anon_bytes


def monitor_of(manager: Any) -> Any:  # noqa: ANN401 - either
    """Return the monitor that a manager was given."""
    return cast("Any", vars(manager)["_monitor"])


def close(managers: Any) -> None:  # noqa: ANN401 - an iterable of either
    """Shut managers down."""
    for manager in managers:
        manager.shutdown()
    gc.collect()


# Releases after many configurations --------------------------------------------------------------


def draw_readings(count: int, draw: random.Random) -> list[tuple[dict[str, int], float]]:
    """Return so many different configurations of 20 models and their peaks, MB."""
    seen: dict[tuple[tuple[str, int], ...], float] = {}
    while len(seen) < count:
        numbers = sorted(draw.sample(range(20), draw.randint(1, 6)))
        active = tuple((f"m{number}", draw.randint(1, 3)) for number in numbers)
        use = sum((200.0 + 5.0 * number) * copies for number, (_, copies) in zip(numbers, active))  # noqa: B905
        seen[active] = 300.0 + use + draw.gauss(0.0, NOISE_MB)
    return [(dict(active), peak_mb) for active, peak_mb in seen.items()]


def measure_releases(
    makers: Sequence[Maker], counts: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Return what a release takes after so many different configurations were observed."""
    readings = draw_readings(max(counts), random.Random(3))  # noqa: S311 - seeded
    managers = {maker.name: warmed(maker, 20, 5) for maker in makers}
    rows: list[dict[str, Any]] = []
    fed = 0
    for count, times in [*((count, 1) for count in counts), (max(counts), KEPT)]:
        new = readings[fed:count] if times == 1 else readings * (times - 1)
        for maker in makers:
            maker.observe(managers[maker.name][0], new)
        fed = count
        timed = {name: Timed() for name in managers}
        for name, (manager, tags) in turns(managers, rounds):
            hits = 200 if name == "modelmgr" else 1 if count > 1000 else 10
            _, releases = time_hits(manager, [tags[number % 5] for number in range(hits)])
            timed[name].add_round(releases)
        rows.append({"configurations": count, "times_each": times, **compare(timed)})
    close(manager for manager, _ in managers.values())
    return rows


# Stress ------------------------------------------------------------------------------------------


def stress(maker: Maker, seconds: float, seed: int, *, refreshes: bool) -> dict[str, Any]:
    """Let eight threads acquire models that do not fit together; return what became of it."""
    device = Device(10_000.0)
    draw = random.Random(seed)  # noqa: S311 - seeded
    sizes = {f"m{number}": draw.uniform(800.0, 3500.0) for number in range(12)}
    manager = maker.make(device, sizes, refreshes=refreshes)
    ends = time.monotonic() + seconds
    errors: list[str] = []
    served = [0] * 8
    deleted = [0] * 8

    def work(number: int) -> None:
        mine = random.Random(f"{seed}/{number}")  # noqa: S311 - seeded
        while time.monotonic() < ends:
            tag = mine.choice(list(sizes))
            load_s, hold_s = mine.uniform(0.1, 0.2), mine.uniform(0.1, 0.3)

            def load(tag: str = tag, load_s: float = load_s) -> Instance:
                time.sleep(load_s)
                return device.load(sizes[tag])

            try:
                instance = manager.acquire_model(tag, load)
                time.sleep(hold_s)
                deleted[number] += instance.gone
                manager.release_model(tag, instance)
            except Exception as error:  # noqa: BLE001 - the original's own failures are counted
                errors.append(f"{type(error).__name__}: {error}")
            served[number] += 1

    run_threads([partial(work, number) for number in range(8)])
    manager.shutdown()
    return {
        "manager": maker.name,
        "seed": seed,
        "refreshes": refreshes,
        "served": sum(served),
        "loads": device.loads,
        "over": device.over,
        "peak_share": round(device.peak_mb / device.total_mb, 3),
        "deleted_in_use": sum(deleted),
        "errors": len(errors),
    }


def run_threads(works: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own, to the end."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_stress(makers: Sequence[Maker], seconds: float, seeds: int) -> list[dict[str, Any]]:
    """Return the stress runs."""
    rows: list[dict[str, Any]] = []

    def once(maker: Maker, seed: int, refreshes: bool) -> None:
        rows.append(stress(maker, seconds, seed, refreshes=refreshes))

    for refreshes in (True, False):
        for seed in range(seeds):
            run_threads([partial(once, maker, seed, refreshes) for maker in makers])
    return sorted(rows, key=lambda row: (not row["refreshes"], row["seed"], row["manager"]))


# During a load -----------------------------------------------------------------------------------


def beside_a_load(maker: Maker, load_s: float) -> tuple[int, list[int]]:
    """Return what a release and what hits took while another model was loaded, ns."""
    device = Device(10_000.0)
    manager = maker.make(device, {"held": 100.0, "hit": 200.0, "loading": 300.0})
    held = manager.acquire_model("held", partial(device.load, 100.0))
    manager.release_model("hit", manager.acquire_model("hit", partial(device.load, 200.0)))
    begun, ended = threading.Event(), threading.Event()

    def load() -> Instance:
        begun.set()
        time.sleep(load_s)
        ended.set()
        return device.load(300.0)

    hits: list[int] = []

    def hit() -> None:
        time.sleep(0.15 * load_s)
        while not ended.is_set():
            before = clock()
            instance = manager.acquire_model("hit", no_load)
            hits.append(clock() - before)
            manager.release_model("hit", instance)
            time.sleep(0.01 * load_s)

    def load_and_release() -> None:
        manager.release_model("loading", manager.acquire_model("loading", load))

    loading = threading.Thread(target=load_and_release)
    hitting = threading.Thread(target=hit)
    loading.start()
    begun.wait()
    hitting.start()
    time.sleep(0.1 * load_s)
    before = clock()
    manager.release_model("held", held)
    release = clock() - before
    loading.join()
    hitting.join()
    manager.shutdown()
    return release, hits


def measure_beside_loads(makers: Sequence[Maker], loads: int, load_s: float) -> dict[str, Any]:
    """Return releases and hits during loads."""
    releases = {maker.name: Timed() for maker in makers}
    hits = {maker.name: Timed() for maker in makers}

    def once(maker: Maker) -> None:
        release, hit = beside_a_load(maker, load_s)
        releases[maker.name].add_round([release])
        hits[maker.name].add_round(hit)

    for _ in range(loads):
        run_threads([partial(once, maker) for maker in makers])
    return {"load_s": load_s, "release": compare(releases), "hit": compare(hits)}


# Throughput --------------------------------------------------------------------------------------


def throughput(manager: Manager, tags: Sequence[Sequence[str]], device: Device, s: float) -> float:
    """Return hits a second of threads that each draw from their own tags."""
    stop = threading.Event()
    done = [0] * len(tags)

    def work(number: int) -> None:
        mine = list(tags[number])
        random.Random(number).shuffle(mine)  # noqa: S311 - seeded
        served = 0
        while not stop.is_set():
            for tag in mine:
                manager.release_model(tag, manager.acquire_model(tag, partial(device.load, 100.0)))
            served += len(mine)
        done[number] = served

    before = time.perf_counter()
    timer = threading.Timer(s, stop.set)
    timer.start()
    run_threads([partial(work, number) for number in range(len(tags))])
    return sum(done) / (time.perf_counter() - before)


def measure_throughput(makers: Sequence[Maker], rounds: int, s: float) -> list[dict[str, Any]]:
    """Return hits a second by the number of threads, and whether they share copies."""
    models = [f"m{number}" for number in range(8)]
    rows: list[dict[str, Any]] = []
    for threads in (8, 16):
        for shared in (False, True):
            tags = [models if shared else [models[number % 8]] for number in range(threads)]
            managers: dict[str, tuple[Any, Device]] = {}
            for maker in makers:
                device = Device(100_000.0)
                manager = maker.make(device, dict.fromkeys(models, 100.0))
                copies = [1] * 8 if shared else [threads // 8] * 8
                held = [
                    (tag, manager.acquire_model(tag, partial(device.load, 100.0)))
                    for tag, count in zip(models, copies, strict=True)
                    for _ in range(count)
                ]
                for tag, instance in held:
                    manager.release_model(tag, instance)
                managers[maker.name] = (manager, device)
            rates: dict[str, list[float]] = {name: [] for name in managers}
            for name, (manager, device) in turns(managers, rounds):
                rates[name].append(throughput(manager, tags, device, s))
            row: dict[str, Any] = {"threads": threads, "copies": "any" if shared else "own"}
            for name, found in rates.items():
                row[name] = {
                    "per_s": round(median(found)),
                    "loads": managers[name][1].loads,
                    "rounds": len(found),
                }
            if "original" in rates:
                pairs = zip(rates["modelmgr"], rates["original"], strict=True)
                row.update(ratio_of([ours / theirs for ours, theirs in pairs]))
            rows.append(row)
            close(manager for manager, _ in managers.values())
    return rows


# The result --------------------------------------------------------------------------------------


def show_ratio(row: Mapping[str, Any]) -> str:
    """Return a ratio and its interval."""
    if "ratio" not in row:
        return "not measured"
    interval = row["ratio_95"]
    return f"{row['ratio']:,.4g}" + (
        "" if interval is None else f" ({interval[0]:,.4g} to {interval[1]:,.4g})"
    )


def show_time(row: Mapping[str, Any], name: str, figure: str) -> str:
    """Return one contender's time with a unit."""
    if name not in row:
        return "not measured"
    microseconds = float(row[name][figure])
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:.2f} s"
    return f"{microseconds / 1e3:.2f} ms" if microseconds >= 1e3 else f"{microseconds:.1f} us"


def show_times(what: str, row: Mapping[str, Any], target: str, last: str = "p99_us") -> str:
    """Return a row of the table of times."""
    cells = [
        " / ".join(show_time(row, name, figure) for figure in ("median_us", last))
        for name in ("original", "modelmgr")
    ]
    return f"| {what} | {' | '.join(cells)} | {show_ratio(row)} | {target} |"


def report(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    machine = result["machine"]
    hit_targets = {2: "1/5; aim 1/10", 100: "1/200; aim < 15 us"}
    beside = result["beside_a_load"]
    stressed = result["stress"]
    lines = [
        "# The manager against Apache Beam's",
        "",
        f"`{result['command']}`",
        "",
        (
            f"modelmgr {result['version']}, {result['original'] or 'the original not measured'}; "
            f"{machine['cpus']} cores ({machine['cpu']}), {machine['system']}, "
            f"Python {machine['python']}, numpy {machine['numpy']}, scipy {machine['scipy']}; "
            f"load average {machine['load_before']} before, {machine['load_after']} after."
        ),
        "",
        "| median / p99 | original | modelmgr | original over modelmgr (95 %) | target |",
        "|---|---|---|---|---|",
        *[
            show_times(
                f"hit and release, {row['known']} models known",
                row,
                hit_targets.get(row["known"], ""),
            )
            for row in result["hits"]
        ],
        *[
            show_times(
                f"a release after {row['configurations']:,} configurations, "
                f"{row['times_each']} of each",
                row,
                "1/20,000; aim flat" if row["times_each"] == KEPT else "",
            )
            for row in result["releases"]
        ],
        show_times(
            f"a release during a load of {beside['load_s']:g} s (median / worst)",
            beside["release"],
            "< 1 ms",
            "max_us",
        ),
        show_times(f"a hit during a load of {beside['load_s']:g} s", beside["hit"], ""),
        "",
        (
            "| stress: monitor | manager | loads | over capacity | peak of the device | served "
            "| deleted in use | failed |"
        ),
        "|---|---|---|---|---|---|---|---|",
        *[
            f"| {'polled' if row['refreshes'] else 'polled, refresh does nothing'} "
            f"| {row['manager']} | {row['loads']} | {row['over']} "
            f"({row['over'] / max(1, row['loads']):.1%}) | {row['peak_share']:.0%} "
            f"| {row['served']} | {row['deleted_in_use']} | {row['errors']} |"
            for row in stressed
        ],
        "",
        (
            "| hits a second | original (copies at the end) | modelmgr (copies at the end) "
            "| modelmgr over original (95 %) |"
        ),
        "|---|---|---|---|",
        *[
            f"| {row['threads']} threads, "
            f"{'each its own copy' if row['copies'] == 'own' else 'any of 8 models'} | "
            + " | ".join(
                f"{row[name]['per_s']:,} ({row[name]['loads']})" if name in row else "not measured"
                for name in ("original", "modelmgr")
            )
            + f" | {show_ratio(row)} |"
            for row in result["throughput"]
        ],
        "",
        (
            "| memory, in processes of their own | manager with 100 models, MiB (pages / traced) "
            "| hits and releases | left by them, bytes (pages / traced) |"
        ),
        "|---|---|---|---|",
        *[
            f"| {name} | {row['manager_pages_bytes'] / 2**20:.2f} "
            f"/ {row['manager_traced_bytes'] / 2**20:.2f} | {row['hits']:,} "
            f"| {row['grown_pages_bytes']:,} / {row['grown_traced_bytes']:,} |"
            for name, row in result["memory"].items()
        ],
        "",
    ]
    return "\n".join(lines)


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpus": os.cpu_count(),
        "cpu": next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
                if line.startswith("model name")
            ),
            platform.machine(),
        ),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "scipy": metadata.version("scipy"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Run everything, print the tables, write the files."""
    if sys.argv[1:2] == [_MEMORY]:
        name, original, hits, how = sys.argv[2:]
        logging.disable(logging.CRITICAL)
        tell_memory(name, original, int(hits), how)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--original", type=Path, help="wheel or source folder of apache-beam 2.77.0"
    )
    parser.add_argument("--rounds", type=int, default=30, help="turns of each contender")
    parser.add_argument("--loads", type=int, default=50, help="loads to release and hit beside")
    parser.add_argument("--load-seconds", type=float, default=2.0)
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS[-1])
    parser.add_argument("--stress-seconds", type=float, default=10.0)
    parser.add_argument("--stress-seeds", type=int, default=3)
    parser.add_argument("--hits", type=int, default=100_000, help="for what they leave in memory")
    add_arguments(parser, "manager_against_original")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(_QUICK)
    logging.disable(logging.CRITICAL)
    makers: list[Maker] = [Ours()]
    if args.original is not None:
        makers.append(Original(args.original))
    say = sys.stderr.write
    shown = [Path(part).name if part == str(args.original) else part for part in sys.argv]
    result: dict[str, Any] = {
        "benchmark": "manager_against_original",
        "command": "python " + shlex.join(shown),
        "version": modelmgr.__version__,
        "original": "apache-beam 2.77.0" if args.original is not None else None,
        "machine": describe_machine(),
    }
    counts = sorted({*CONFIGURATIONS[:-1], args.configurations})
    parts: dict[str, Callable[[], object]] = {
        "hits": lambda: measure_hits(makers, args.rounds),
        "releases": lambda: measure_releases(makers, counts, max(1, args.rounds // 3)),
        "throughput": lambda: measure_throughput(makers, max(1, args.rounds // 3), 0.5),
        "beside_a_load": lambda: measure_beside_loads(makers, args.loads, args.load_seconds),
        "stress": lambda: measure_stress(makers, args.stress_seconds, args.stress_seeds),
        "memory": lambda: measure_memory(makers, args.original, args.hits),
    }
    out = place_for("manager_against_original", args)
    options = {**vars(args), "resume": None, "out": None}
    done = Parts(out, options, resume=args.resume)
    for name, measure in parts.items():
        result[name] = done.measure(name, measure)
        say(f"{json.dumps(result[name])}\n")
    result["machine"]["load_after"] = round(os.getloadavg()[0], 2)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = report(result)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    done.end()
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
