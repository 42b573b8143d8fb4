"""Where the kernel finds what: places in its tables, and the numbers of operations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
FlagArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.uint8]


# Columns of the jobs table: one frame to append, one schedule to evaluate, or both.
JOB_FRAME, JOB_TIME, JOB_MAP, JOB_VALUES, JOB_COLUMNS, JOB_CODE, JOB_CACHE, JOB_SCHEDULE = range(8)
JOB_INSTANCE, JOB_DATA = 8, 9
JOB_WIDTH = 10

# Columns of the blocks table.
TIMES_AT, VALUES_AT, CAPACITY, START, COUNT, ROWS, MARKS_AT, HISTORY, BASE = range(9)
BLOCK_WIDTH = 9

# Marks of a series: the newest absolute index where a series had a gap, fell, changed.
GAP, FALL, CHANGE = range(3)
MARKS = 3

# Layout of an operation, relative to the operation's place in `code`.
OPCODE, OUT, SIZE, DEPENDENCIES, DEPENDENCY_COUNT, A0, A1, A2, A3, A4, A5, A6 = range(12)
OPERATION_WIDTH = 12

# Operations.
(OP_NUMBER, OP_NOW, OP_SELECT, OP_RANGE, OP_ELEMENTWISE, OP_BINARY, OP_PAIRS, OP_AND, OP_OR,
 OP_UNLESS, OP_AGGREGATE, OP_ABSENT, OP_SCALAR, OP_UNIQUE, OP_MERGE) = range(15)  # fmt: skip

# Functions over a window.
(RATE, INCREASE, DELTA, IRATE, IDELTA, DERIV, PREDICT_LINEAR, CHANGES, RESETS, MIN_OVER_TIME,
 MAX_OVER_TIME, SUM_OVER_TIME, AVG_OVER_TIME, COUNT_OVER_TIME, LAST_OVER_TIME, PRESENT_OVER_TIME,
 STDDEV_OVER_TIME, STDVAR_OVER_TIME) = range(18)  # fmt: skip

# Functions of one value.
(NEGATE, ABS, CEIL, FLOOR, SQRT, EXP, LN, LOG2, LOG10, SGN, ROUND, CLAMP, CLAMP_MIN,
 CLAMP_MAX) = range(14)  # fmt: skip

# Operators; from EQ on they compare.
ADD, SUB, MUL, DIV, MOD, POW, ATAN2, EQ, NE, GT, LT, GE, LE = range(13)
AS_BOOL, SCALAR_LEFT, SCALAR_RIGHT, KEEP_RIGHT = 1, 2, 4, 8

# Aggregations.
SUM, AVG, MIN, MAX, COUNT_ROWS, GROUP, STDDEV, STDVAR = range(8)

# Errors of an evaluation; of several the highest is told.
ERROR_SAME_LABELS, ERROR_MANY_TO_MANY, ERROR_DUPLICATE_MATCH = 1, 2, 3

CACHE_WIDTH = 12
"""Numbers kept for a window whose result is carried from one evaluation to the next."""
