"""neuralnet: algorithms against plain loops of them, formulas, results in R's names and order, bad input."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.datasets import iris
from fastnn.neuralnets import ConvergenceWarning, NeuralNet, neuralnet

X, LABELS = iris.load_data(test_split=0.0, seed=0)[0]
NAMES = ("Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width")
SPECIES = np.array(iris.get_label_names())[LABELS]
IRIS = {**dict(zip(NAMES, X.T, strict=True)), "Species": SPECIES}
XOR = {"a": [0.0, 0, 1, 1], "b": [0.0, 1, 0, 1], "y": [0.0, 1, 1, 0]}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Plain:
    """A network with one logistic hidden layer in NumPy, weights in R's order, and R's algorithms on it."""

    def __init__(self, x, y, hidden, start, linear=True, ce=False):
        self.x, self.y, self.linear, self.ce = np.column_stack([np.ones(len(x)), x]), y, linear, ce
        self.split = (x.shape[1] + 1) * hidden
        self.hidden = hidden
        self.w = np.array(start)
        self.size, self.old = np.full(self.w.size, 0.1), np.zeros(self.w.size)

    def gradient(self):
        first = self.w[: self.split].reshape(self.hidden, -1).T
        second = self.w[self.split :].reshape(-1, self.hidden + 1).T
        h = np.column_stack([np.ones(len(self.x)), sigmoid(self.x @ first)])
        z = h @ second
        o = z if self.linear else sigmoid(z)
        delta = o - self.y if self.linear or self.ce else (o - self.y) * o * (1 - o)
        self.error = (
            -np.sum(self.y * np.log(o) + (1 - self.y) * np.log(1 - o)) if self.ce else np.sum((o - self.y) ** 2) / 2
        )
        back = (delta @ second.T * h * (1 - h))[:, 1:]
        return np.concatenate([(self.x.T @ back).T.ravel(), (h.T @ delta).T.ravel()])

    def step(self, algorithm):
        g = self.gradient()
        if algorithm == "backprop":
            self.w -= 0.01 * g
            return
        turned = self.old * (np.sign(g) if algorithm == "rprop+" else g)
        grown, shrunk = turned > 0, turned < 0
        if algorithm == "rprop+":
            self.w[shrunk] += self.old[shrunk] * self.size[shrunk]
        self.size[grown] = np.minimum(self.size[grown] * 1.2, 0.1)
        self.size[shrunk] = np.maximum(self.size[shrunk] * 0.5, 1e-10)
        if algorithm == "rprop+":
            self.old = np.where(shrunk, 0.0, np.sign(g))
            self.w -= self.old * self.size
            return
        if algorithm in ("sag", "slr"):
            one = np.argmin(np.abs(g) if algorithm == "sag" else self.size)
            total = np.sum(np.delete(self.size * g, one)) + 1e-6
            self.size[one] = min(max(-total / g[one], 1e-10), 0.1)
        self.w -= np.sign(g) * self.size
        self.old = g


def in_order(weights):
    return np.concatenate([matrix.T.ravel() for matrix in weights])


@pytest.mark.parametrize("algorithm", ["rprop+", "rprop-", "sag", "slr", "backprop"])
@pytest.mark.parametrize("kind", ["linear", "logistic", "ce"])
def test_steps_are_those_of_the_algorithm(algorithm, kind):
    """A threshold that the plain loop reaches at some step ends training at that step, at the same weights."""
    start = np.random.default_rng(0).standard_normal(5 * 3 + 4 * 3)
    y = (SPECIES[:, None] == iris.get_label_names()).astype(float)
    plain = Plain(X, y, 3, start, linear=kind == "linear", ce=kind == "ce")
    reached = []
    for _ in range(30):
        reached.append(np.abs(plain.gradient()).max())
        plain.step(algorithm)
    steps = int(np.argmin(reached)) + 1
    threshold = reached[steps - 1] * (1 + 1e-9)
    plain = Plain(X, y, 3, start, linear=kind == "linear", ce=kind == "ce")
    for _ in range(steps - 1):
        plain.step(algorithm)
    plain.gradient()
    net = neuralnet(
        "Species ~ .", IRIS, hidden=3, threshold=threshold, startweights=start, algorithm=algorithm,
        learningrate=0.01 if algorithm == "backprop" else None, linear_output=kind == "linear",
        err_fct="ce" if kind == "ce" else "sse",
    )  # fmt: skip
    (result,) = net.results
    assert steps > 3
    assert result["steps"] == steps
    assert result["error"] == pytest.approx(plain.error, rel=1e-9)
    assert result["reached_threshold"] == pytest.approx(reached[steps - 1], rel=1e-8)
    np.testing.assert_allclose(in_order(net.weights[0]), plain.w, rtol=1e-8)
    np.testing.assert_array_equal(in_order(net.startweights[0]), start)


@pytest.mark.parametrize(
    ("hidden", "algorithm"),
    [(10, "rprop+"), ((5, 3), "rprop+"), (10, "rprop-"), ((5, 3), "rprop-"), (10, "sag"), ((5, 3), "sag"), (3, "slr")],
)
def test_iris_is_learned(hidden, algorithm):
    errors = []
    for seed in range(3):
        net = fastnn.neuralnet("Species ~ .", IRIS, hidden=hidden, linear_output=False, seed=seed, algorithm=algorithm)
        assert net.results[0]["reached_threshold"] <= 0.01
        errors.append(net.results[0]["error"])
    assert np.median(errors) <= 9.03
    assert (net.predict(IRIS).argmax(axis=1) == LABELS).mean() > 0.97


@pytest.mark.parametrize("algorithm", ["rprop+", "sag"])
def test_calls_of_many_steps_end_where_single_ones_do(monkeypatch, algorithm):
    from fastnn.neuralnets import algorithms

    whole = neuralnet("Species ~ .", IRIS, hidden=2, threshold=1.0, seed=3, algorithm=algorithm)
    for steps in (1, 7):
        monkeypatch.setattr(algorithms, "_STEPS_AT_ONCE", steps)
        parts = neuralnet("Species ~ .", IRIS, hidden=2, threshold=1.0, seed=3, algorithm=algorithm)
        assert parts.results == whole.results


def test_results_have_rs_names_and_order():
    net = neuralnet("Species ~ Petal.Length + Petal.Width", IRIS, hidden=(2, 1), threshold=2.0, seed=0, likelihood=True)
    result = net.results[0]
    assert list(result)[:5] == ["error", "reached_threshold", "steps", "aic", "bic"]
    assert list(result)[5:11] == [
        "Intercept.to.1layhid1", "Petal.Length.to.1layhid1", "Petal.Width.to.1layhid1",
        "Intercept.to.1layhid2", "Petal.Length.to.1layhid2", "Petal.Width.to.1layhid2",
    ]  # fmt: skip
    assert list(result)[11:16] == [
        "Intercept.to.2layhid1", "1layhid1.to.2layhid1", "1layhid2.to.2layhid1",
        "Intercept.to.setosa", "2layhid1.to.setosa",
    ]  # fmt: skip
    assert result["Petal.Width.to.1layhid2"] == net.weights[0][0][2, 1]
    assert result["aic"] == pytest.approx(2 * result["error"] + 2 * 15)
    assert result["bic"] == pytest.approx(2 * result["error"] + np.log(150) * 15)
    assert net.model_list == {
        "response": ("setosa", "versicolor", "virginica"),
        "variables": ("Petal.Length", "Petal.Width"),
    }
    text = repr(net)
    assert "1 repetition was calculated." in text
    assert net.data is IRIS
    assert f"{result['error']:.7g}" in text


def test_result_matrix_is_a_frame():
    pd = pytest.importorskip("pandas")
    net = neuralnet("y ~ a + b", XOR, hidden=3, rep=2, seed=1)
    matrix = net.result_matrix
    assert isinstance(matrix, pd.DataFrame)
    assert list(matrix.columns) == [1, 2]
    assert list(matrix.index)[:4] == ["error", "reached.threshold", "steps", "Intercept.to.1layhid1"]
    assert matrix.loc["error", 2] == net.results[1]["error"]
    assert matrix.loc["reached.threshold", 1] == net.results[0]["reached_threshold"]


def test_repetitions_begin_with_weights_of_their_own():
    net = neuralnet("y ~ a + b", XOR, hidden=3, rep=2, seed=1)
    assert len(net.weights) == 2
    assert not np.array_equal(*(in_order(start) for start in net.startweights))
    fastnn.utils.set_random_seed(5)
    first = neuralnet("y ~ a + b", XOR, hidden=3)
    fastnn.utils.set_random_seed(5)
    assert neuralnet("y ~ a + b", XOR, hidden=3).results == first.results


def test_outputs():
    net = neuralnet("y ~ a + b", XOR, hidden=2, seed=4, linear_output=False, threshold=0.05)
    x = np.column_stack([XOR["a"], XOR["b"]])
    first, second = net.weights[0]
    hidden = sigmoid(x @ first[1:] + first[0])
    wanted = sigmoid(hidden @ second[1:] + second[0])
    computed = net.compute(XOR)
    np.testing.assert_allclose(computed.net_result, wanted, rtol=1e-12)
    np.testing.assert_allclose(computed.neurons[1], np.column_stack([np.ones(4), hidden]), rtol=1e-12)
    np.testing.assert_array_equal(computed.neurons[0], np.column_stack([np.ones(4), x]))
    np.testing.assert_array_equal(net.predict(x), computed.net_result)
    np.testing.assert_array_equal(net.net_result[0], computed.net_result)
    assert [layer.shape for layer in net.predict(XOR, all_units=True)] == [(4, 2), (4, 2), (4, 1)]


def test_generalized_weights_are_slopes_of_log_odds():
    net = neuralnet("Species ~ .", IRIS, hidden=3, linear_output=False, threshold=1.0, seed=0)
    found = net.generalized_weights[0]
    assert found.shape == (150, 12)
    for covariate in range(4):
        step = np.zeros(4)
        step[covariate] = 1e-5
        odds = [np.log(o / (1 - o)) for o in (net.predict(X + step), net.predict(X - step))]
        np.testing.assert_allclose(found[:, covariate::4], (odds[0] - odds[1]) / 2e-5, rtol=1e-4, atol=1e-6)


def test_predictions_are_one_for_each_combination():
    doubled = {name: [*values, *values] for name, values in XOR.items()}
    doubled["y"][0] = 1.0
    net = neuralnet("y ~ a + b", doubled, hidden=2, seed=4, threshold=0.05)
    found = net.prediction()
    assert list(found) == ["rep1", "data"]
    np.testing.assert_array_equal(found["data"], [[0, 0, 0.5], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(found["rep1"][:, 2:], net.predict(found["rep1"][:, :2]))


def test_confidence_intervals_are_the_sandwichs():
    """Without hidden units and with cross-entropy the network is a logistic regression, whose Hessian is known."""
    two = LABELS > 0
    data = {"length": X[two, 0], "width": X[two, 1], "virginica": (LABELS[two] == 2).astype(float)}
    net = neuralnet(
        "virginica ~ length + width", data, hidden=0, err_fct="ce", linear_output=False, threshold=1e-6, seed=0,
        likelihood=True,
    )  # fmt: skip
    a = np.column_stack([np.ones(100), data["length"], data["width"]])
    w = in_order(net.weights[0])
    p = sigmoid(a @ w)
    hessian = (a * (p * (1 - p))[:, None]).T @ a
    rows = a * (p - data["virginica"])[:, None]
    covariance = np.linalg.inv(hessian) @ rows.T @ rows @ np.linalg.inv(hessian)
    spread = 1.959963984540054 * np.sqrt(covariance.diagonal())
    found = net.confidence_interval()
    np.testing.assert_allclose(in_order(found.lower_ci[0]), w - spread, rtol=1e-5)
    np.testing.assert_allclose(in_order(found.upper_ci[0]), w + spread, rtol=1e-5)
    wanted = net.results[0]["error"] + np.trace(rows.T @ rows @ np.linalg.inv(hessian))
    assert found.nic[0] == pytest.approx(wanted, rel=1e-6)
    narrow = net.confidence_interval(alpha=0.5)
    assert (in_order(narrow.lower_ci[0]) > in_order(found.lower_ci[0])).all()


def test_excluded_weights_stay():
    exclude = [(1, 1, 2), (2, 3, 1)]
    net = neuralnet("y ~ a + b", XOR, hidden=3, exclude=exclude, constant_weights=[0.5, 0.0], seed=3, likelihood=True)
    assert net.weights[0][0][0, 1] == 0.5
    assert net.weights[0][1][2, 0] == 0.0
    assert net.results[0]["aic"] == pytest.approx(2 * net.results[0]["error"] + 2 * (13 - 1))
    by_place = neuralnet("y ~ a + b", XOR, hidden=3, exclude=[4, 12], constant_weights=[0.5, 0.0], seed=3)
    assert in_order(by_place.weights[0]).tolist() == in_order(net.weights[0]).tolist()
    for algorithm in ("rprop-", "sag"):
        net = neuralnet("y ~ a + b", XOR, hidden=3, exclude=exclude, seed=2, algorithm=algorithm, threshold=0.2)
        assert net.weights[0][0][0, 1] == 0.0


def test_constants_are_of_the_first_excluded_weights():
    net = neuralnet("y ~ a + b", XOR, hidden=3, exclude=[4, 12], constant_weights=[0.5], seed=3, likelihood=True)
    assert in_order(net.weights[0])[[3, 11]].tolist() == [0.5, 0.0]
    assert net.results[0]["aic"] == pytest.approx(2 * net.results[0]["error"] + 2 * (13 - 1))
    assert net.exclude == [4, 12]


def test_startweights_of_all_forms():
    """A vector for each repetition or for all, the layers' matrices, those of all repetitions, the free ones alone."""
    start = np.random.default_rng(1).standard_normal(2 * 13)
    twice = neuralnet("y ~ a + b", XOR, hidden=3, rep=2, startweights=start, threshold=0.1)
    for rep in range(2):
        np.testing.assert_array_equal(in_order(twice.startweights[rep]), start[13 * rep :][:13])
    for given in (twice.startweights, [[each.tolist() for each in rep] for rep in twice.startweights]):
        assert neuralnet("y ~ a + b", XOR, hidden=3, rep=2, startweights=given, threshold=0.1).results == twice.results
    for given in (start[:13], twice.startweights[0]):
        again = neuralnet("y ~ a + b", XOR, hidden=3, rep=2, startweights=given, threshold=0.1)
        assert again.results == [twice.results[0]] * 2
    free = neuralnet("y ~ a + b", XOR, hidden=3, exclude=[2], startweights=start[:12], threshold=0.1)
    np.testing.assert_array_equal(in_order(free.startweights[0]), [start[0], 0.0, *start[1:12]])


