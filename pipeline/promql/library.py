"""Programs ready to run, shared by the instances that have the same kinds of series."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec
import numpy as np

from pipeline.promql.arena import Arena
from pipeline.promql.program import Assembler, Vector


class Root(msgspec.Struct, frozen=True):
    """A plan's result: its operation, its number of rows, the place of its slots."""

    operation: int
    rows: int
    slots_at: int


class Schedule(msgspec.Struct, frozen=True):
    """What a set of plans needs, in order: its place is `code.at(owner)`; and what it puts out."""

    owner: tuple[int, tuple[int, ...]]
    spans: int
    rows: int


class Program:
    """One program and the schedules made of it so far."""

    def __init__(self, number: int, assembler: Assembler, roots: Mapping[int, Root]) -> None:
        self.number = number
        self.cache_size = assembler.cache_size
        self.roots = roots
        self.schedules: dict[tuple[int, ...], Schedule] = {}
        self.users = 0
        self.key = b""
        self._dependencies = tuple(assembler.dependencies)

    def needed(self, plans: tuple[int, ...]) -> list[int]:
        """The operations that these plans rest on, in order."""
        wanted = {self.roots[plan].operation for plan in plans}
        for number in range(len(self._dependencies) - 1, -1, -1):
            if number in wanted:
                wanted.update(self._dependencies[number])
        return sorted(wanted)


class ProgramLibrary:
    """All programs, in one array of code."""

    def __init__(self) -> None:
        self.code: Arena[Hashable, np.int32] = Arena(np.int32)
        self._programs: dict[bytes, Program] = {}
        self._next = 0

    def adopt(self, assembler: Assembler, results: Mapping[int, Vector], slots_at: int) -> Program:
        """The program with this code: a new one, or one that another instance has already.

        `results`: what each plan puts out; `slots_at`: where their slots begin in what the
        instance has for itself.
        """
        roots: dict[int, Root] = {}
        for plan, vector in results.items():
            roots[plan] = Root(vector.operation, len(vector), slots_at)
            slots_at += len(vector)
        code = assembler.assemble()
        key = code.tobytes() + repr(roots).encode()
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = Program(self._next, assembler, roots)
            program.key = key
            self._next += 1
            self.code.store(program.number, code)
        program.users += 1
        return program

    def release(self, program: Program) -> None:
        """An instance doesn't use the program any more."""
        program.users -= 1
        if program.users == 0:
            del self._programs[program.key]
            self.code.release(program.number)
            for schedule in program.schedules.values():
                self.code.release(schedule.owner)

    def schedule(self, program: Program, plans: tuple[int, ...]) -> Schedule:
        """The schedule of those of `plans` that have outputs."""
        known = program.schedules.get(plans)
        if known is not None:
            return known
        present = tuple(plan for plan in plans if plan in program.roots)
        operations = program.needed(present)
        roots = [program.roots[plan] for plan in present]
        numbers = [len(operations), len(present), *operations]
        for plan, root in zip(present, roots, strict=True):
            numbers += (plan, root.operation, root.slots_at)
        schedule = Schedule((program.number, plans), len(present), sum(root.rows for root in roots))
        self.code.store(schedule.owner, np.array(numbers, dtype=np.int32))
        program.schedules[plans] = schedule
        return schedule
