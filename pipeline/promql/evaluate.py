"""The evaluator: frames in, verdicts of plans out, for all instances of one partition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import FloatArray, FrameBatch, IntArray, Labels, SeriesDictionary
from pipeline.promql import kernel
from pipeline.promql.arena import Arena
from pipeline.promql.binding import bind
from pipeline.promql.graph import Graph
from pipeline.promql.history import TargetHistory, dump, load
from pipeline.promql.library import Program, ProgramLibrary, Schedule
from pipeline.promql.outcome import ERRORS, Outcome, Slots, outcome_of
from pipeline.promql.plan import Plan, Version
from pipeline.promql.program import Assembler, Vector
from pipeline.promql.selection import SelectorIndex
from pipeline.promql.windows import Row, WindowStore

__all__ = ["ERRORS", "Evaluator", "Outcome", "Slots", "TargetHistory"]

BoolArray = npt.NDArray[np.bool_]
ScoreArray = npt.NDArray[np.float32]


class _Instance:
    """One instance's targets, its program, and its outputs with their slots."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.targets: list[int] = []
        self.outputs: dict[int, dict[Labels, int]] = {}
        self.plans_of_target: dict[int, tuple[int, ...]] = {}
        self.program: Program | None = None
        """None until it is bound to the series it has now."""


class _Job(msgspec.Struct, frozen=True):
    """One frame to append (`dictionary_id`), one schedule to evaluate, or both."""

    instance: _Instance
    time_ms: int
    frame: int = -1
    dictionary_id: int | None = None
    values_at: int = 0
    columns: int = 0
    schedule: Schedule | None = None