def test_functions_of_errors_are_summed():
    """As R writes them: an error for each row and output, or their sum."""
    wanted = neuralnet("Species ~ .", IRIS, hidden=2, threshold=5.0, seed=0)
    for own in (lambda x, y: 1 / 2 * (y - x) ** 2, lambda x, y: ops.sum((y - x) * (y - x) / 2)):
        found = neuralnet("Species ~ .", IRIS, hidden=2, threshold=5.0, seed=0, err_fct=own)
        assert found.results[0]["error"] == pytest.approx(wanted.results[0]["error"], rel=1e-6)
    softplus = neuralnet("y ~ a + b", XOR, hidden=3, seed=2, act_fct=lambda x: ops.log(1 + ops.exp(x)), threshold=0.1)
    known = neuralnet("y ~ a + b", XOR, hidden=3, seed=2, act_fct=ops.softplus, threshold=0.1)
    np.testing.assert_allclose(in_order(softplus.weights[0]), in_order(known.weights[0]), rtol=1e-6)


def test_functions_of_ones_own_are_differentiated():
    named = neuralnet("Species ~ .", IRIS, hidden=3, threshold=2.0, seed=0, act_fct="tanh")
    own = neuralnet("Species ~ .", IRIS, hidden=3, threshold=2.0, seed=0, act_fct=ops.tanh, err_fct=ops.half_sse)
    assert own.results[0]["steps"] == named.results[0]["steps"]
    np.testing.assert_allclose(in_order(own.weights[0]), in_order(named.weights[0]), rtol=1e-9)
    soft = neuralnet("y ~ a + b", XOR, hidden=3, seed=2, act_fct=ops.softplus, threshold=0.1)
    assert soft.results[0]["reached_threshold"] <= 0.1


