"""Chapters of a course as their notebooks have them: they run with Keras and with fastnn, and say the same."""

from __future__ import annotations

import os

import notebooks
import numpy as np
import pytest

import fastnn

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")


def outputs(model, x):
    return model.predict(x, verbose=0, batch_size=50)


@pytest.mark.parametrize("name", notebooks.CHAPTERS)
def test_a_chapter_runs_and_says_what_it_says_with_keras(name):
    if "text_vectorization" in name:
        pytest.importorskip("tensorflow", reason="TensorFlow, which Keras's TextVectorization needs, is not installed")
    chapter = notebooks.CHAPTERS[name]
    fastnn.utils.set_random_seed(0)
    keras.utils.set_random_seed(0)
    ours, x, figures = chapter(fastnn)
    theirs, _, wanted = chapter(keras)
    assert figures == wanted
    # a Normalization of Keras's also counts what it was adapted to
    ours.set_weights([weight.numpy() for weight in theirs.weights if weight.name != "count"])
    found, expected = outputs(ours, x), outputs(theirs, x)
    for one, other in zip(*(each if isinstance(each, list) else [each] for each in (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
