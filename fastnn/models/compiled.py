"""How a model is trained and judged: ``compile``, and the parts of a step that a subclass may replace."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import backends, checks, optimizers
from fastnn.differentiation import gradients, unfollowed
from fastnn.engine.protocols import Head, Logs
from fastnn.metrics import Mean, Metric
from fastnn.models.arguments import (
    check_precision,
    heads_of,
    make_names_unique,
)
from fastnn.models.structure import ModelStructure
from fastnn.optimizers import Optimizer


class CompiledModel(ModelStructure):
    """How a model is trained and judged: optimizer, losses and metrics of its outputs, and its steps one by one."""

    def __init__(self, name: str | None, trainable: bool, dtype: str | None) -> None:
        super().__init__(name, trainable, dtype)
        self.optimizer: Optimizer | None = None
        self.loss: Any = None
        self._heads: list[Head] = []
        self._metrics: list[Metric] = []
        self._weighted_metrics: list[Metric] = []
        self._backend = "auto"
        self._precision: str | None = None
        self._run_eagerly = False
        self._memory_limit: int | None = None
        self._warned_of_outputs = False
        self._wanted: tuple[Any, ...] | None = None
        self._loss_seen = Mean("loss")

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        loss_weights: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        *,
        backend: str = "auto",
        precision: str | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        """Say how to train: optimizer, loss, metrics, and the backend ("auto", "cpu", "naive", "cuda").

        Where a model has several outputs, ``loss``, ``metrics``, ``weighted_metrics`` and ``loss_weights`` are lists of
        one entry an output, or dicts by the outputs' names; an output's metrics may be a list. The loss is then the sum
        of the losses, each times its weight (1 by default), and ``history`` has them as ``name_loss`` as well.

        ``run_eagerly`` makes each step op by op, so that a ``call`` of the user's runs in every one, for debugging.
        ``steps_per_execution`` and ``jit_compile`` are Keras's: what can be compiled is anyway, and a call of the
        compiled code has as many steps as take some 50 ms.

        ``metrics`` ignore sample weights, ``weighted_metrics`` count by them. ``precision`` is that of the products in
        training: "bfloat16" rounds what is multiplied to 8 bits of mantissa while weights, sums, losses and optimizer
        stay float32, at up to twice the speed on a CPU with AVX512-BF16, and on a device's tensor cores; "tf32" rounds
        to 11 bits, on tensor cores alone; "auto" takes bfloat16 where it can and says so once where it cannot; None is
        the dtype of the model. Evaluation and prediction use the dtype in any case.

        ``memory_limit`` is what samples may take of a device's memory, in bytes or as text such as "2GB" or "512MiB";
        None is half of what is free there. Samples that take more are brought a piece at a time while steps are at
        work. Files do not keep it. On the CPU samples stay where they are.

        Nothing is changed unless all is valid. Raises BackendError where the backend or precision named cannot serve.
        """
        limit = None if memory_limit is None else checks.memory("memory_limit", memory_limit)
        found = optimizers.get(optimizer)
        wanted = loss, loss_weights, metrics, weighted_metrics
        names = self.output_names if self._has_several_outputs else None
        later = not self._knows_outputs and any(isinstance(each, (list, tuple, Mapping)) for each in wanted[:2])
        heads = heads_of(names, *([None] * 4 if later else wanted))
        checks.instance("run_eagerly", run_eagerly, bool, "True or False")
        checks.positive_int("steps_per_execution", steps_per_execution)
        checks.one_of("jit_compile", str(jit_compile), ("auto", "True", "False", "None"))
        chosen = backends.resolve(backend)
        check_precision(precision, chosen, self.compute_dtype)
        make_names_unique([*heads])
        self.optimizer, self._backend, self._precision, self._run_eagerly = found, backend, precision, run_eagerly
        self._judge_by(heads, names is not None)
        self._wanted = None if self._knows_outputs else wanted
        self._memory_limit = limit
        self._warned_of_outputs = False
        bottom = self._bottom_shape()
        if bottom is not None and self._knows_outputs and self._layers:
            self._warn_of_outputs(self._output_shape(bottom), stacklevel=4)

    def _judge_by(self, heads: Sequence[Head], several: bool) -> None:
        """Take over how outputs are trained and judged."""
        self._heads = [*heads] if several else []
        each_loss = [head.loss for head in heads]
        self.loss = None if each_loss.count(None) == len(each_loss) else each_loss if several else each_loss[0]
        self._metrics = [metric for head in heads for metric in head.metrics]
        self._weighted_metrics = [metric for head in heads for metric in head.weighted_metrics]

    def _judge_as_built(self) -> None:
        """What compile could not know of a model with a call of its own: how many outputs there are."""
        if self._wanted is None:
            return
        wanted, several = self._wanted, self._has_several_outputs
        if several or any(isinstance(each, (list, tuple, Mapping)) for each in wanted[:2]):
            heads = heads_of(self.output_names if several else None, *wanted)
            make_names_unique(heads)
            self._judge_by(heads, several)
        self._wanted = None

    def _may_add_losses(self) -> bool:
        """Whether a ``call`` of the user's may."""
        layers = self.wired()[0] if self._knows_outputs and self._layers else [self._body]
        return any(layer._by_call for layer in layers)

    def _judged(self) -> list[Head]:
        """What the outputs are trained and judged by; one without a name where there is one output."""
        return self._heads or [Head("", 0, self.loss, 1.0, self._metrics, self._weighted_metrics)]

    def _warn_of_outputs(self, shape: Any, stacklevel: int) -> None:
        """Say, once after compile, where a loss makes no sense of so many outputs."""
        if self._warned_of_outputs:
            return
        self._warned_of_outputs = True
        shapes = shape if isinstance(shape, list) else [shape]
        for head in self._judged():
            width = shapes[head.output][-1]
            if head.loss is not None and width is not None:
                head.loss.warn_of_outputs(width, stacklevel)

    @property
    def metrics(self) -> list[Metric]:
        """The compiled metrics, weighted ones last."""
        return [*self._metrics, *self._weighted_metrics]

    @property
    def metrics_names(self) -> list[str]:
        """Names of the figures that ``evaluate`` returns, in its order."""
        losses = [f"{head.name}_loss" for head in self._heads if head.loss is not None]
        metrics = [m.name for head in self._judged() for m in (*head.metrics, *head.weighted_metrics)]
        return ["loss", *losses, *metrics]

    def _require_compiled(self, what: str, training: bool = True) -> None:
        if self._is_empty:
            raise ValueError(f"{what}: got a model without layers, wants at least one (model.add)")
        judged = self.loss is not None or self._wanted is not None or self.trains_itself or self._may_add_losses()
        if self.optimizer is None or not judged:
            missing = "an optimizer" if self.optimizer is None else "a loss"
            purpose = "trained" if training else "evaluated"
            raise ValueError(
                f"{what}: the model has to be compiled with {missing} before it is {purpose} (model.compile)"
            )

    @property
    def _compiled_optimizer(self) -> Optimizer:
        if self.optimizer is None:
            raise ValueError("optimizer: got None, wants a compiled model")
        return self.optimizer

    # ---------------------------------------------------------------------------------------------------- own steps

    @property
    def tracked(self) -> list[Metric]:
        """The metrics that steps of the user's own count in: ``metrics``, and those of the attributes."""
        found = [*self.metrics, *(each for each in vars(self).values() if isinstance(each, Metric)), self._loss_seen]
        return [*{id(metric): metric for metric in found}.values()]

    def train_step(self, data: Any) -> Logs:
        """One step on a batch, (x, y) or (x, y, weights); figures by name.

        One of a subclass's own is called by ``fit`` for every batch, and does what it likes: as here, it takes
        ``fastnn.gradients`` by ``self.trainable_weights`` and lets ``self.optimizer.apply`` them.
        """
        x, y, weight = (*data, None, None)[:3] if isinstance(data, tuple) else (data, None, None)
        seen: list[Any] = []

        def loss_of() -> Any:
            y_pred = self(x, training=True)
            seen.append(y_pred)
            return self.compute_loss(x, y, y_pred, weight)

        loss, found = gradients(loss_of, self.trainable_weights)
        self._compiled_optimizer.apply(found, self.trainable_weights)
        self._loss_seen.update_state(loss, None if weight is None else float(np.mean(weight)))
        return self.compute_metrics(x, y, unfollowed(seen[0]), weight)

    def test_step(self, data: Any) -> Logs:
        """The figures of one batch, without training; likewise."""
        x, y, weight = (*data, None, None)[:3] if isinstance(data, tuple) else (data, None, None)
        y_pred = self(x, training=False)
        told = {"training": False} if "training" in inspect.signature(self.compute_loss).parameters else {}
        self._loss_seen.update_state(self.compute_loss(x, y, y_pred, weight, **told))
        return self.compute_metrics(x, y, y_pred, weight)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss of a batch, with all penalties and what layers added."""
        total = sum(self.losses)
        for head in self._judged():
            if head.loss is not None:
                true, pred, weight = (_of_head(each, head) for each in (y, y_pred, sample_weight))
                total = total + head.loss(true, pred, weight) * head.weight
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Logs:
        """The figures so far, of the compiled metrics with this batch: ``loss`` first."""
        for head in self._judged():
            true, pred, weight = (_of_head(each, head) for each in (y, y_pred, sample_weight))
            for metric in head.metrics:
                metric.update_state(true, pred)
            for metric in head.weighted_metrics:
                metric.update_state(true, pred, weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> Logs:
        """The figures so far of all metrics, by name."""
        found = {"loss": self._loss_seen} if self._loss_seen.seen else {}
        return {name: metric.result() for name, metric in {**found, **{m.name: m for m in self.metrics}}.items()}


def _of_head(given: Any, head: Head) -> Any:
    """What of several outputs, in a list or a dict, is a head's."""
    if isinstance(given, Mapping):
        return given[head.name]
    return given[head.output] if isinstance(given, (list, tuple)) else given