def test_no_result_is_said():
    with pytest.warns(ConvergenceWarning, match=r"did not converge in 2 of 2 repetition\(s\) within the stepmax"):
        net = neuralnet("Species ~ .", IRIS, hidden=2, stepmax=10, rep=2, seed=0)
    assert net.results == []
    assert "0 repetitions were calculated" in repr(net)
    for call in (lambda: net.predict(IRIS), net.confidence_interval, net.plot, net.prediction):
        with pytest.raises(ValueError, match="weights were not calculated"):
            call()


def test_steps_are_no_more_than_stepmax():
    full = neuralnet("Species ~ .", IRIS, hidden=2, threshold=1.0, seed=3)
    steps = int(full.results[0]["steps"])
    assert neuralnet("Species ~ .", IRIS, hidden=2, threshold=1.0, seed=3, stepmax=steps).results == full.results
    with pytest.warns(ConvergenceWarning):
        neuralnet("Species ~ .", IRIS, hidden=2, threshold=1.0, seed=3, stepmax=steps - 1)


def test_lifesigns(capsys):
    neuralnet("y ~ a + b", XOR, hidden=3, seed=1, lifesign="minimal")
    out = capsys.readouterr().out
    assert "hidden: 3    thresh: 0.01    rep: 1/1    steps: " in out
    assert "error: " in out
    net = neuralnet("y ~ a + b", XOR, hidden=3, seed=1, lifesign="minimal", likelihood=True)
    out = capsys.readouterr().out
    assert f"aic: {net.results[0]['aic']:.5f}    bic: {net.results[0]['bic']:.5f}    time: " in out
    net = neuralnet("y ~ a + b", XOR, hidden=3, seed=1, lifesign="full", lifesign_step=10)
    assert capsys.readouterr().out.count("min thresh") == net.results[0]["steps"] // 10
    neuralnet("y ~ a + b", XOR, hidden=3, seed=1)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------------------- formulas


