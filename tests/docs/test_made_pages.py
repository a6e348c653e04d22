"""The pages that are made of the table and of the public modules: complete, and readable as Markdown."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest

import fastnn
from docs import library, operations, text
from fastnn import differentiation, ops
from fastnn.kernels.table import TABLE


@pytest.fixture(scope="module")
def of_ops():
    return operations.pages()


def section(page, name):
    return re.split(r"^## ", page.partition(f"\n## {name} ")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", TABLE)
def test_every_op_has_its_section(name, of_ops):
    """Its parameters, its shapes, its options: each by the row."""
    row = TABLE[name]
    said = section(of_ops[f"ops/{row.module}.md"], name)
    for parameter in row.signature.parameters:
        assert re.search(rf"\b{parameter}\b", said.partition("```\n")[0])
    for operand in row.operands:
        assert f"| `{operand}` | " in said
    for option in row.options:
        assert f"| `{option}` | " in said
    assert said.count("| result") == len(row.returns)
    assert f"(#{name})" in of_ops["ops/index.md"] or f".md#{name})" in of_ops["ops/index.md"]


def test_every_function_of_ops_is_on_a_page(of_ops):
    assert all(f"\n## {name}" in "".join(of_ops.values()) for name in ops.__all__)


def test_shapes_and_options_as_they_are_written(of_ops):
    said = section(of_ops["ops/gemm.md"], "linear")
    assert "| `x` | `(n, in)` | may be a CSR matrix |" in said
    assert "| `b` | `(out,)` | may be None |" in said
    assert "`ops.linear`" not in said
    assert "by [`linear_backward`](gemm.md#linear_backward)" in said
    assert "n = 128, in = 784, out = 512 | 103 MFLOP | " in said
    said = section(of_ops["ops/softmax.md"], "softmax_cross_entropy")
    assert "| `targets` | `(n,)` or `(n, c)` |  |" in said
    assert "| result 1 | a number |" in said
    assert "| `beta_1` | number at least 0 and below 1 |" in section(of_ops["ops/optim.md"], "adam_step")


def test_what_pages_say_of_gradients_holds():
    """Of what has none, gradients say so."""
    x, y = np.ones(3, "float32"), np.full(3, 2, "float32")
    assert differentiation.has_derivative("multiply")
    assert not differentiation.has_derivative("sign_backward")
    assert not differentiation.has_derivative("adam_step")
    with pytest.raises(TypeError, match="no derivative"):
        fastnn.gradients(lambda x: ops.total(ops.relu_backward(x, y, y))[0], (x,))


@pytest.mark.parametrize("module", library.MODULES)
def test_every_public_name_is_on_its_page(module):
    page = library.pages()[f"library/{module}.md"]
    for name in importlib.import_module(f"fastnn.{module}").__all__:
        value = getattr(importlib.import_module(f"fastnn.{module}"), name)
        if callable(value):
            assert f"\n## {name}\n" in page


def test_prose_keeps_its_characters():
    assert text.escaped("a * b_c [i] ``d * e`` |x| < 1") == r"a \* b\_c \[i\] `d * e` \|x\| \< 1"


def test_examples_and_lists_of_arguments():
    made = text.docstring(
        """What it does.

        >>> f(1)
        2

        Parameters
        ----------
        x
            A number,
            any.
        """
    )
    assert "```pycon\n>>> f(1)\n2\n```" in made
    assert "**Parameters**\n\n- `x`: A number, any." in made


def test_a_long_signature_has_a_line_for_each_parameter():
    def f(a, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb=1, *, ccccccccccccccccccccccccccccccccccccccccccc=2): ...

    lines = text.signature("f", f).splitlines()
    assert lines[1:3] == ["f(", "    a,"]
    assert lines[4] == "    *,"


def test_an_empty_table_is_nothing():
    assert text.table(("a", "b"), []) == ""
    assert text.table(("a",), [("1",)]) == "| a |\n| --- |\n| 1 |"