class Evaluator:
    """Windows and programs of all instances; changed in place, by one owner.

    `version` chooses Prometheus 2's or 3's semantics. Every plan is evaluated within one instance:
    give all targets the instance "" to evaluate over everything.
    """

    def __init__(self, plans: Sequence[Plan], slots: Slots, version: Version = "3") -> None:
        self.plans = tuple(plans)
        self.instances: list[str] = []
        self._slots = slots
        self._version: Version = version
        self._graph = Graph(plans)
        self._constants = np.array([*self._graph.durations, *self._graph.numbers, 0.0])
        self._index = SelectorIndex(plans)
        self._store = WindowStore(self._index)
        self._selected_by = [
            frozenset(self._index.numbers[selector.matchers] for selector in plan.selectors)
            for plan in self.plans
        ]
        self._by_name: dict[str, _Instance] = {}
        self._instance_of: dict[int, _Instance] = {}
        self._dictionaries: dict[int, tuple[int, int]] = {}
        self._library = ProgramLibrary()
        self._caches = Arena(np.float64)
        self._registers: FloatArray = np.zeros(64)
        self._present: BoolArray = np.zeros(64, dtype=np.bool_)
        self._errors = np.zeros(64, dtype=np.uint8)
        self._groups = np.zeros((64, 3))
        self._seen = np.zeros(64, dtype=np.bool_)

    @property
    def targets(self) -> Collection[int]:
        return self._store.targets.keys()

    def knows(self, dictionary_id: int) -> bool:
        return dictionary_id in self._dictionaries

    def ensure_instance(self, instance: str) -> int:
        """The instance's number; a new one has no series (and `absent` is true there)."""
        known = self._by_name.get(instance)
        if known is None:
            known = self._by_name[instance] = _Instance(len(self.instances), instance)
            self.instances.append(instance)
        return known.number

    def add_dictionary(self, dictionary: SeriesDictionary, instance: str) -> None:
        """Get ready for frames of this dictionary; does nothing for a known one."""
        if self.knows(dictionary.id):
            return
        self.ensure_instance(instance)
        target_id = dictionary.target.id
        owner = self._instance_of.setdefault(target_id, self._by_name[instance])
        if target_id not in self._store.targets:
            owner.targets.append(target_id)
        if self._store.add_dictionary(dictionary):
            self._unbind(owner)
        self._dictionaries[dictionary.id] = (target_id, len(dictionary.series))

    def drop_target(self, target_id: int) -> None:
        """Forget a target, its samples and dictionaries; slots that only it had are retired."""
        for dictionary_id in self._store.targets[target_id].columns:
            del self._dictionaries[dictionary_id]
        self._store.drop_target(target_id)
        owner = self._instance_of.pop(target_id)
        owner.targets.remove(target_id)
        self._unbind(owner)
        self._bound(owner)

    def newest_ms(self, target_id: int) -> int | None:
        return self._store.newest_ms(target_id)

    def dump_target(self, target_id: int) -> TargetHistory:
        """The target's samples, for a snapshot."""
        return dump(self._store, target_id)

    def load_target(self, history: TargetHistory) -> None:
        """Take a snapshot's samples for the series that the target's dictionaries have."""
        load(self._store, history)

    def output_labels(self, plan: int, instance: str) -> list[Labels]:
        """The label sets that the plan can put out in the instance."""
        self.ensure_instance(instance)
        owner = self._by_name[instance]
        self._bound(owner)
        return list(owner.outputs.get(plan, ()))

    def ingest(
        self, batch: FrameBatch, keep: BoolArray | None = None, scores: ScoreArray | None = None
    ) -> None:
        """Append the kept frames without evaluating anything."""
        self._ingest(batch, keep, scores, evaluate=False)

    def ingest_and_evaluate(
        self, batch: FrameBatch, keep: BoolArray | None = None, scores: ScoreArray | None = None
    ) -> Outcome:
        """Append each kept frame in turn and evaluate, at its time, the plans that it touches.

        `scores` is aligned with `batch.values`; NaN: not scored. A frame that isn't newer than the
        target's newest must not be kept.

        Raises
        ------
        KeyError
            If a kept frame's dictionary is unknown.
        """
        return self._ingest(batch, keep, scores, evaluate=True)

    def evaluate_at(
        self,
        time_ms: int,
        plans: Sequence[int] | None = None,
        instances: Sequence[str] | None = None,
    ) -> Outcome:
        """Evaluate plans (all by default) as of `time_ms`: younger samples are not seen."""
        subset = tuple(range(len(self.plans))) if plans is None else tuple(plans)
        jobs = []
        for name in self.instances if instances is None else instances:
            self.ensure_instance(name)
            owner = self._by_name[name]
            schedule = self._library.schedule(self._bound(owner), subset)
            jobs.append(_Job(owner, time_ms, schedule=schedule))
        return self._run(jobs, np.zeros(0), None)

    def _ingest(
        self, batch: FrameBatch, keep: BoolArray | None, scores: ScoreArray | None, evaluate: bool
    ) -> Outcome:
        dictionaries, times = batch.dictionaries.tolist(), batch.times_ms.tolist()
        offsets = batch.offsets.tolist()
        jobs = []
        for frame, dictionary_id in enumerate(dictionaries):
            if keep is not None and not keep[frame]:
                continue
            target_id, columns = self._dictionaries[dictionary_id]
            owner = self._instance_of[target_id]
            schedule = None
            if evaluate:
                program = self._bound(owner)
                schedule = self._library.schedule(program, owner.plans_of_target.get(target_id, ()))
            place = (offsets[frame], columns)
            jobs.append(_Job(owner, times[frame], frame, dictionary_id, *place, schedule))
        return self._run(jobs, batch.values, scores)

    def _unbind(self, instance: _Instance) -> None:
        if instance.program is not None:
            self._library.release(instance.program)
            instance.program = None

    def _bound(self, instance: _Instance) -> Program:
        """The instance's program, made anew if its series changed; outputs keep their slots."""
        if instance.program is not None:
            return instance.program
        rows: dict[int, list[Row]] = {}
        matched: dict[int, set[int]] = {}
        blocks: dict[int, int] = {}
        for target_id in instance.targets:
            selected = matched[target_id] = set()
            for row in self._store.targets[target_id].rows.values():
                local = blocks.setdefault(row.block, len(blocks))
                selected.update(row.selectors)
                for number in row.selectors:
                    rows.setdefault(number, []).append(msgspec.structs.replace(row, block=local))
        assembler, vectors = bind(self._graph, rows, self._index.numbers, self._version)
        results = {
            plan: vectors[root] for plan, root in enumerate(self._graph.roots) if vectors[root]
        }
        self._assign_slots(instance, results)
        instance.plans_of_target = {
            target_id: tuple(
                plan for plan in results if not selected.isdisjoint(self._selected_by[plan])
            )
            for target_id, selected in matched.items()
        }
        slots = [slot for outputs in instance.outputs.values() for slot in outputs.values()]
        data = np.array([*blocks, *slots], dtype=np.int32)
        self._store.maps.store(instance.name, data)
        instance.program = self._library.adopt(assembler, results, slots_at=len(blocks))
        self._caches.store(instance.number, np.full(assembler.cache_size, -1.0))
        self._make_room(assembler)
        return instance.program

    def _assign_slots(self, instance: _Instance, results: Mapping[int, Vector]) -> None:
        before, instance.outputs = instance.outputs, {}
        for plan, vector in results.items():
            known = before.get(plan, {})
            instance.outputs[plan] = {
                labels: known[labels]
                if labels in known
                else self._slots.assign(plan, instance.name, labels)
                for labels in vector.labels
            }
        for plan, outputs in before.items():
            for labels, slot in outputs.items():
                if labels not in instance.outputs.get(plan, {}):
                    self._slots.retire(plan, instance.name, labels, slot)

    def _make_room(self, assembler: Assembler) -> None:
        if assembler.registers > len(self._registers):
            self._registers = np.zeros(2 * assembler.registers)
            self._present = np.zeros(2 * assembler.registers, dtype=np.bool_)
        if len(assembler.operations) > len(self._errors):
            self._errors = np.zeros(2 * len(assembler.operations), dtype=np.uint8)
        if assembler.groups > len(self._seen):
            self._seen = np.zeros(2 * assembler.groups, dtype=np.bool_)
            self._groups = np.zeros((2 * assembler.groups, 3))

    def _table(self, jobs: Sequence[_Job]) -> IntArray:
        """The jobs as the kernel reads them; all places are final by now."""
        code, caches, maps = self._library.code, self._caches, self._store.maps
        rows = []
        for job in jobs:
            map_at = -1 if job.dictionary_id is None else maps.at(job.dictionary_id)
            code_at = cache_at = schedule_at = data_at = -1
            if job.schedule is not None:
                code_at, schedule_at = code.at(job.schedule.owner[0]), code.at(job.schedule.owner)
                cache_at, data_at = caches.at(job.instance.number), maps.at(job.instance.name)
            rows.append((
                job.frame, job.time_ms, map_at, job.values_at, job.columns, code_at, cache_at,
                schedule_at, job.instance.number, data_at,
            ))  # fmt: skip
        return np.array(rows, dtype=np.int64).reshape(-1, kernel.JOB_WIDTH)

    def _run(self, jobs: Sequence[_Job], values: FloatArray, scores: ScoreArray | None) -> Outcome:
        store = self._store
        schedules = [job.schedule for job in jobs if job.schedule is not None]
        rows = sum(schedule.rows for schedule in schedules)
        spans = np.empty((sum(schedule.spans for schedule in schedules), 7), dtype=np.int64)
        slots = np.empty(rows, dtype=np.int32)
        present = np.empty(rows, dtype=np.bool_)
        results = np.empty(rows)
        cursor = np.zeros(3, dtype=np.int64)
        table = self._table(jobs)
        given_scores = np.zeros(0, dtype=np.float32) if scores is None else scores
        with np.errstate(all="ignore"):
            while True:
                full = kernel.run(
                    table, cursor, self._version == "3", values.view(np.int64), given_scores,
                    store.maps.data, store.blocks, store.values.view(np.int64), store.values,
                    self._library.code.data, self._constants, self._caches.data, self._registers,
                    self._present, self._errors, self._seen, self._groups, spans, slots, present,
                    results,
                )  # fmt: skip
                if full < 0:
                    break
                store.grow(full)
        written = int(cursor[1])
        return outcome_of(spans, slots[:written], present[:written], results[:written])
