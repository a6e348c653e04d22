"""Steps of linear layers: the bits of the gradients and the steps one by one, however tiles and memory lie."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import backends, ops
from fastnn.kernels.cpu import gemm, linear_steps
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.linear_steps import of_bias, states_of, step_of

ROWS = [op for op in TABLE.values() if op.module == "linear_steps"]
# (n, in, out): one tile and less; weights whose rows are one tile wide, and less; panels packed together, by rows; a
# batch that is more than one block of the sums.
SHAPES = [
    (1, 1, 1),
    (5, 3, 7),
    (33, 20, 32),
    (64, 300, 10),
    (32, 100, 300),
    (128, 784, 64),
    (40, 700, 130),
    (700, 30, 50),
]


def made(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer(shape, dtype="float32", activation="relu"):
    """What a step takes of a layer's pass, by name."""
    n, inputs, outputs = shape
    x, w, b = made((n, inputs), dtype), made((inputs, outputs), dtype, 1), made((outputs,), dtype, 2)
    z = ops.linear(x, w, b) if activation == "gelu" else None
    y = ops.linear(x, w, b, activation)
    return {"dy": made((n, outputs), dtype, 3), "x": x, "w": w, "y": y, "b": b, "activation": activation, "z": z}


def with_states(op, given, variant):
    """The same with the states and options of a variant of the table's."""
    step = step_of(op)
    for place, state in enumerate(states_of(step)):
        if variant.get(state, ...) is not None:
            scale = 0.01 if step.draw.get(state) == "small" else 1.0  # a mean's square is less than a mean square
            for name, like in ((state, given["w"]), (of_bias(state), given["b"])):
                given[name] = (scale * (abs(made(like.shape, like.dtype, 4 + place)) + 0.1)).astype(like.dtype)
    return {**given, **{name: variant[name] for name in step.options if name in variant}}


def copied(given):
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in given.items()}


def one_by_one(op, given, need=("dx",)):
    """dx and what is updated, by ``linear_backward`` and the optimizer's op."""
    given, step = copied(given), step_of(op)
    operands = (given[name] for name in ("dy", "x", "w", "y", "activation", "z"))
    dx, dw, db = ops.linear_backward(*operands, need=(*need, "dw", "db"))
    options = {name: given[name] for name in step.options if name in given}
    states = [state for state in states_of(step) if state in given]
    getattr(ops, step.name)(given["w"], dw, **{state: given[state] for state in states}, **options)
    getattr(ops, step.name)(given["b"], db, **{state: given[of_bias(state)] for state in states}, **options)
    return dx, {name: given[name] for name in op.inplace if name in given}


def assert_same(op, given, function=None, **keywords):
    """The op's own results, on these very arrays, are the bits of the gradients and steps one by one."""
    dx, updated = one_by_one(op, given, **({"need": keywords["need"]} if "need" in keywords else {}))
    found = (function or getattr(ops, op.name))(**given, **keywords)
    assert (found is None) is (dx is None)
    assert dx is None or np.array_equal(found, dx)
    for name, value in updated.items():
        assert np.array_equal(given[name], value), name
    return found


@pytest.fixture
def fused_only(monkeypatch):
    """No step may fall back on one by one."""

    def refuse(op, given, dx):
        return lambda *arguments, **keywords: pytest.fail("the step was made of its parts")

    monkeypatch.setattr(linear_steps, "_dense", refuse)


def unremembered(op):
    """The kernel's op, which plans every call anew, by names."""
    run, signature = getattr(linear_steps, op.name), op.signature

    def call(**given):
        bound = signature.bind(**given)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        dx = arguments.pop("dx")
        return run(*arguments.values(), dx=dx)

    return call


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_have_the_bits_of_gradients_and_steps(shape, dtype, threads):
    op = TABLE["linear_rmsprop_step"]
    with backends.use_num_threads(threads):
        for activation in ("linear", "relu", "gelu", "softmax"):
            given = with_states(op, layer(shape, dtype, activation), {"velocity": None, "mean": None})
            for need in (("dx",), ()):
                assert_same(op, copied(given), need=need)
                assert_same(op, copied(given), need=need)  # by the plan that is remembered


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_steps_of_every_optimizer_go_tile_by_tile(op, fused_only):
    for variant in step_of(op).variants:
        for shape in ((16, 20, 40), (9, 15, 5)):
            assert_same(op, with_states(op, layer(shape), variant), unremembered(op))


def test_a_layer_without_a_bias(fused_only):
    op = TABLE["linear_sgd_step"]
    given = layer((16, 20, 40))
    _, expected = one_by_one(op, given)
    unremembered(op)(**{**given, "b": None})
    assert np.array_equal(given["w"], expected["w"])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("columns", [40, 400])
def test_steps_of_many_blocks(columns, threads, fused_only, monkeypatch):
    """Blocks of some 32 rows of weights, A copied into tiles where there are many panels."""
    caches = machine.Caches(32 << 10, 32 << 10, 64 << 10, l1_ways=8)
    monkeypatch.setattr(gemm, "caches", lambda: caches)
    monkeypatch.setattr(gemm, "_plan", gemm._plan.__wrapped__)
    op, shape = TABLE["linear_rmsprop_step"], (60, 500, columns)
    given = with_states(op, layer(shape), {"velocity": None, "mean": None})
    product = gemm.product_of(given["x"].T, given["dy"], None)
    assert product.plan.MC < 500
    assert product.plan.copied is (columns == 400)
    with backends.use_num_threads(threads):
        assert_same(op, given, unremembered(op))


