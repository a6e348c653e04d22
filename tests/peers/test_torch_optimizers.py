"""``fastnn.torch.optim`` beside PyTorch's optimizers: equal weights, state and state dicts, step after step."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
from fastnn.torch import optim  # noqa: E402 - behind the skip

SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "maximize": True, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.7, "eps": 1e-3, "momentum": 0.8, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.8, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3, "eps": 1e-4}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.7), "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True, "eps": 1e-4}),
]
# What PyTorch's own step does, reached through ours.
THEIRS = [
    ("SGD", {"lr": 0.1, "fused": True}, "fused=True"),
    ("SGD", {"lr": 0.1, "momentum": 1.5}, "momentum=1.5"),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": -1.0}, "dampening=-1.0"),
    ("RMSprop", {"lr": 0.1, "eps": 0.0}, "eps=0.0"),
    ("Adam", {"lr": 0.01, "eps": 0.0}, "eps=0.0"),
    ("Adam", {"lr": torch.tensor(0.01)}, "lr is a tensor"),
    ("AdamW", {"lr": 0.01, "fused": True}, "fused=True"),
]


def weights(dtype=torch.float64):
    """Parameters of several shapes, one of them not contiguous, one empty, one that gets no gradient."""
    torch.manual_seed(0)
    shapes = [(5, 7), (7,), (), (0, 3), (2, 3, 4)]
    drawn = [torch.randn(shape, dtype=dtype) for shape in shapes]
    return [each.requires_grad_() for each in (*drawn, torch.randn(6, 4, dtype=dtype).T, torch.randn(3, dtype=dtype))]


def slopes(parameters, step):
    torch.manual_seed(step)
    for parameter in parameters[:-1]:
        parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype)
    if step % 2:
        parameters[1].grad = None  # so that it has made fewer steps than the others


def close(ours, theirs, dtype=torch.float64):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def state_close(ours, theirs, dtype=torch.float64):
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert mine["param_groups"] == other["param_groups"]
    assert mine["state"].keys() == other["state"].keys()
    for number, state in mine["state"].items():
        assert list(state) == list(other["state"][number])
        for name, value in state.items():
            wanted = other["state"][number][name]
            assert (value is None) == (wanted is None)
            if value is not None:
                assert (value.dtype, value.stride()) == (wanted.dtype, wanted.stride())
                close([value], [wanted], dtype)


def run(optimizer, parameters, steps=range(1, 6)):
    for step in steps:
        slopes(parameters, step)
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_steps(name, settings, dtype):
    ours, theirs = weights(dtype), weights(dtype)
    optimizer, other = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    run(optimizer, ours)
    run(other, theirs)
    assert optimizer.unserved() is None
    close(ours, theirs, dtype)
    state_close(optimizer, other, dtype)


@pytest.mark.parametrize(("name", "settings", "reason"), THEIRS, ids=str)
def test_what_is_not_served_is_pytorchs(name, settings, reason):
    ours, theirs = weights(), weights()
    optimizer, other = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    run(optimizer, ours, range(1, 4))
    run(other, theirs, range(1, 4))
    assert optimizer.unserved() == reason
    assert len(called) == 3
    close([each.detach() for each in ours], [each.detach() for each in theirs])


def test_other_dtypes_are_pytorchs():
    parameter = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    optimizer = optim.SGD([parameter], lr=0.5)
    optimizer.step()
    assert "not strided float32 or float64" in optimizer.unserved()
    assert parameter.tolist() == [0.5] * 3


@pytest.mark.parametrize("name", optim.__all__)
def test_the_step_is_one_call(name, monkeypatch):
    """Of all parameters of a group that have made as many steps."""
    from fastnn import ops

    calls = []
    op = {"SGD": "sgd_step", "RMSprop": "rmsprop_root_step", "Adagrad": "adagrad_root_step"}.get(name, "adam_step")
    real = getattr(ops, op)
    monkeypatch.setattr(ops, op, lambda w, *args, **kwargs: (calls.append(len(w)), real(w, *args, **kwargs)))
    parameters = weights()
    optimizer = getattr(optim, name)(parameters, lr=0.1)
    slopes(parameters, 2)
    optimizer.step()
    assert calls == [6]


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=str)
def test_state_moves_from_one_to_the_other(name, settings):
    kinds = getattr(optim, name), getattr(torch.optim, name)
    for first, second in (kinds, kinds[::-1]):
        parameters, wanted = weights(), weights()
        optimizer = first(parameters, **settings)
        run(optimizer, parameters, range(1, 3))
        follower = second(parameters, lr=7.0)
        follower.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(follower, parameters, range(3, 6))
        run(kinds[1](wanted, **settings), wanted)
        close(parameters, wanted)


def test_groups_have_settings_of_their_own():
    ours, theirs = weights(), weights()

    def groups(parameters):
        return [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5, "weight_decay": 0.1}]

    run(optim.AdamW(groups(ours), lr=0.01), ours)
    run(torch.optim.AdamW(groups(theirs), lr=0.01), theirs)
    close(ours, theirs)


def test_closures_hooks_and_schedulers():
    ours, theirs = weights(), weights()
    traces = []
    for kind, parameters in ((optim.SGD, ours), (torch.optim.SGD, theirs)):
        optimizer = kind(parameters, lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        called = []
        optimizer.register_step_pre_hook(lambda *_, called=called: called.append("before"))
        optimizer.register_step_post_hook(lambda *_, called=called: called.append("after"))

        def closure(optimizer=optimizer, parameters=parameters):
            optimizer.zero_grad()
            loss = sum((parameter**2).sum() for parameter in parameters)
            loss.backward()
            return loss

        losses = []
        for _ in range(5):
            losses.append(optimizer.step(closure).item())
            schedule.step()
        traces.append((losses, called))
    assert traces[0][0] == pytest.approx(traces[1][0], rel=1e-12)
    assert traces[0][1] == traces[1][1] == ["before", "after"] * 5
    close(ours, theirs)


def test_weights_that_change_are_noticed():
    """Autograd counts what steps write, as it does PyTorch's own."""
    w = torch.ones(3, requires_grad=True)
    loss = (w * w).sum()
    w.grad = torch.ones(3)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_copies_and_pickles():
    parameters = weights()
    optimizer = optim.Adam(parameters, lr=0.1)
    run(optimizer, parameters, range(1, 3))
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(again) is optim.Adam
        state_close(again, optimizer)


