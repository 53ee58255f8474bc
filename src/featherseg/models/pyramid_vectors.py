"""Loops over the pixels of a row, a few channels at a time, with weights or sums in registers.

They are written in LLVM's vectors and become part of the numba kernels that call them. A vector has 8 lanes (channels),
or 1 where a group has fewer channels; LLVM maps 8 lanes to the registers that the processor has.

Arguments of all: ``lanes``, 8 or 1; ``places``, integers in values: where the first pixel lies in the source and how
far the next is, the same for the target, and the number of pixels. Stored values are float32, or bfloat16 as uint16:
widened by shifting, narrowed to the nearest with ties to even. An activation is rows of scale, shift and slope from a
column on, and what results are cut at.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.cgutils import ir
from numba.extending import intrinsic

LANES = 8
_intrinsic: Any = intrinsic  # numba passes the first parameter itself
_FLAGS = ("contract", "nsz", "arcp")
_FLOAT, _INT16, _INT32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)


class _Emitter:
    """Emits instructions on vectors of ``lanes`` float32."""

    def __init__(self, context: Any, builder: Any, lanes: int) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes

    def constant(self, kind: Any, value: Any) -> Any:
        return ir.Constant(ir.VectorType(kind, self.lanes), [value] * self.lanes)

    def spread(self, value: Any) -> Any:
        """A scalar in all lanes."""
        vector = ir.Constant(ir.VectorType(_FLOAT, self.lanes), ir.Undefined)
        for lane in range(self.lanes):
            vector = self.builder.insert_element(vector, value, ir.Constant(_INT32, lane))
        return vector

    def array(self, array: Any, array_type: Any) -> Any:
        return self.context.make_array(array_type)(self.context, self.builder, array)

    def rows(self, array: Any, array_type: Any, column: Any, count: int) -> list[Any]:
        """Pointers to ``array[0, column]``, ``array[1, column]``, ..., of a contiguous array."""
        struct, builder = self.array(array, array_type), self.builder
        length = cgutils.unpack_tuple(builder, struct.shape, 2)[1]
        starts = [builder.mul(length, ir.Constant(length.type, number)) for number in range(count)]
        return [builder.gep(struct.data, [builder.add(start, column)]) for start in starts]

    def load(self, pointer: Any, dtype: Any = types.float32) -> Any:
        """The vector at ``pointer``, widened."""
        builder, stored = self.builder, ir.VectorType(_INT16 if dtype == types.uint16 else _FLOAT, self.lanes)
        value = builder.load(builder.bitcast(pointer, stored.as_pointer()), align=dtype.bitwidth // 8)
        if dtype != types.uint16:
            return value
        wide = builder.zext(value, ir.VectorType(_INT32, self.lanes))
        return builder.bitcast(builder.shl(wide, self.constant(_INT32, 16)), ir.VectorType(_FLOAT, self.lanes))

    def store(self, value: Any, pointer: Any, dtype: Any = types.float32) -> None:
        builder, constant = self.builder, self.constant
        if dtype == types.uint16:
            bits = builder.bitcast(value, ir.VectorType(_INT32, self.lanes))
            last = builder.and_(builder.lshr(bits, constant(_INT32, 16)), constant(_INT32, 1))
            rounded = builder.add(builder.add(bits, constant(_INT32, 0x7FFF)), last)
            # The rounding would carry a NaN's bits into its sign.
            is_nan = builder.fcmp_unordered("uno", value, value)
            rounded = builder.select(is_nan, constant(_INT32, 0x7FC00000), rounded)
            value = builder.trunc(builder.lshr(rounded, constant(_INT32, 16)), ir.VectorType(_INT16, self.lanes))
        place = builder.bitcast(pointer, value.type.as_pointer())
        builder.store(value, place, align=dtype.bitwidth // 8)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)

    def activation(self, given: Sequence[Any], kinds: Sequence[Any]) -> Callable[[Any], Any]:
        """The activation that the arguments (coefficients, column, largest) tell of; none, where there are none."""
        if not given:
            return lambda value: value
        builder = self.builder
        scale, shift, slope = (self.load(row) for row in self.rows(given[0], kinds[0], given[1], 3))
        largest, zero = self.spread(given[2]), self.constant(_FLOAT, 0.0)

        def activated(value: Any) -> Any:
            value = self.multiply_add(value, scale, shift)
            below = builder.fcmp_ordered("<", value, zero)
            value = builder.select(below, builder.fmul(value, slope, flags=_FLAGS), value)
            return builder.select(builder.fcmp_ordered(">", value, largest), largest, value)

        return activated

    def pixels(self, places: Any, body: Callable[[Any, Any], None]) -> None:
        """``body(source, target)`` for each pixel's places."""
        builder = self.builder
        start, step, target_start, target_step, count = cgutils.unpack_tuple(builder, places, 5)
        with cgutils.for_range(builder, count) as loop:
            source = builder.add(start, builder.mul(step, loop.index))
            body(source, builder.add(target_start, builder.mul(target_step, loop.index)))

    def taps(self, lines: Any, lines_type: Any, reach: Any) -> Callable[[Any], list[Any]]:
        """Of a place: the nine vectors that a kernel meets from it on, three of each row, ``reach`` apart."""
        builder = self.builder
        rows = [self.array(line, lines_type.dtype).data for line in cgutils.unpack_tuple(builder, lines, 3)]
        reaches = [builder.mul(reach, ir.Constant(reach.type, number)) for number in range(3)]
        starts = [builder.gep(row, [moved]) for row in rows for moved in reaches]
        return lambda place: [self.load(builder.gep(start, [place])) for start in starts]


