"""``fastnn.torch.accelerate``: the same training as before, on other kernels, and all else as it was."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
from torch import nn  # noqa: E402 - behind the skip

import fastnn.torch  # noqa: E402
from fastnn.torch import accelerate, functions, modules, optim, restore  # noqa: E402


def dense():
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 5))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 4, 3, stride=2, padding="valid", bias=False),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(36, 5),
    )


class Branches(nn.Module):
    """Layers as attributes, one called twice, a sequence inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(20, 20), nn.Linear(20, 5)
        self.inner = nn.Sequential(nn.Linear(20, 20), nn.GELU(), nn.LayerNorm(20))
        self.act = nn.ReLU()

    def forward(self, x):
        h = self.act(self.first(torch.relu(self.first(x))))
        return self.second(h + self.inner(h))


MODELS = {"dense": (dense, (20,)), "convolutional": (convolutional, (3, 16, 16)), "branches": (Branches, (20,))}
OPTIMIZERS = [getattr(torch.optim, name) for name in optim.__all__]


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    return MODELS[name][0]().to(dtype)


def rows(name, count=16, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(count, *MODELS[name][1], dtype=dtype), torch.randint(0, 5, (count,))


def trained(model, criterion, optimizer, x, y, steps=5):
    torch.manual_seed(2)  # for dropout
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_training_is_the_same(name, kind):
    x, y = rows(name)
    found = []
    for swapped in (False, True):
        model, criterion = made(name), nn.CrossEntropyLoss()
        optimizer = kind(model.parameters(), lr=0.002)
        if swapped:
            accelerate(model, criterion, optimizer)
        found.append((trained(model, criterion, optimizer, x, y), model.state_dict()))
    (losses, weights), (ours, our_weights) = found
    assert ours == pytest.approx(losses, rel=1e-10)
    assert len(set(losses)) == len(losses)
    assert list(weights) == list(our_weights)
    for key, value in weights.items():
        torch.testing.assert_close(our_weights[key], value, rtol=1e-9, atol=1e-10)


def test_what_it_says():
    model, criterion = made("convolutional"), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    report = accelerate(model, criterion, optimizer)
    assert [(line.name, line.kind, line.accelerated, line.note) for line in report] == [
        ("0", "Conv2d", True, ""),
        ("1", "ReLU", True, "in the layer before it"),
        ("2", "MaxPool2d", False, "no kernel for it"),
        ("3", "Conv2d", True, ""),
        ("4", "Flatten", False, "no kernel for it"),
        ("5", "Dropout", False, "no kernel for it"),
        ("6", "Linear", True, ""),
        ("", "CrossEntropyLoss", False, "label_smoothing=0.1"),
        ("optimizer", "SGD", False, "fused=True"),
    ]
    table = str(report).splitlines()
    assert table[0].split() == ["name", "class", "runs", "on"]
    assert table[2] == "1          ReLU              fastnn   in the layer before it"
    assert type(optimizer) is torch.optim.SGD
    assert type(criterion) is nn.CrossEntropyLoss


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (Own(3, 2), "a subclass of Linear, with ways of its own"),
        (nn.Linear(3, 2).bfloat16(), "its parameters are torch.bfloat16, not float32 or float64"),
        (nn.Linear(3, 2, device="meta"), "the backend for meta cannot serve"),
        (nn.Conv2d(3, 2, 3, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.CrossEntropyLoss(torch.ones(3)), "weight is given"),
        (nn.CrossEntropyLoss(reduction="sum"), "reduction='sum'"),
        (nn.ReLU(), "an activation that is behind no layer of a Sequential"),
        (nn.LSTM(3, 2), "no kernel for it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_left_as_it_is(module, note):
    kind = type(module)
    (line,) = accelerate(module)
    assert (line.accelerated, line.note) == (False, note)
    assert type(module) is kind


def test_optimizers_that_are_left_as_they_are():
    model = made("dense")
    optimizer = torch.optim.Adadelta(model.parameters())
    assert accelerate(model, optimizer)[-1].note == "no kernel for it"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert "a scheduler holds its step" in accelerate(model, optimizer)[-1].note
    assert type(optimizer) is torch.optim.SGD


def test_parameters_and_state_dict_stay_the_same_objects():
    model = made("branches")
    parameters, state, text = dict(model.named_parameters()), model.state_dict(), repr(model)
    for _ in range(2):  # a second time nothing is left to do
        accelerate(model)
        assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
        after = model.state_dict()
        assert list(after) == list(state)
        assert all(after[key].data_ptr() == state[key].data_ptr() for key in state)
        assert repr(model) == text
        assert isinstance(model.first, nn.Linear)
        assert type(model.first) is modules.Linear
    model.load_state_dict(copy.deepcopy(state))


def test_it_can_be_undone():
    x, y = rows("dense")
    model, criterion = made("dense"), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    kinds = [type(module) for module in model.modules()]
    accelerate(model, criterion, optimizer)
    assert (type(criterion), type(optimizer)) == (modules.CrossEntropyLoss, optim.Adam)
    trained(model, criterion, optimizer, x, y, 2)
    restore(model, criterion, optimizer)
    assert [type(module) for module in model.modules()] == kinds
    assert (type(criterion), type(optimizer)) == (nn.CrossEntropyLoss, torch.optim.Adam)
    trained(model, criterion, optimizer, x, y, 2)


def test_copies_and_pickles_stay_accelerated():
    x, _ = rows("dense")
    model = made("dense")
    accelerate(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(again) is modules.Sequential
        assert torch.equal(again(x), model(x))


def test_layers_run_together(monkeypatch):
    """All five modules are one step of autograd's; with a hook in the midst there are two."""
    runs = []
    real = functions.stacked
    monkeypatch.setattr(
        functions, "stacked", lambda x, layers, names: (runs.append(tuple(names)), real(x, layers, names))[1]
    )
    x, _ = rows("dense")
    plain, model = made("dense")(x), made("dense")
    accelerate(model)
    torch.testing.assert_close(model(x), plain)
    assert runs == [("relu", "tanh", "linear")]
    runs.clear()
    seen = []
    handle = model[1].register_forward_hook(lambda module, given, result: seen.append(result))
    torch.testing.assert_close(model(x), plain)
    assert runs == [("linear",), ("tanh", "linear")]
    torch.testing.assert_close(seen[0], torch.relu(made("dense")[0](x)))
    handle.remove()
    runs.clear()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        model(x)
    finally:
        handle.remove()
    assert runs == [("linear",)] * 3


@pytest.mark.parametrize(
    "changed",
    [lambda x: x.bfloat16().double()[:0], lambda x: x.T.contiguous().T, lambda x: x[:1], lambda x: x[None]],
    ids=["empty", "transposed", "one row", "three axes"],
)
def test_inputs_of_all_kinds(changed):
    x = changed(rows("dense")[0])
    model, plain = made("dense"), made("dense")
    accelerate(model)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x))
    model(x).sum().backward()
    plain(x).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, plain[0].weight.grad)


def test_calls_that_are_not_served_are_pytorchs():
    x, _ = rows("dense", dtype=torch.float32)
    model, plain = made("dense", torch.float32), made("dense", torch.float32)
    accelerate(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x), plain(x))
    found = torch.func.vmap(lambda row: torch.func.functional_call(model, dict(model.named_parameters()), row))(x)
    torch.testing.assert_close(found, plain(x))
    for wrong in (x[:, :3], x.double(), x.int(), torch.tensor(1.0)):
        with pytest.raises((RuntimeError, ValueError)) as theirs:
            plain(wrong)
        with pytest.raises(type(theirs.value)) as ours:
            model(wrong)
        assert str(ours.value) == str(theirs.value)
    model.bfloat16()
    assert torch.equal(model(x.bfloat16()), plain.bfloat16()(x.bfloat16()))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_follows_a_model_meets_pytorchs_own_operations():
    """Compiled as one graph, traced for other batches, exported, and written by PyTorch's symbolic tracer."""
    x, y = rows("dense", dtype=torch.float32)
    model, plain, criterion = made("dense", torch.float32), made("dense", torch.float32), nn.CrossEntropyLoss()
    accelerate(model, criterion)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(x, y):
        return criterion(model(x), y)

    compiled(x, y).backward()
    nn.CrossEntropyLoss()(plain(x), y).backward()
    torch.testing.assert_close(model[0].weight.grad, plain[0].weight.grad)
    traced = torch.jit.trace(model, x[:3])
    assert "PythonOp" not in str(traced.graph)
    exported = torch.export.export(model, (x,)).module()
    for followed in (traced, exported, torch.fx.symbolic_trace(model)):
        torch.testing.assert_close(followed(x), plain(x))