def test_column_lists_need_no_formula():
    wanted = neuralnet("Species ~ Petal.Length + Petal.Width", IRIS, hidden=2, threshold=1.0, seed=0)
    found = neuralnet((["Species"], ["Petal.Length", "Petal.Width"]), IRIS, hidden=2, threshold=1.0, seed=0)
    assert found.results == wanted.results


def test_data_frames_and_formulas_of_formulaic():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("formulaic")
    frame = pd.DataFrame(IRIS)
    plain = neuralnet("Species ~ .", IRIS, hidden=2, threshold=2.0, seed=0)
    assert neuralnet("Species ~ .", frame, hidden=2, threshold=2.0, seed=0).results == plain.results
    frame.columns = [name.replace(".", "_") for name in frame.columns]
    net = neuralnet(
        "Sepal_Length ~ log(Petal_Width) + Species + Sepal_Width:Petal_Length", frame, hidden=2, threshold=5.0, seed=0
    )
    assert net.model_list["variables"] == (
        "log(Petal_Width)", "Speciesversicolor", "Speciesvirginica", "Sepal_Width:Petal_Length",
    )  # fmt: skip
    np.testing.assert_allclose(net.covariate[:, 0], np.log(frame.Petal_Width))
    np.testing.assert_array_equal(net.predict(frame.iloc[[0]]), net.predict(frame)[:1])
    classes = neuralnet("Species ~ log(Petal_Width)", frame, hidden=1, threshold=5.0, seed=0)
    assert classes.model_list["response"] == ("setosa", "versicolor", "virginica")
    with pytest.raises(ValueError, match="does not fit"):
        net.predict(frame[["Species"]])
    with pytest.raises(ValueError, match="formula: got"):
        neuralnet("Species ~ log(nothing)", frame)