@pytest.mark.parametrize("name", optim.__all__)
def test_arguments_are_pytorchs(name):
    with pytest.raises(ValueError, match="Invalid learning rate"):
        getattr(optim, name)(weights(), lr=-1.0)
    with pytest.raises(TypeError):
        getattr(optim, name)(weights(), lr=0.1, rate=3)
    w = torch.ones(3, requires_grad=True)
    w.grad = torch.ones(3).to_sparse()
    optimizer = getattr(optim, name)([w], lr=0.1)
    assert optimizer.unserved() is not None


@pytest.mark.parametrize(
    ("name", "changed"), [("SGD", {"lr": torch.tensor(0.1)}), ("SGD", {"momentum": 1.5}), ("Adam", {"eps": 0.0})]
)
def test_settings_that_change_between_steps_are_noticed(name, changed):
    """Served, not served for a step, served again."""
    found = []
    for module in (torch.optim, optim):
        parameters = weights()
        optimizer = getattr(module, name)(parameters, lr=0.1)
        held = {key: optimizer.param_groups[0][key] for key in changed}
        for step, values in enumerate((held, changed, held)):
            optimizer.param_groups[0].update(values)
            if module is optim:
                assert (optimizer.unserved() is None) == (values is held)
            slopes(parameters, 2 * step)
            optimizer.step()
        found.append(parameters)
    close(*found)


def test_gradients_are_let_go_of_or_filled_with_zeros():
    parameters = weights()
    optimizer = optim.SGD(parameters, lr=0.1)
    slopes(parameters, 0)
    held = parameters[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert parameters[0].grad is held
    assert not held.any()
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in parameters)


def test_profilers_see_the_step():
    parameters = weights()
    optimizer = optim.Adam(parameters)
    slopes(parameters, 0)
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    assert "Optimizer.step#Adam.step" in {event.key for event in profile.key_averages()}