@pytest.mark.parametrize("change", ["another", "transposed", "wider", "cut"])
def test_parameters_whose_memory_changes_are_read_anew(change):
    x, _ = rows("dense")
    model, plain = made("dense"), made("dense")
    accelerate(model)
    model(x)
    for each in (model, plain):
        torch.manual_seed(4)
        weight, bias = each[2].weight, each[2].bias
        if change == "another":
            weight.data = torch.randn(16, 30, dtype=x.dtype)
        elif change == "transposed":
            weight.data = torch.randn(30, 16, dtype=x.dtype).T
        elif change == "cut":
            weight.data, bias.data = weight.data[:7], bias.data[:7]
            each[4].weight.data, each[2].out_features, each[4].in_features = each[4].weight.data[:, :7], 7, 7
        else:
            each.to(torch.float32).to(x.dtype)
        each(x).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, plain[0].weight.grad)
    torch.testing.assert_close(model(x), plain(x))


def test_arrays_of_parameters_go_with_them():
    from fastnn.torch import arrays

    before = len(arrays._known)
    model = made("dense")
    accelerate(model)
    model(rows("dense")[0])
    assert len(arrays._known) == before + 6
    del model
    assert len(arrays._known) == before


def replaced(model):
    model[1] = nn.Sigmoid()


def appended(model):
    model.append(nn.Linear(5, 3).double())


def behind(model):
    model[3] = nn.GELU()