def in_r(formula, **options):
    return neuralnet(formula, IRIS, linear_output=False, threshold=5.0, seed=0, **options)


def test_comparisons_are_responses_and_covariates():
    """The examples of R's documentation."""
    net = in_r('Species == "setosa" ~ Petal.Length + Petal.Width')
    np.testing.assert_array_equal(net.response[:, 0], SPECIES == "setosa")
    assert net.model_list["response"] == ('Species == "setosa"',)
    assert 'Intercept.to.Species == "setosa"' in net.results[0]
    assert in_r("(Species == 'setosa') ~ Petal.Length + Petal.Width").results[0]["error"] == net.results[0]["error"]
    one_by_one = " + ".join(f'(Species == "{name}")' for name in iris.get_label_names())
    together = in_r(f"{one_by_one} ~ Petal.Length + Petal.Width")
    np.testing.assert_array_equal(together.response, in_r("Species ~ Petal.Length + Petal.Width").response)
    for sign, wanted in {"!=": X[:, 0] != 5, "<": X[:, 0] < 5, ">=": X[:, 0] >= 5, "<=": X[:, 0] <= 5}.items():
        net = in_r(f"Petal.Width ~ (Sepal.Length {sign} 5) + Petal.Length")
        np.testing.assert_array_equal(net.covariate[:, 0], wanted)
        np.testing.assert_array_equal(net.predict({name: IRIS[name][:7] for name in NAMES}), net.predict(IRIS)[:7])


