# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="misc,import-untyped"
"""Eight doubles side by side, as a type that compiled code computes with.

A loop over eight starts is written as arithmetic on one `Lanes` value: LLVM then has a vector
from the outset and need not prove that a loop can be made one. It becomes one AVX-512, two
AVX or four NEON registers. An array of lanes is a float64 array of shape (rows, 8).

Imported only by compiled files.
"""

import operator
from typing import Any

import numba
import numba.extending
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

LANES = 8
intrinsic: Any = numba.extending.intrinsic  # numba types its arguments wrongly
# Sums may be reordered and fused; nan and infinity keep their meaning, as in `_compiled`.
FLAGS = ("contract", "reassoc", "nsz", "arcp")

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class LanesType(types.Type):
    """The Numba type of eight doubles."""

    def __init__(self):
        super().__init__(name="Lanes8")


EIGHT = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


def _splat(builder, value):
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    zero = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(undefined, value, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, mask)


def _register(function, emit):
    """The binary operation on lanes and on lanes and a number, either way round."""

    @infer_global(function)
    class _Typing(ConcreteTemplate):
        cases = [
            signature(EIGHT, EIGHT, EIGHT),
            signature(EIGHT, EIGHT, types.float64),
            signature(EIGHT, types.float64, EIGHT),
        ]

    @lower_builtin(function, EIGHT, EIGHT)
    def both(context, builder, sig, args):
        return emit(builder)(args[0], args[1], flags=FLAGS)

    @lower_builtin(function, EIGHT, types.float64)
    def right(context, builder, sig, args):
        return emit(builder)(args[0], _splat(builder, args[1]), flags=FLAGS)

    @lower_builtin(function, types.float64, EIGHT)
    def left(context, builder, sig, args):
        return emit(builder)(_splat(builder, args[0]), args[1], flags=FLAGS)


_register(operator.add, lambda builder: builder.fadd)
_register(operator.iadd, lambda builder: builder.fadd)
_register(operator.sub, lambda builder: builder.fsub)
_register(operator.isub, lambda builder: builder.fsub)
_register(operator.mul, lambda builder: builder.fmul)
_register(operator.imul, lambda builder: builder.fmul)
_register(operator.truediv, lambda builder: builder.fdiv)
_register(operator.itruediv, lambda builder: builder.fdiv)


@infer_global(operator.neg)
class _Negation(ConcreteTemplate):
    cases = [signature(EIGHT, EIGHT)]


@lower_builtin(operator.neg, EIGHT)
def _negate(context, builder, sig, args):
    return builder.fsub(ir.Constant(_VECTOR, [-0.0] * LANES), args[0], flags=FLAGS)


def _address(context, builder, array_type, array, row):
    from numba.np import arrayobj

    data = arrayobj.make_array(array_type)(context, builder, array).data
    width = ir.Constant(row.type, LANES)
    return builder.bitcast(builder.gep(data, [builder.mul(row, width)]), _VECTOR.as_pointer())


@intrinsic
def get(typing_context, array, row):
    """The lanes in a row of an array (rows, 8)."""

    def emit(context, builder, sig, args):
        load = builder.load(_address(context, builder, sig.args[0], *args))
        load.align = 8
        return load

    return EIGHT(array, types.intp), emit


@intrinsic
def put(typing_context, array, row, value):
    """Write lanes to a row of an array (rows, 8)."""

    def emit(context, builder, sig, args):
        store = builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1]))
        store.align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, EIGHT), emit


@intrinsic
def splat(typing_context, value):
    """The same number in every lane."""

    def emit(context, builder, sig, args):
        return _splat(builder, args[0])

    return EIGHT(types.float64), emit


def _call(builder, name, arguments):
    kind = ir.FunctionType(_VECTOR, [one.type for one in arguments])
    full = f"llvm.{name}.v{LANES}f64"
    known = builder.module.globals.get(full)
    return builder.call(known or ir.Function(builder.module, kind, full), arguments)


@intrinsic
def root(typing_context, value):
    """Square root of each lane."""

    def emit(context, builder, sig, args):
        return _call(builder, "sqrt", args)

    return EIGHT(EIGHT), emit


@intrinsic
def size(typing_context, value):
    """Absolute value of each lane."""

    def emit(context, builder, sig, args):
        return _call(builder, "fabs", args)

    return EIGHT(EIGHT), emit


@intrinsic
def choose_greater(typing_context, a, b, this, other):
    """`this` where a > b, `other` elsewhere and where either is nan."""

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return EIGHT(EIGHT, EIGHT, EIGHT, EIGHT), emit


@intrinsic
def any_greater(typing_context, a, b):
    """Whether a > b in some lane."""

    def emit(context, builder, sig, args):
        bits = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(EIGHT, EIGHT), emit


@intrinsic
def _power_of_two(typing_context, whole):
    """2^n of lanes that hold whole numbers n in [-1022, 1023]."""

    def emit(context, builder, sig, args):
        wide = ir.VectorType(ir.IntType(64), LANES)
        number = builder.fptosi(args[0], wide)
        biased = builder.add(number, ir.Constant(wide, [1023] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(wide, [52] * LANES)), _VECTOR)

    return EIGHT(EIGHT), emit


@intrinsic
def _nearest(typing_context, value):
    """The nearest whole number of each lane."""

    def emit(context, builder, sig, args):
        return _call(builder, "rint", args)

    return EIGHT(EIGHT), emit


_LOG2_E = 1.4426950408889634
_LN_2_HIGH = 0.693145751953125
_LN_2_LOW = 1.42860682030941723212e-6


@numba.njit(error_model="numpy")
def exponential(x):
    """e^x of each lane to 2e-16; x is taken as -700 or 700 beyond those."""
    x = choose_greater(x, splat(-700.0), x, splat(-700.0))
    x = choose_greater(x, splat(700.0), splat(700.0), x)
    n = _nearest(x * _LOG2_E)
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW  # |r| <= ln(2) / 2
    p = splat(1.0 / 6227020800.0)
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _power_of_two(n)


@intrinsic
def _exponent(typing_context, value):
    """The power of two of each lane that is positive and normal."""

    def emit(context, builder, sig, args):
        wide = ir.VectorType(ir.IntType(64), LANES)
        bits = builder.bitcast(args[0], wide)
        shifted = builder.lshr(bits, ir.Constant(wide, [52] * LANES))
        return builder.sitofp(builder.sub(shifted, ir.Constant(wide, [1023] * LANES)), _VECTOR)

    return EIGHT(EIGHT), emit


_HALF_ROOT = 1.4142135623730951


@numba.njit(error_model="numpy")
def logarithm(x):
    """The natural logarithm to 1e-13 of lanes in [1e-300, 1e300]; not of nan."""
    n = _exponent(x)
    m = x * _power_of_two(-n)  # in [1, 2)
    n = choose_greater(m, splat(_HALF_ROOT), n + 1.0, n)
    m = choose_greater(m, splat(_HALF_ROOT), m * 0.5, m)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    p = splat(1.0 / 17.0)
    p = p * t + 1.0 / 15.0
    p = p * t + 1.0 / 13.0
    p = p * t + 1.0 / 11.0
    p = p * t + 1.0 / 9.0
    p = p * t + 1.0 / 7.0
    p = p * t + 0.2
    p = p * t + 1.0 / 3.0
    p = p * t + 1.0
    return s * p * 2.0 + n * 0.6931471805599453
