"""The functions, operators and aggregations that can be compiled, by their kernel numbers."""

from __future__ import annotations

from pipeline.promql import kernel

RANGE_FUNCTIONS = {
    "rate": kernel.RATE,
    "increase": kernel.INCREASE,
    "delta": kernel.DELTA,
    "irate": kernel.IRATE,
    "idelta": kernel.IDELTA,
    "deriv": kernel.DERIV,
    "predict_linear": kernel.PREDICT_LINEAR,
    "changes": kernel.CHANGES,
    "resets": kernel.RESETS,
    "min_over_time": kernel.MIN_OVER_TIME,
    "max_over_time": kernel.MAX_OVER_TIME,
    "sum_over_time": kernel.SUM_OVER_TIME,
    "avg_over_time": kernel.AVG_OVER_TIME,
    "count_over_time": kernel.COUNT_OVER_TIME,
    "last_over_time": kernel.LAST_OVER_TIME,
    "present_over_time": kernel.PRESENT_OVER_TIME,
    "stddev_over_time": kernel.STDDEV_OVER_TIME,
    "stdvar_over_time": kernel.STDVAR_OVER_TIME,
}

ELEMENTWISE = {
    "negate": kernel.NEGATE,
    "abs": kernel.ABS,
    "ceil": kernel.CEIL,
    "floor": kernel.FLOOR,
    "sqrt": kernel.SQRT,
    "exp": kernel.EXP,
    "ln": kernel.LN,
    "log2": kernel.LOG2,
    "log10": kernel.LOG10,
    "sgn": kernel.SGN,
    "round": kernel.ROUND,
    "clamp": kernel.CLAMP,
    "clamp_min": kernel.CLAMP_MIN,
    "clamp_max": kernel.CLAMP_MAX,
}

ARITHMETIC = {
    "+": kernel.ADD,
    "-": kernel.SUB,
    "*": kernel.MUL,
    "/": kernel.DIV,
    "%": kernel.MOD,
    "^": kernel.POW,
    "atan2": kernel.ATAN2,
}

COMPARISONS = {
    "==": kernel.EQ,
    "!=": kernel.NE,
    ">": kernel.GT,
    "<": kernel.LT,
    ">=": kernel.GE,
    "<=": kernel.LE,
}

SET_OPERATORS = ("and", "or", "unless")

AGGREGATIONS = {
    "sum": kernel.SUM,
    "avg": kernel.AVG,
    "min": kernel.MIN,
    "max": kernel.MAX,
    "count": kernel.COUNT_ROWS,
    "group": kernel.GROUP,
    "stddev": kernel.STDDEV,
    "stdvar": kernel.STDVAR,
}