def test_a_dot_is_all_columns_that_are_not_on_the_left():
    assert in_r("Species > 'setosa' ~ .").model_list["variables"] == NAMES
    pytest.importorskip("formulaic")
    assert in_r("Species ~ . - Sepal.Width").model_list["variables"] == (NAMES[0], *NAMES[2:])
    assert in_r("Species == 'setosa' ~ . - Sepal.Width").model_list["variables"] == (NAMES[0], *NAMES[2:])


def test_names_with_dots_and_powers_in_calls():
    pytest.importorskip("formulaic")
    net = in_r("Sepal.Width ~ log(Petal.Length) + sqrt(Petal.Width) + I(Sepal.Length^2) + (Petal.Width > 1) + Species")
    wanted = [np.log(X[:, 2]), np.sqrt(X[:, 3]), X[:, 0] ** 2, X[:, 3] > 1, LABELS == 1, LABELS == 2]
    found = dict(zip(net.model_list["variables"], net.covariate.T, strict=True))
    names = (
        "log(Petal.Length)", "sqrt(Petal.Width)", "I(Sepal.Length^2)", "Petal.Width > 1", "Speciesversicolor",
        "Speciesvirginica",
    )  # fmt: skip
    assert set(found) == set(names)
    for name, values in zip(names, wanted, strict=True):
        np.testing.assert_allclose(found[name], values)
    np.testing.assert_array_equal(
        net.predict({name: values[:60] for name, values in IRIS.items()}), net.predict(IRIS)[:60]
    )
    assert in_r("log(Sepal.Width) ~ factor(Petal.Width > 1)").covariate.shape == (150, 1)


def test_categories_keep_their_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(IRIS)
    frame["Species"] = pd.Categorical(frame.Species, categories=["virginica", "setosa", "versicolor"])
    net = neuralnet("Species ~ Petal.Width", frame, hidden=1, threshold=5.0, seed=0)
    assert net.model_list["response"] == ("virginica", "setosa", "versicolor")


def test_formulas_that_need_formulaic_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs formulaic.*neuralnet"):
        neuralnet("y ~ log(a)", XOR)