def test_parameters_in_one_array_are_stepped_and_nothing_beside_them(fused_only):
    op, shape = TABLE["linear_adam_step"], (32, 50, 70)
    given = with_states(op, layer(shape), {"v_max": None, "step": 3})
    memory, at = np.full(40_000, 123.0, "float32"), 17
    taken = np.zeros(memory.size, bool)
    for name in op.inplace:
        if name in given:
            size = given[name].size
            memory[at : at + size], taken[at : at + size] = given[name].ravel(), True
            given[name] = memory[at : at + size].reshape(given[name].shape)
            at += size + 1
    assert_same(op, given, unremembered(op))
    assert (memory[~taken] == 123.0).all()


@pytest.mark.parametrize("name", ["x", "dy", "y"])
@pytest.mark.parametrize("shift", [0, 5])
def test_weights_may_share_memory_with_what_is_read(name, shift):
    """All is read before anything is written."""
    op, shape = TABLE["linear_rmsprop_step"], (40, 40, 40)
    given = with_states(op, layer(shape, activation="linear"), {"velocity": None, "mean": None})
    memory = made((40 * 40 + 5,), "float32", 9)
    given["w"], given[name] = memory[:1600].reshape(40, 40), memory[shift : shift + 1600].reshape(40, 40)
    apart = copied(given)
    dx, updated = one_by_one(op, apart)
    assert np.array_equal(ops.linear_rmsprop_step(**given), dx)
    for each, value in updated.items():
        assert np.array_equal(given[each], value), each


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_weights_are_stepped_where_they_lie(shape, threads):
    """The longest batch is one that is stepped one by one."""
    op = TABLE["linear_adam_step"]
    given = with_states(op, layer(shape), {"step": 3})
    names = ("w", *states_of(step_of(op)))
    with backends.use_num_threads(threads):
        dx, expected = one_by_one(op, given)
        for _ in range(2):  # the second call is one that is remembered
            packed = {**copied(given), **{name: ops.pack(given[name]) for name in names}}
            assert np.array_equal(ops.linear_adam_step(**packed), dx)
            for name, value in expected.items():
                assert np.array_equal(ops.unpack(packed[name]) if name in names else packed[name], value), name


def test_packed_weights_go_tile_by_tile_with_states_packed_alike(fused_only, monkeypatch):
    monkeypatch.setattr(linear_steps, "_on_copies", lambda *_: lambda *_, **__: pytest.fail("stepped on copies"))
    op = TABLE["linear_rmsprop_step"]
    given = with_states(op, layer((16, 20, 70)), {"velocity": None, "mean": None})
    unremembered(op)(**{**given, **{name: ops.pack(given[name]) for name in ("w", "mean_square")}})
    for mixed in ("w", "mean_square"):
        with pytest.raises(ValueError, match=r"mean_square: got .*wants it packed where w is"):
            ops.linear_rmsprop_step(**{**given, mixed: ops.pack(given[mixed])})
    with pytest.raises(TypeError, match="b: got"):
        ops.linear_rmsprop_step(**{**given, "b": ops.pack(given["w"])})


def test_dx_is_written_where_it_is_wanted():
    op = TABLE["linear_rmsprop_step"]
    given = with_states(op, layer((16, 20, 40)), {"velocity": None, "mean": None})
    out = np.full((20, 16), np.nan, "float32").T
    assert assert_same(op, copied(given), dx=out) is out
    assert assert_same(op, given, dx=given["x"]) is given["x"]


def test_bad_input_is_refused_before_anything_is_written():
    op = TABLE["linear_rmsprop_step"]
    given = with_states(op, layer((6, 4, 3)), {"velocity": None, "mean": None})
    before = copied(given)
    for wrong, error, match in (
        ({"mean_square_b": None}, ValueError, "mean_square_b: got .*wants it given where b and mean_square are"),
        ({"b": None}, ValueError, "mean_square_b: got .*wants it given where b and mean_square are"),
        ({"velocity": given["w"].copy()}, ValueError, "velocity: got .*when momentum"),
        ({"b": given["b"][:2]}, ValueError, r"b: got shape \(2,\), wants shape \(3,\)"),
        ({"mean_square": given["w"].T}, ValueError, r"mean_square: got shape \(3, 4\), wants shape \(4, 3\)"),
        ({"w": given["w"].astype("float64")}, TypeError, "w: got dtype float64"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate: got -1"),
        ({"need": ("dw",)}, ValueError, r"need\[0\]: got 'dw'"),
        ({"z": given["y"]}, ValueError, "z: got"),
        ({"activation": "rely"}, ValueError, "did you mean 'relu'"),
    ):
        with pytest.raises(error, match=f"^{match}" if "mean" not in match else match):
            ops.linear_rmsprop_step(**{**given, **wrong})
    for name in op.inplace:
        if name in given:
            assert np.array_equal(given[name], before[name]), name