def _loop(emit: Callable[[_Emitter, Sequence[Any], Sequence[Any]], None]) -> Callable[..., Any]:
    """Code for 8 lanes and for 1, of which the first argument chooses: ``emit(emitter, types, other arguments)``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        wide = builder.icmp_signed("==", arguments[0], ir.Constant(arguments[0].type, LANES))
        with builder.if_else(wide) as (many, one):
            for branch, lanes in ((many, LANES), (one, 1)):
                with branch:
                    emit(_Emitter(context, builder, lanes), signature.args[1:], arguments[1:])
        return context.get_dummy_value()

    return codegen


def _take(emit: _Emitter, kinds: Sequence[Any], given: Sequence[Any]) -> None:
    source, target = (emit.array(given[i], kinds[i]).data for i in (1, 2))
    activated = emit.activation(given[3:], kinds[3:])

    def pixel(place: Any, target_place: Any) -> None:
        value = emit.load(emit.builder.gep(source, [place]), kinds[1].dtype)
        emit.store(activated(value), emit.builder.gep(target, [target_place]))

    emit.pixels(given[0], pixel)


def _convolve(emit: _Emitter, kinds: Sequence[Any], given: Sequence[Any]) -> None:
    places, lines, reach, kernel, column, target = given[:6]
    taps = emit.taps(lines, kinds[1], reach)
    weights = [emit.load(row) for row in emit.rows(kernel, kinds[3], column, 9)]
    to = emit.array(target, kinds[5]).data
    activated = emit.activation(given[6:], kinds[6:])

    def pixel(place: Any, target_place: Any) -> None:
        total = emit.constant(_FLOAT, 0.0)
        for weight, value in zip(weights, taps(place), strict=True):
            total = emit.multiply_add(weight, value, total)
        emit.store(activated(total), emit.builder.gep(to, [target_place]), kinds[5].dtype)

    emit.pixels(places, pixel)


def _correlate(emit: _Emitter, kinds: Sequence[Any], given: Sequence[Any]) -> None:
    places, lines, reach, upstream, sums, column = given
    taps = emit.taps(lines, kinds[1], reach)
    source = emit.array(upstream, kinds[3]).data
    rows = emit.rows(sums, kinds[4], column, 9)
    totals = [cgutils.alloca_once_value(emit.builder, emit.load(row)) for row in rows]

    def pixel(place: Any, upstream_place: Any) -> None:
        factor = emit.load(emit.builder.gep(source, [upstream_place]))
        for total, value in zip(totals, taps(place), strict=True):
            emit.builder.store(emit.multiply_add(factor, value, emit.builder.load(total)), total)

    emit.pixels(places, pixel)
    for row, total in zip(rows, totals, strict=True):
        emit.store(emit.builder.load(total), row)


@_intrinsic
def take(typing, lanes, places, source, target):  # type: ignore[no-untyped-def]
    """Copy pixels of ``source`` to float32 ``target``, both flat."""
    return types.void(lanes, places, source, target), _loop(_take)


@_intrinsic
def take_activated(typing, lanes, places, source, target, coefficients, column, largest):  # type: ignore[no-untyped-def]
    """:func:`take`, activated."""
    return types.void(lanes, places, source, target, coefficients, column, largest), _loop(_take)


@_intrinsic
def convolve(typing, lanes, places, lines, reach, kernel, column, target):  # type: ignore[no-untyped-def]
    """Each pixel's nine taps of three flat rows with the columns of ``kernel`` ``[9, C]`` from ``column`` on."""
    return types.void(lanes, places, lines, reach, kernel, column, target), _loop(_convolve)


@_intrinsic
def convolve_activated(typing, lanes, places, lines, reach, kernel, column, target, coefficients, at, largest):  # type: ignore[no-untyped-def]
    """:func:`convolve`, activated."""
    signature = types.void(lanes, places, lines, reach, kernel, column, target, coefficients, at, largest)
    return signature, _loop(_convolve)


@_intrinsic
def correlate(typing, lanes, places, lines, reach, upstream, sums, column):  # type: ignore[no-untyped-def]
    """Add to ``sums`` ``[9, C]`` the products of each pixel's taps with ``upstream``, which ``places`` calls target."""
    return types.void(lanes, places, lines, reach, upstream, sums, column), _loop(_correlate)
