"""``profile``: from a list of models to a cost database, through kills and failures.

The order of things: settle the plan and refuse bad input before anything is written; lock the
journal; measure model by model, each on disk before the next begins; write the database in one
step; remove the journal. The measuring itself is ``session``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from modelmgr.devices.discovery import open_reader
from modelmgr.errors import UsageError
from modelmgr.measuring.database import combine, read_existing, timestamp, write
from modelmgr.measuring.journal import Journal, JournalRecord, fingerprint_of
from modelmgr.measuring.machine import describe_machine, installed_frameworks, refuse_budget
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.measuring.plan import ModelPlan, plan_model, refuse_duplicates
from modelmgr.measuring.preflight import Places, check_source, check_spec
from modelmgr.measuring.session import Session
from modelmgr.measuring.settings import ProfileOutcome, ProfileSettings
from modelmgr.records.costs import Eviction, MachineInfo, ModelCost, RunInfo
from modelmgr.workers.loaders.base import Loader
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workload.model_spec import ModelSpec

_NO_PLACES: Places = {}
_MEMORY_ERRORS = frozenset({"DoesNotFitError", "OutOfMemoryError"})


def profile_models(
    models: Sequence[ModelSpec],
    settings: ProfileSettings,
    observer: ProfileObserver,
    *,
    places: Places = _NO_PLACES,
) -> ProfileOutcome:
    """Measure what each model costs and write the cost database.

    A model that can be seen to be wrong without loading it refuses the whole run, and nothing is
    written. One that fails while it loads or runs is recorded with its error and does not stop the
    others. SIGINT, SIGTERM and
    SIGHUP end the run cleanly (in the main thread): finished models are written, the journal is
    kept, and the outcome says ``interrupted``; a second signal raises KeyboardInterrupt at once.

    Args:
        models: what to measure, in order.
        settings: how, and where to write.
        observer: is told what happens, by one thread at a time.
        places: where the models stand in their list, for messages: ``ModelList.places``.

    Raises:
        InputError: a model of the list is wrong; says where. Nothing was measured or written.
        UsageError: the settings or the list make no sense, the output cannot be written, another
            run writes it, or it was measured on another machine.
        DeviceError: there is no such device, or it cannot be read.
    """
    settings.check()
    plans = plan_models(models, settings, places)
    for spec in models:
        check_source(spec, places)
    _refuse_output(settings)
    with Journal(settings.out, resume=settings.resume) as journal:
        run = _Run(settings, journal)
        with Session(settings, observer) as session:
            run.measure(plans, session, places)
        return run.finish(plans)


def plan_models(
    models: Sequence[ModelSpec], settings: ProfileSettings, places: Places = _NO_PLACES
) -> tuple[ModelPlan, ...]:
    """Return what will be done to each model.

    Raises:
        UsageError: no model, two of one tag, or too many shapes.
        InputError: a model can be seen to be wrong; ``places`` says where it stands.
    """
    refuse_duplicates(models)
    for spec in models:
        check_spec(spec, places)
    plans: list[ModelPlan] = []
    for spec in models:
        loader = get_loader(spec.loader)
        plans.append(
            plan_model(
                spec,
                default_input=_default_input(loader, spec),
                repeats=settings.repeats,
                estimate=settings.estimate,
            )
        )
    return tuple(plans)


def _default_input(loader: Loader, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the sizes for what the list leaves open."""
    if spec.arguments:
        named = {size for argument in spec.arguments for size in argument.shape or ()}
        return {name: sizes for name, sizes in loader.default_input(spec).items() if name in named}
    if spec.loader == "python" and spec.input:
        return {}  # which dimensions its batches have, only the object knows
    return loader.default_input(spec)


def _refuse_output(settings: ProfileSettings) -> None:
    """Refuse a device or an output that cannot be used while nothing has been created for it."""
    reader = open_reader(settings.device, budget_bytes=settings.budget_bytes, slack=settings.slack)
    reader.close()
    refuse_budget(reader.description, settings.budget_bytes)
    read_existing(settings.out, describe_machine(reader.description))