def test_no_frame_without_pandas(monkeypatch):
    net = neuralnet("y ~ a + b", XOR, hidden=3, seed=1)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="result_matrix needs pandas"):
        _ = net.result_matrix


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"formula": "y"}, ValueError, "formula: got 'y'"),
        ({"formula": 3}, TypeError, "formula: got"),
        ({"formula": "y ~ c"}, ValueError, "formula: got 'c'"),
        ({"formula": (["y"], [])}, ValueError, "no covariates"),
        ({"formula": "c == 1 ~ a"}, ValueError, "formula: got 'c'"),
        ({"formula": "y ~ a + b == 1"}, ValueError, r"got 'y ~ a \+ b == 1' with '==', wants comparisons"),
        ({"formula": "(y == a) ~ b"}, ValueError, "with '==', wants comparisons of a column with a text or a number"),
        ({"formula": "y == 'u' ~ a"}, TypeError, "y: got a column of float64, wants classes"),
        ({"formula": "y > 1 ~ a", "data": {**XOR, "y": list("uvuv")}}, TypeError, "y: got a column of .*, wants num"),
        ({"formula": "y == 1 ~ a", "data": {**XOR, "y": [0, 1, np.nan, 1]}}, ValueError, "y: got a value that is mis"),
        ({"data": [1, 2]}, TypeError, "data: got"),
        ({"data": {**XOR, "a": [0.0, np.nan, 1, 1]}}, ValueError, "a: got a value that is missing"),
        ({"data": {**XOR, "a": [0.0, 1, 1]}}, ValueError, "data: got columns of 3 and 4 rows"),
        ({"data": {**XOR, "y": [0.0, 1, 1]}}, ValueError, "data: got columns of 4 and 3 rows"),
        ({"data": {**XOR, "y": ["u", None, "v", "u"]}}, ValueError, "y: got a value that is missing"),
        ({"formula": (["y"], ["a"]), "data": {**XOR, "a": list("uvuv")}}, TypeError, "a: got a column"),
        ({"hidden": -1}, ValueError, "hidden: got -1"),
        ({"hidden": "ten"}, TypeError, "hidden: got"),
        ({"hidden": (2, 0)}, ValueError, "hidden: got"),
        ({"threshold": 0.0}, ValueError, "threshold: got 0"),
        ({"threshold": "small"}, TypeError, "threshold: got"),
        ({"stepmax": 0}, ValueError, "stepmax: got 0"),
        ({"stepmax": 1.5}, TypeError, "stepmax: got"),
        ({"rep": 0}, ValueError, "rep: got 0"),
        ({"algorithm": "rprop"}, ValueError, "algorithm: got 'rprop'"),
        ({"algorithm": "backprop"}, ValueError, "learningrate: got None"),
        ({"err_fct": "mse"}, ValueError, "err_fct: got 'mse'"),
        ({"err_fct": 3}, TypeError, "err_fct: got"),
        ({"err_fct": "ce", "data": {**XOR, "y": [0.0, 1, 1, 2]}}, ValueError, "err_fct: got 'ce' .* not binary"),
        ({"err_fct": lambda o, y: ops.sum(o, axis=0)}, ValueError, r"err_fct: got a function .* shape \(1,\)"),
        ({"act_fct": "step"}, ValueError, "act_fct: got 'step'"),
        ({"act_fct": np.tanh}, TypeError, "wants an op of fastnn.ops"),
        ({"linear_output": 3}, TypeError, "linear_output: got"),
        ({"lifesign": "loud"}, ValueError, "lifesign: got 'loud'"),
        ({"startweights": [1.0, 2.0]}, ValueError, "startweights: got 2 numbers, wants 5"),
        ({"startweights": [np.ones((2, 2)), np.ones((2, 1))]}, ValueError, "startweights: got matrices"),
        ({"startweights": [np.nan] * 5}, ValueError, "startweights: got a number that is not finite"),
        ({"exclude": [(3, 1, 1)]}, ValueError, "exclude: got"),
        ({"exclude": [0]}, ValueError, "exclude: got place 0, wants 1 to 5"),
        ({"exclude": [1, 2, 3, 4, 5]}, ValueError, "exclude: got all 5 weights"),
        ({"exclude": "first"}, ValueError, "exclude: got"),
        (
            {"exclude": [1], "constant_weights": [1.0, 2.0]},
            ValueError,
            "constant_weights: got 2 numbers, wants 1 at most",
        ),
        ({"constant_weights": [1.0]}, ValueError, "constant_weights: got numbers without exclude"),
        ({"learningrate_limit": (1.0, 0.1)}, ValueError, "learningrate_limit: got 1 above 0.1"),
        ({"learningrate_limit": {"low": 1.0}}, ValueError, "learningrate_limit: got 'low'"),
        ({"learningrate_factor": (1.5, 2.0)}, ValueError, "learningrate_factor: got 1.5 and 2"),
        ({"learningrate_factor": 2.0}, ValueError, "learningrate_factor: got"),
        ({"learningrate_limit": ("a", 1.0)}, TypeError, r"learningrate_limit\['min'\]: got str 'a'"),
        ({"algorithm": "backprop", "learningrate": -1.0}, ValueError, "learningrate: got -1"),
        ({"algorithm": "backprop", "learningrate": "fast"}, TypeError, "learningrate: got str 'fast'"),
        ({"lifesign_step": 0}, ValueError, "lifesign_step: got 0"),
        ({"likelihood": "yes"}, TypeError, "likelihood: got str 'yes'"),
        ({"seed": -1}, ValueError, "seed: got -1"),
        ({"seed": 1.5}, TypeError, "seed: got float 1.5"),
        ({"rep": 1.5}, TypeError, "rep: got float 1.5"),
        ({"stepmax": np.inf}, TypeError, "stepmax: got float inf"),
        ({"threshold": np.nan}, ValueError, "threshold: got nan"),
        ({"startweights": "abc"}, TypeError, "startweights: got str 'abc'"),
        ({"startweights": [1, 2, 3, 4, 1j]}, TypeError, "startweights: got"),
        ({"exclude": [1.5]}, ValueError, "exclude: got list"),
        ({"exclude": [np.nan]}, ValueError, "exclude: got list"),
        ({"exclude": [1, 1]}, ValueError, "exclude: got place 1 more than once"),
        ({"exclude": [1], "constant_weights": ["x"]}, TypeError, "constant_weights: got"),
        ({"exclude": [1], "constant_weights": [np.inf]}, ValueError, "constant_weights: got a number that is not"),
        ({"data": {"a": [], "b": [], "y": []}}, ValueError, "data: got no rows"),
        ({"data": {**XOR, "a": [1j] * 4}}, TypeError, "data: got complex numbers in the column 'a'"),
        ({"data": {**XOR, "y": [1j] * 4}}, TypeError, "data: got complex numbers in the column 'y'"),
        ({"data": {**XOR, "y": [[0, 1]] * 4}}, ValueError, "data: got .* as the column 'y', wants one dimension"),
        ({"data": {**XOR, "a": 3.0}}, ValueError, "data: got float 3.0 as the column 'a'"),
        ({"formula": "y ~ a + y"}, ValueError, "formula: got the response 'y' more than once"),
        ({"formula": ("y", "a")}, TypeError, "formula: got tuple"),
        ({"formula": "y ~ a ~ b"}, ValueError, "formula: got 'y ~ a ~ b'"),
        ({"err_fct": lambda output, response: 1.0}, TypeError, "err_fct: got a function that returns float 1.0"),
        ({"act_fct": lambda z: 1.0}, TypeError, "got float 1.0, wants"),
    ],
)
def test_arguments_that_are_wrong(given, error, message):
    with pytest.raises(error, match=message):
        neuralnet(**{"formula": "y ~ a + b", "data": XOR, **given})