@pytest.mark.parametrize("changed", [replaced, appended, behind])
def test_modules_that_change_between_calls_are_noticed(changed):
    x, _ = rows("dense")
    model, plain = made("dense"), made("dense")
    accelerate(model)
    model(x)
    for each in (model, plain):
        torch.manual_seed(3)
        changed(each)
    torch.testing.assert_close(model(x), plain(x))
    if changed is behind:
        for each in (model, plain):
            each[3].approximate = "tanh"
        torch.testing.assert_close(model(x), plain(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_gradients_add_up(factor):
    """Of a loss that is scaled or not, differentiated twice, over two batches."""
    x, y = rows("dense")
    found = []
    for swapped in (False, True):
        model, criterion = made("dense"), nn.CrossEntropyLoss()
        if swapped:
            accelerate(model, criterion)
        logits = torch.randn(len(x), 5, dtype=x.dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
        for part in (slice(0, 8), slice(8, 16)):
            loss = factor * (criterion(model(x[part]), y[part]) + criterion(logits[part], y[part]))
            loss.backward(retain_graph=True)
            loss.backward()
        found.append([logits.grad, *(parameter.grad for parameter in model.parameters())])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_a_loss_of_leaves_keeps_its_own_gradient():
    """What one backward pass gave is not written to by the next."""
    logits = torch.randn(4, 5, dtype=torch.float64).requires_grad_()
    loss = modules.CrossEntropyLoss()(logits, torch.tensor([0, 1, 2, 3]))
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0].clone()
    loss.backward(retain_graph=True)
    logits.grad.zero_()
    assert torch.equal(torch.autograd.grad(loss, logits)[0], first)


def test_second_derivatives_are_refused():
    x, y = rows("dense")
    model = made("dense")
    accelerate(model)
    loss = nn.functional.cross_entropy(model(x), y)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(loss, model[0].weight, create_graph=True)


TARGETS = {
    "labels": torch.tensor([0, 2, 1, 4]),
    "some to be ignored": torch.tensor([0, -100, 1, -100]),
    "rows": torch.softmax(torch.arange(20.0).reshape(4, 5), 1).double(),
    "rows that do not sum to 1": torch.ones(4, 5).double(),
    "int32": torch.tensor([0, 2, 1, 4], dtype=torch.int32),
    "out of range": torch.tensor([0, 2, 1, 5]),
    "too few": torch.tensor([0, 2]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_losses_are_pytorchs_for_any_targets(name):
    """The first time and when calls like it are known."""
    target, logits = TARGETS[name], torch.randn(4, 5, dtype=torch.float64)
    ours, theirs = modules.CrossEntropyLoss(), nn.CrossEntropyLoss()
    ours(logits, TARGETS["labels"])
    ours(logits, TARGETS["rows"])
    for _ in range(2):
        given = [logits.clone().requires_grad_() for _ in range(2)]
        try:
            wanted = theirs(given[0], target)
        except Exception as error:
            if name == "int32":
                pytest.skip("PyTorch takes int64 alone, fastnn both")
            with pytest.raises(type(error)):
                ours(given[1], target)
            continue
        found = ours(given[1], target)
        torch.testing.assert_close(found, wanted)
        found.backward()
        wanted.backward()
        torch.testing.assert_close(given[1].grad, given[0].grad)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3,), "module: got int 3, wants a module or an optimizer of PyTorch's"),
        ((nn.Linear(2, 2), "sgd"), r"others\[0\]: got str 'sgd', wants a module or an optimizer"),
    ],
)
def test_what_is_neither_module_nor_optimizer_is_refused(given, message):
    for function in (accelerate, restore):
        with pytest.raises(TypeError, match=message):
            function(*given)
    assert type(given[0]) in (int, nn.Linear)


def test_the_package_has_it():
    assert fastnn.torch.accelerate is accelerate
    assert issubclass(fastnn.torch.Report, tuple)


def test_bits_do_not_depend_on_threads():
    """Of PyTorch, whose own the kernels run on."""
    x, y = torch.randn(128, 300), torch.randint(0, 10, (128,))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            model, criterion = nn.Sequential(nn.Linear(300, 256), nn.ReLU(), nn.Linear(256, 10)), nn.CrossEntropyLoss()
            optimizer = torch.optim.Adam(model.parameters())
            accelerate(model, criterion, optimizer)
            losses = trained(model, criterion, optimizer, x, y, 3)
            found.append((losses, [parameter.detach().clone() for parameter in model.parameters()]))
    finally:
        torch.set_num_threads(before)
    for losses, weights in found[1:]:
        assert losses == found[0][0]
        assert all(map(torch.equal, weights, found[0][1]))


def test_python_threads_run_models_at_the_same_time():
    x, _ = rows("dense", 200)
    model = made("dense")
    accelerate(model)
    wanted = model(x)

    def run(_):
        torch.manual_seed(0)
        own = copy.deepcopy(model)
        own(x).sum().backward()
        return torch.equal(own(x), wanted), own[0].weight.grad

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(run, range(12)))
    assert all(same for same, _ in results)
    assert all(torch.equal(slope, results[0][1]) for _, slope in results)