class _Run:
    """One run's bookkeeping: what was measured, what was taken over, what is written."""

    def __init__(self, settings: ProfileSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._started_at = timestamp()
        self._interrupted = False
        self._costs: dict[str, ModelCost] = {}
        self._evictions: list[Eviction] = []
        self._left_over: dict[str, ModelCost] = {}

    def measure(self, plans: Sequence[ModelPlan], session: Session, places: Places) -> None:
        """Measure what the journal does not have, until done or asked to stop."""
        device = session.device
        self._machine = describe_machine(device, budget_bytes=self._settings.budget_bytes)
        self._existing = read_existing(self._settings.out, self._machine)
        fingerprints = {plan.spec.tag: self._fingerprint(plan, self._machine) for plan in plans}
        session.check_each(plans, places)
        if session.interrupted:
            self._interrupted = True
            return
        machine = fingerprint_of(_without_sizes(self._machine))
        self._left_over = self._find_left_over(fingerprints, machine)
        self._journal.begin(keep=self._left_over, machine=machine)
        self._take_over(fingerprints, session.observer)
        todo = [plan for plan in plans if plan.spec.tag not in self._costs]
        session.observer.run_started(
            tuple(plan.spec.tag for plan in todo),
            device=device.name,
            limit_bytes=device.limit_bytes,
        )
        known_evictions = 0
        for plan, cost in session.measure_each(todo):
            evictions = session.evictions()[known_evictions:]
            known_evictions += len(evictions)
            record = JournalRecord(
                tag=plan.spec.tag,
                fingerprint=fingerprints[plan.spec.tag],
                cost=cost,
                evictions=evictions,
            )
            self._journal.append(record)
            self._keep(record)
        self._interrupted = session.interrupted
        self._machine = describe_machine(
            device,
            {**installed_frameworks(), **session.packages},
            budget_bytes=self._settings.budget_bytes,
        )

    def finish(self, plans: Sequence[ModelPlan]) -> ProfileOutcome:
        """Write the database, and remove the journal where nothing is left to resume."""
        ordered = {
            plan.spec.tag: self._costs[plan.spec.tag]
            for plan in plans
            if plan.spec.tag in self._costs
        }
        database = combine(
            self._existing,
            {**self._left_over, **ordered},
            machine=self._machine,
            run=RunInfo(
                command=self._settings.command,
                scenario=None,
                seed=self._settings.seed,
                started_at=self._started_at,
            ),
            evictions=tuple(self._evictions),
        )
        written = bool(ordered or self._left_over)
        if written:
            write(database, self._settings.out)
        if not self._interrupted:
            self._journal.remove()
        return ProfileOutcome(
            database=database,
            path=self._settings.out,
            interrupted=self._interrupted,
            written=written,
            failed=_failed(ordered, memory=False),
            did_not_fit=_failed(ordered, memory=True),
        )

    def _find_left_over(self, chosen: Collection[str], machine: str) -> dict[str, ModelCost]:
        """Return what an unfinished run measured of models that this one leaves alone.

        Raises:
            UsageError: that was on another machine or device, so that it would be lost.
        """
        journal = self._journal
        left = {
            tag: record.cost
            for tag, record in journal.left.items()
            if tag not in chosen and record.cost.error is None
        }
        if left and journal.machine != machine:
            raise UsageError(
                f"{journal.path} holds what an unfinished run measured on another machine, "
                f"device or version: {', '.join(left)}; finish that run with --resume there, "
                "name another --out, or delete the file"
            )
        return left

    def _take_over(self, fingerprints: Mapping[str, str], observer: ProfileObserver) -> None:
        """Take what an earlier run measured of the very same; what failed then is tried again."""
        if self._left_over:
            observer.noticed(
                f"taken over from an unfinished run: {', '.join(self._left_over)}, measured there "
                "and not chosen here"
            )
        again = (
            []
            if self._journal.records
            else [tag for tag in self._journal.left if tag in fingerprints]
        )
        if again:
            observer.noticed(
                f"an unfinished run had measured {', '.join(again)} already: measured again; "
                "--resume would have kept what it had"
            )
        for tag, record in self._journal.records.items():
            if record.cost.error is None and fingerprints.get(tag) == record.fingerprint:
                self._keep(record)
        if self._costs:
            observer.noticed(f"resumed: {', '.join(self._costs)} measured already")

    def _keep(self, record: JournalRecord) -> None:
        self._costs[record.tag] = record.cost
        self._evictions.extend(record.evictions)

    def _fingerprint(self, plan: ModelPlan, machine: MachineInfo) -> str:
        """Return the hash of all that a model's figures depend on, known before it is loaded."""
        return fingerprint_of(
            plan.spec,
            plan.repeats,
            plan.estimate,
            self._settings.seed,
            _without_sizes(machine),
        )


def _without_sizes(machine: MachineInfo) -> MachineInfo:
    """Return the machine as figures depend on it.

    The budget decides what fits and no figure of what did; on the host it moves from run to run
    with what is available.
    """
    device = msgspec.structs.replace(machine.device, total_bytes=None, budget_bytes=None)
    return msgspec.structs.replace(machine, device=device)


def _failed(costs: Mapping[str, ModelCost], *, memory: bool) -> tuple[str, ...]:
    return tuple(
        tag
        for tag, cost in costs.items()
        if cost.error is not None and (cost.error.kind in _MEMORY_ERRORS) is memory
    )