def test_calls_of_a_result_that_are_wrong():
    net = neuralnet("y ~ a + b", XOR, hidden=3, seed=1)
    dead = neuralnet("y ~ a + b", XOR, hidden=2, exclude=[(2, 2, 1)], seed=1, threshold=0.2)  # its unit acts on nothing
    for call, message in (
        (lambda: net.predict({"a": [1.0]}), "got no column 'b'"),
        (lambda: net.predict(np.ones((2, 3))), r"wants numbers of shape \(n, 2\)"),
        (lambda: net.predict(XOR, rep=2), "rep: got 2"),
        (lambda: net.confidence_interval(alpha=1.0), "alpha: got 1"),
        (lambda: net.plot(rep=0), "rep: got 0"),
        (lambda: net.compute(XOR, rep=2), "rep: got 2"),
        (lambda: net.predict(np.full((1, 2), np.nan)), "data: got a value that is missing"),
        (lambda: net.predict({"a": [1.0], "b": [1.0, 2.0]}), "data: got columns of 1 and 2 rows"),
        (dead.confidence_interval, "singular"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: net.predict(3), "data: got int 3"),
        (lambda: net.predict({"a": ["x"], "b": ["y"]}), "a: got a column of"),
        (lambda: net.predict(XOR, rep="best"), "rep: got str 'best'"),
        (lambda: net.predict(XOR, all_units=3), "all_units: got int 3"),
        (lambda: net.confidence_interval("x"), "alpha: got str 'x'"),
        (lambda: net.plot(rep="worst"), "rep: got str 'worst'"),
        (lambda: net.plot(file=3), "file: got int 3"),
        (lambda: net.plot(show_weights="x"), "show_weights: got str 'x'"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_a_covariate_that_is_named_twice_is_one():
    once, twice = (neuralnet(f"y ~ {side}", XOR, hidden=2, seed=0, threshold=0.1) for side in ("a + b", "a + b + a"))
    assert once.results == twice.results


def test_an_error_that_is_no_number_is_said():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        net = neuralnet("y ~ a + b", XOR, hidden=2, algorithm="backprop", learningrate=1e200, seed=0)
    assert any("does not fit" in str(each.message) for each in found)
    assert isinstance(net, NeuralNet)
    assert net.results == []
