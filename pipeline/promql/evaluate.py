"""The evaluator: frames in, verdicts of plans out, for all instances of one partition."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import FloatArray, FrameBatch, IntArray, Labels, SeriesDictionary
from pipeline.promql import kernel
from pipeline.promql.arena import Arena
from pipeline.promql.cut import EvaluatorCut, InstanceCut, LooseSlot, WindowsCopier, restore_windows
from pipeline.promql.digest import windows_content
from pipeline.promql.graph import Graph
from pipeline.promql.history import TargetHistory, load
from pipeline.promql.library import Schedule
from pipeline.promql.outcome import ERRORS, Outcome, Slots, outcome_of
from pipeline.promql.plan import Plan, Version
from pipeline.promql.selection import SelectorIndex
from pipeline.promql.shapes import Shape, Shapes
from pipeline.promql.windows import Row, WindowStore

__all__ = ["ERRORS", "Evaluator", "Outcome", "Slots", "TargetHistory"]

BoolArray = npt.NDArray[np.bool_]
ScoreArray = npt.NDArray[np.float32]
SlotArray = npt.NDArray[np.int32]


class _Instance:
    """One instance's targets, its program, and its outputs with their slots."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.lasting = False
        """Whether it stays without any targets."""
        self.targets: list[int] = []
        self.outputs: dict[int, dict[Labels, int]] = {}
        self.plans_of_target: dict[int, tuple[int, ...]] = {}
        self.shape: Shape | None = None
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
        self._copier = WindowsCopier()
        self._shapes = Shapes(self._graph, self._index.numbers, version)
        self._selected_by = [
            frozenset(self._index.numbers[selector.matchers] for selector in plan.selectors)
            for plan in self.plans
        ]
        self._by_name: dict[str, _Instance] = {}
        self._in_order: list[str] | None = None
        self._free: list[int] = []
        self._instance_of: dict[int, _Instance] = {}
        self._dictionaries: dict[int, tuple[int, int]] = {}
        """Target and number of columns of each."""
        self._library = self._shapes.library
        self._caches: Arena[int, np.float64] = Arena(np.float64)
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
        """The instance's number; it stays, even without series (`absent` is true there)."""
        known = self._instance(instance)
        known.lasting = True
        return known.number

    def _instance(self, name: str) -> _Instance:
        known = self._by_name.get(name)
        if known is not None:
            return known
        if self._free:
            number = self._free.pop()
            self.instances[number] = name
        else:
            number = len(self.instances)
            self.instances.append(name)
        self._in_order = None
        known = self._by_name[name] = _Instance(number, name)
        return known

    def add_dictionary(self, dictionary: SeriesDictionary, instance: str) -> None:
        """Get ready for frames of this dictionary; does nothing for a known one."""
        if self.knows(dictionary.id):
            return
        target_id = dictionary.target.id
        owner = self._instance_of.setdefault(target_id, self._instance(instance))
        if target_id not in self._store.targets:
            owner.targets.append(target_id)
            owner.targets.sort()
        if self._store.add_dictionary(dictionary):
            self._unbind(owner)
        self._dictionaries[dictionary.id] = (target_id, len(dictionary.series))

    def drop_dictionary(self, dictionary_id: int) -> None:
        """Forget a dictionary, and the samples of the series that only it has.

        Slots that only they had are retired at the next evaluation. With a target's last dictionary
        the target is forgotten, with an instance's last target the instance.
        """
        target_id, _ = self._dictionaries.pop(dictionary_id)
        owner = self._instance_of[target_id]
        if len(self._store.targets[target_id].places) > 1:
            if self._store.drop_dictionary(target_id, dictionary_id):
                self._unbind(owner)
            return
        self._store.drop_target(target_id)
        del self._instance_of[target_id]
        owner.targets.remove(target_id)
        self._unbind(owner)
        if not owner.targets and not owner.lasting:
            self._drop_instance(owner)

    def _drop_instance(self, instance: _Instance) -> None:
        self._unbind(instance)
        self._assign_slots(instance, {})
        self._store.maps.release(instance.name)
        self._caches.release(instance.number)
        del self._by_name[instance.name]
        self.instances[instance.number] = ""
        self._free.append(instance.number)
        self._in_order = None

    def load_target(self, history: TargetHistory) -> None:
        """Take another evaluator's samples for the series that the target's dictionaries have."""
        load(self._store, history)

    def cut(self) -> EvaluatorCut:
        """A copy of all samples and of what evaluations carry on, as they are now.

        The next one is made in the same memory.
        """
        loose = [
            LooseSlot(instance.name, plan, labels, slot)
            for instance in self._by_name.values()
            if instance.shape is None
            for plan, outputs in instance.outputs.items()
            for labels, slot in outputs.items()
        ]
        instances = [
            InstanceCut(instance.name, instance.number)
            for instance in self._by_name.values()
            if instance.shape is not None
        ]
        windows = self._copier.cut(self._store)
        return EvaluatorCut(windows, self._store.maps.copy(), self._caches.copy(), instances, loose)

    def content(self) -> Iterator[bytes]:
        """Everything that later evaluations depend on, whatever its numbering; for comparing."""
        yield from windows_content(self._store)
        for name, instance in sorted(self._by_name.items()):
            yield msgspec.msgpack.encode((name, instance.targets, instance.shape is not None))
            if instance.shape is not None:
                yield self._caches.view(instance.number).tobytes()

    def restore(self, cut: EvaluatorCut) -> tuple[SlotArray, SlotArray]:
        """Go on where an evaluator with the same plans and dictionaries was at `cut`.

        Returns the numbers of all slots there, and those of the same outputs here.
        """
        maps, caches = cut.maps.by_owner(), cut.caches.by_owner()
        restore_windows(self._store, cut.windows, maps)
        there, here = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int32)]
        for saved in cut.bound:
            instance = self._instance(saved.name)
            self._bound(instance)
            own = _slots(instance)
            there.append(maps[saved.name][len(maps[saved.name]) - len(own) :])
            here.append(np.array(own, dtype=np.int32))
            self._caches.view(instance.number)[:] = caches[saved.number]
        for loose in cut.loose:
            outputs = self._instance(loose.instance).outputs.setdefault(loose.plan, {})
            slot = self._slots.assign(loose.plan, loose.instance, loose.labels)
            outputs[loose.labels] = slot
            there.append(np.array([loose.slot], dtype=np.int32))
            here.append(np.array([slot], dtype=np.int32))
        return np.concatenate(there), np.concatenate(here)

    def output_labels(self, plan: int, instance: str) -> list[Labels]:
        """The label sets that the plan can put out in the instance."""
        owner = self._by_name.get(instance)
        if owner is None:
            return []
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
        if self._in_order is None:
            self._in_order = sorted(self._by_name)
        jobs = []
        for name in self._in_order if instances is None else instances:
            owner = self._instance(name)
            schedule = self._library.schedule(self._bound(owner).program, subset)
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
                program = self._bound(owner).program
                schedule = self._library.schedule(program, owner.plans_of_target.get(target_id, ()))
            place = (offsets[frame], columns)
            jobs.append(_Job(owner, times[frame], frame, dictionary_id, *place, schedule))
        return self._run(jobs, batch.values, scores)

    def _unbind(self, instance: _Instance) -> None:
        if instance.shape is not None:
            self._shapes.release(instance.shape)
            instance.shape = None

    def _bound(self, instance: _Instance) -> Shape:
        """The instance's shape, found anew if its series changed; outputs keep their slots."""
        if instance.shape is not None:
            return instance.shape
        rows: list[Row] = []
        selected: dict[int, set[int]] = {}
        blocks: dict[int, int] = {}
        for target_id in instance.targets:
            own = self._store.targets[target_id].ordered()
            selected[target_id] = {number for row in own for number in row.selectors}
            rows += [
                Row(row.labels, blocks.setdefault(row.block, len(blocks)), row.row, row.selectors)
                for row in own
            ]
        shape, results = self._shapes.take(rows, len(blocks))
        self._assign_slots(instance, results)
        instance.plans_of_target = {
            target_id: tuple(
                plan for plan in results if not own.isdisjoint(self._selected_by[plan])
            )
            for target_id, own in selected.items()
        }
        data = np.array([*blocks, *_slots(instance)], dtype=np.int32)
        self._store.maps.store(instance.name, data)
        self._caches.store(instance.number, np.full(shape.cache_size, -1.0))
        self._make_room(shape)
        instance.shape = shape
        return shape

    def _assign_slots(self, instance: _Instance, results: Mapping[int, Sequence[Labels]]) -> None:
        before, instance.outputs = instance.outputs, {}
        for plan, result in results.items():
            known = before.get(plan, {})
            instance.outputs[plan] = {
                labels: known[labels]
                if labels in known
                else self._slots.assign(plan, instance.name, labels)
                for labels in result
            }
        for plan, outputs in before.items():
            for labels, slot in outputs.items():
                if labels not in instance.outputs.get(plan, {}):
                    self._slots.retire(plan, instance.name, labels, slot)

    def _make_room(self, shape: Shape) -> None:
        if shape.registers > len(self._registers):
            self._registers = np.zeros(2 * shape.registers)
            self._present = np.zeros(2 * shape.registers, dtype=np.bool_)
        if shape.operations > len(self._errors):
            self._errors = np.zeros(2 * shape.operations, dtype=np.uint8)
        if shape.groups > len(self._seen):
            self._seen = np.zeros(2 * shape.groups, dtype=np.bool_)
            self._groups = np.zeros((2 * shape.groups, 3))

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


def _slots(instance: _Instance) -> list[int]:
    return [slot for outputs in instance.outputs.values() for slot in outputs.values()]
