"""Pictures in one panel: what is drawn where, whose axes, and what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, plotting, utils

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def ax():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.subplots()


@pytest.fixture
def pyplot(monkeypatch):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


X = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
HISTORY = {"loss": [3.0, 1.0], "val_loss": [2.0, 1.5]}
CALLS = {
    "learning_curve": lambda **given: plotting.learning_curve(HISTORY, **given),
    "images": lambda **given: plotting.images(np.arange(48).reshape(3, 4, 4), **given),
    "weight_images": lambda **given: plotting.weight_images(np.zeros((16, 3)), (4, 4), **given),
    "confusion_matrix": lambda **given: plotting.confusion_matrix([0, 1], [1, 1], **given),
    "roc_curve": lambda **given: plotting.roc_curve([0, 1], [0.2, 0.1], **given),
    "activation": lambda **given: plotting.activation(np.tanh, **given),
    "decision_surface": lambda **given: plotting.decision_surface(lambda p: p[:, 0], X, [0, 1, 1], **given),
    "descent": lambda **given: plotting.descent(lambda at: float(at @ at), [[1.0], [0.5]], **given),
    "network": lambda **given: plotting.network([np.ones((2, 3)), np.zeros(3)], **given),
}


@pytest.mark.parametrize("name", CALLS)
def test_axes_go_in_and_come_out(name, ax, pyplot):
    assert CALLS[name](ax=ax) is ax
    made = CALLS[name]()
    assert made.figure is pyplot.gcf()
    made.figure.canvas.draw()
    shades = np.asarray(made.figure.canvas.buffer_rgba())
    assert shades.std() > 1  # not blank


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_axes(name, ax):
    with pytest.raises(TypeError, match=r"ax: got .*wants a matplotlib Axes"):
        CALLS[name](ax=ax.figure)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setattr(plotting.figures.importlib.util, "find_spec", lambda name: None)
    for call in CALLS.values():
        with pytest.raises(ImportError, match="plot"):
            call()


def test_a_learning_curve_of_a_fit(ax):
    class History:
        history = HISTORY

    plotting.learning_curve(History(), ax=ax)
    training, validation = (list(line.get_ydata()) for line in ax.lines[:2])
    assert [training, validation] == [[3.0, 1.0], [2.0, 1.5]]


def test_a_confusion_matrix_counts_rows_as_true(ax):
    plotting.confusion_matrix([0, 0, 0, 1, 2], [0, 0, 1, 1, 1], labels=["a", "b", "c"], ax=ax)
    found = {text.get_position(): text.get_text() for text in ax.texts}
    assert [[found[column, row] for column in range(3)] for row in range(3)] == [list("210"), list("010"), list("010")]
    shares = ax.images[0].get_array()
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 1, 0]])


def test_a_roc_curve_is_that_of_scikit_learn(ax):
    rng = np.random.default_rng(0)
    true, score = rng.integers(0, 2, 200), rng.integers(0, 12, 200) / 12  # equal ones among them
    plotting.roc_curve(true, score, ax=ax)
    better = (score[true == 1][:, None] > score[true == 0]).mean()
    equal = (score[true == 1][:, None] == score[true == 0]).mean()
    assert ax.get_legend().texts[0].get_text() == f"area {better + equal / 2:.3f}"
    x, y = ax.lines[1].get_data()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()


def test_curves_of_a_panel_differ_in_grey_too(ax):
    for _ in range(7):
        plotting.roc_curve([0, 1], [0.2, 0.1], ax=ax)
    styles = [(line.get_color(), line.get_linestyle(), str(line._dash_pattern)) for line in ax.lines[1:]]
    assert len(set(styles)) == 7
    assert len({dashes for *_, dashes in styles}) == 7
    assert len({str(plotting.line_style(place)) for place in range(42)}) == 42


def test_an_activation_and_its_slope(ax):
    plotting.activation(np.tanh, lambda x: 1 - np.tanh(x) ** 2, ax=ax)
    x, y = ax.lines[1].get_data()
    np.testing.assert_allclose(y, 1 - np.tanh(x) ** 2)
    plotting.activation(np.tanh, ax=ax)
    np.testing.assert_allclose(ax.lines[3].get_ydata(), y, atol=1e-3)


def test_a_surface_asks_models_and_functions(ax):
    utils.set_random_seed(0)
    model = models.Sequential([layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, [0, 1, 2], verbose=0)
    plotting.decision_surface(model, X, [0, 1, 2], labels=("one", "two", "three"), ax=ax)
    assert [text.get_text() for text in ax.get_legend().texts] == ["one", "two", "three"]
    low, high = ax.get_xlim()
    assert low < 0
    assert high > 2


@pytest.mark.parametrize(("boundary", "lines"), [(0.5, 1), (None, 0), (7.0, 0)])
def test_a_surface_of_one_output_has_a_line_at_its_boundary(boundary, lines, ax):
    plotting.decision_surface(lambda p: p[:, 0], X, [0, 1, 1], boundary=boundary, ax=ax)
    contours = [each for each in ax.collections if not hasattr(each, "get_sizes") or hasattr(each, "levels")]
    assert len(contours) == lines
    if lines:
        (line,) = contours[0].get_paths()
        np.testing.assert_allclose(line.vertices[:, 0], 0.5, atol=1e-6)
    heights = np.asarray(ax.images[0].get_array())
    assert (np.diff(heights, axis=1) > 0).all()
    assert ax.images[0].origin == "lower"
    np.testing.assert_allclose(ax.images[0].get_extent(), [-0.16, 2.16, -0.16, 2.16])


def test_a_surface_of_classes_has_lines_between_them_and_marks_above(ax):
    def corners(points):
        return np.stack([points[:, 0] < 1, (points[:, 0] >= 1) & (points[:, 1] < 1), points.min(axis=1) >= 1], axis=1)

    plotting.decision_surface(corners, X, [0, 1, 2], ax=ax)
    (contour,) = [each for each in ax.collections if hasattr(each, "levels")]
    assert list(contour.levels) == [0.5, 1.5]
    assert set(np.unique(ax.images[0].get_array())) == {0, 1, 2}
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1  # no point is below it
    markers = {str(each.get_paths()[0].vertices) for each in ax.collections if each is not contour}
    assert len(markers) == 3


def test_a_surface_that_is_the_same_everywhere(ax):
    plotting.decision_surface(lambda p: np.zeros(len(p)), X, [0, 1, 1], boundary=0, ax=ax)
    ax.figure.draw_without_rendering()


def test_zero_is_the_middle_of_a_units_weights(ax):
    plotting.weight_images([[1.0, 0.5], [-4.0, -0.25], [0.0, 0.0], [2.0, 0.0]], (2, 2), ax=ax)
    assert [image.get_clim() for image in ax.images] == [(-4, 4), (-0.5, 0.5)]


def test_images_in_colours(ax):
    shades = np.random.default_rng(0).random((2, 3, 3, 3))
    plotting.images(shades, ax=ax)
    np.testing.assert_array_equal(ax.images[1].get_array(), shades[1])


def test_a_network_writes_each_weight_and_bias(ax):
    kernel, bias = np.array([[1.25, -2.5]]), np.array([0.75, 0.5])
    plotting.network([kernel, bias], inputs=["x"], outputs=["p", "q"], ax=ax)
    said = {text.get_text() for text in ax.texts}
    assert said == {"1.25", "-2.5", "0.75", "0.5", "x", "p", "q"}
    (lines,) = ax.collections
    assert [style[1] is None for style in lines.get_linestyle()] == [True, False]  # whole, and dashed
    assert lines.get_linewidths()[1] > lines.get_linewidths()[0]
    assert len(ax.patches) == 3


def test_of_a_wide_network_the_first_units_are_drawn(ax):
    plotting.network([np.ones((784, 30)), np.zeros(30), np.ones((30, 2)), np.zeros(2)], ax=ax)
    assert {text.get_text() for text in ax.texts} == {"764 more", "10 more"}
    assert len(ax.patches) == 20 + 20 + 2


def test_images_have_their_captions(ax):
    plotting.images(np.arange(32.0).reshape(2, 16), ["a", "b"], shape=(4, 4), ax=ax)
    np.testing.assert_array_equal(ax.images[1].get_array(), np.arange(16, 32).reshape(4, 4))
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


BAD = {
    "quantity: got 'mse'": lambda: plotting.learning_curve(HISTORY, "mse"),
    "x: got .* wants images": lambda: plotting.images(np.zeros((3, 16))),
    "x: got .* wants rows of 9": lambda: plotting.images(np.zeros((3, 16)), shape=(3, 3)),
    "captions: got 1": lambda: plotting.images(np.zeros((3, 4, 4)), ["a"]),
    "columns: got 0": lambda: plotting.images(np.zeros((3, 4, 4)), columns=0),
    "kernel: got": lambda: plotting.weight_images(np.zeros(16), (4, 4)),
    "y_pred: got 1": lambda: plotting.confusion_matrix([0, 1], [1]),
    "y_true: got -1": lambda: plotting.confusion_matrix([-1, 1], [1, 1]),
    "y_true: got .* wants class indices": lambda: plotting.confusion_matrix([0.5, 1], [1, 1]),
    "labels: got 1": lambda: plotting.confusion_matrix([0, 1], [1, 1], labels=["a"]),
    "y_pred: got .* wants class indices": lambda: plotting.confusion_matrix([0, 1], [1, np.inf]),
    "y: got .* wants a class for each of 3 points": lambda: plotting.decision_surface(np.sin, X, [0, 1]),
    "labels: got 1, wants one for each of 2": lambda: plotting.decision_surface(np.sin, X, [0, 1, 1], labels=["a"]),
    "labels: got 1, wants one for each of 0": lambda: plotting.decision_surface(np.sin, X, labels=["a"]),
    "y_score: got": lambda: plotting.roc_curve([0, 1], [np.nan, 1]),
    "y_true: got the classes": lambda: plotting.roc_curve([1, 1], [0.5, 1]),
    "x: got .* wants points": lambda: plotting.decision_surface(np.sin, np.zeros((3, 3))),
    "path: got": lambda: plotting.descent(np.sum, np.zeros((3, 3))),
    "weights: got": lambda: plotting.network([np.zeros((2, 3)), np.zeros(2)]),
    "outputs: got 1 names, wants 3": lambda: plotting.network([np.ones((2, 3)), np.ones(3)], outputs=["a"]),
    "weights: got .*wants kernels": lambda: plotting.network(
        [np.ones((2, 3)), np.ones(3), np.ones((2, 1)), np.ones(1)]
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input(said):
    with pytest.raises(ValueError, match=said):
        BAD[said]()
