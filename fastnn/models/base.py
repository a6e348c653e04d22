"""What all models share: Keras's names, arguments and defaults; calls of models, their configurations and files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from fastnn import checks, layers, saving, serialization
from fastnn.configurable import undefined
from fastnn.engine import (
    numeric_array,
    penalties,
    seeds,
)
from fastnn.engine.protocols import Array
from fastnn.engine.wiring import each
from fastnn.layers.base import assign_all
from fastnn.layers.calling import followed, inside, learning
from fastnn.layers.symbols import is_symbolic
from fastnn.models import keras_files
from fastnn.models.fitting import Trainer
from fastnn.models.summaries import summary
from fastnn.tape import Followed

# The classes that a file may name: layers, and models, which each enter themselves.
NAMES: dict[str, type[Any]] = {**layers.NAMES}


class Model(Trainer):
    """Layers that are compiled, fitted, evaluated and saved together.

    ``Model(inputs, outputs)`` is the graph of layers that leads from symbolic inputs to symbolic outputs, each a tensor
    or a list or dict of such (``Functional``); a ``Sequential`` is a stack of layers. A model may itself be called on
    symbolic tensors, as a layer.

    A model of your own defines ``call(inputs)``, or ``call(inputs, training)``, over layers that ``__init__`` has put
    into its attributes, and ``fastnn.ops``; ``inputs`` is an array, or a list or dict of such, and so is what it
    returns. It is built for the first data, or by ``build``. ``self.add_loss`` adds to what is minimised, where there
    is more to it also ``self.add_weight`` with ``build(input_shape)``. A ``train_step`` or ``compute_loss`` of its own
    is called for every batch (``fastnn.gradients``).

    >>> x = layers.Input((8,))
    >>> h = layers.Dense(16, "relu")(x)
    >>> model = Model(x, layers.add([h, layers.Dense(16)(h)]))
    """

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """A graph of layers where there are inputs and outputs."""
        connected = bool(args or {"inputs", "outputs"} & options.keys())
        if cls is Model and not connected:
            raise TypeError("inputs, outputs: got none, wants symbolic tensors: Model(inputs, outputs)")
        made: Any = super().__new__(_graph_of(cls) if connected and cls.__init__ is Model.__init__ else cls)
        made._arguments = args, options
        return made

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        name: str | None = None,
        *,
        trainable: bool = True,
        dtype: str | None = None,
    ) -> None:
        if inputs is not None or outputs is not None:
            self.__class__ = _graph_of(type(self))
            NAMES["Functional"].__init__(self, inputs, outputs, name)
            return
        super().__init__(name, trainable, dtype)

    def __init_subclass__(cls) -> None:
        """A build of the user's own makes what is the model's own, wherever it is called."""
        super().__init_subclass__()
        cls.trains_itself = cls.trains_itself or not {"train_step", "test_step", "compute_loss"}.isdisjoint(vars(cls))
        if "build" in vars(cls) and hasattr(cls, "call"):
            cls.make_own = cls.build  # type: ignore[method-assign]
            cls.build = Model.build  # type: ignore[method-assign]

    def __call__(self, x: Any, training: bool | None = None) -> Any:
        """Outputs for one batch; with ``training`` those of a training pass, where dropout drops.

        Of symbolic tensors the symbolic tensors that the model gives, as a layer.
        """
        if is_symbolic(x):
            if self._is_empty:
                raise ValueError("layers: got a model without layers, wants at least one (model.add)")
            if not self._knows_outputs:
                self.build(_shapes_of(x))
            found = self._connected(self._inputs_in_order("x", x), self.dtype)
            return self._arranged(found if isinstance(found, list) else [found])
        if inside() or learning(self) or _is_followed(x):
            return self._followed(x, training)
        checks.instance("training", training, (bool, type(None)), "True, False or None")
        charged: list[Any] = []
        with penalties.collected_in(charged):
            if training:
                source = self._source("x", x)
                self._build_for(source)
                y = self._arranged(each(self._runner(source, max(source.rows, 1)).outputs(source, training=True)))
            else:
                y = self.predict_on_batch(x)
        self.added_losses = charged
        return y

    def _followed(self, x: Any, training: Any) -> Any:
        """What the model gives inside of another one's call, or for gradients."""
        given = self._inputs_in_order("x", x) if self.built and not _is_followed(x) else x
        arrays = [*given.values()] if isinstance(given, Mapping) else given
        several = isinstance(arrays, (list, tuple))
        made = [_as_given(array, self.compute_dtype) for array in (arrays if several else [arrays])]
        if not self._knows_outputs:
            self._build_by_data("x", dict(zip(given, made, strict=True)) if isinstance(given, Mapping) else given)
        return self._arranged(each(followed(self, made if several else made[0], training)))

    # ---------------------------------------------------------------------------------------------------- show, save

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
    ) -> None:
        """Print a table of the layers, their output shapes and numbers of parameters.

        With ``expand_nested`` layers of models inside stand below these, with ``show_trainable`` frozen ones say so.
        """
        if line_length is not None:
            checks.positive_int("line_length", line_length, minimum=40)
        (print_fn or print)(summary(self, line_length, expand_nested, show_trainable))

    def to_json(self, **options: Any) -> str:
        """The architecture as JSON text, for ``model_from_json``; ``options`` are those of ``json.dumps``."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` makes such a model of: of one of the user's own the arguments that it was made with."""
        args, options = self._arguments
        signature = inspect.signature(type(self).__init__)
        given: dict[str, Any] = {}
        for name, value in [*signature.bind(self, *args, **options).arguments.items()][1:]:
            several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if several else {name: value}
        try:
            json.dumps(given)
        except (TypeError, ValueError):
            raise undefined(self, "get_config(): it was made with what a file cannot hold by itself") from None
        if self._kind is None or "name" in signature.parameters:
            given["name"] = self.name
        return given

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """A new model of the architecture that ``get_config`` gave, with new weights."""
        if cls is Model or (not hasattr(cls, "call") and "layers" in config):
            return NAMES["Functional" if "inputs" in config else "Sequential"].from_config(config)
        return cls(**config)

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        """Write architecture, weights, compile arguments and optimizer state to one file, ``name.safetensors``.

        Or to one that Keras 3 reads, too, ``name.keras`` (needs h5py, the extra ``keras``): a stack or a graph of
        Keras's layers. Any other name will do that does not promise another format (".h5", ".pt", ...: ValueError).
        The file is whole or not there at all; what was there before stays if writing fails. It keeps owner and mode of
        the file that it replaces; what is read-only or no regular file is not replaced (``OSError``). What
        ``load_model`` would refuse is not written (ValueError): weights that are not finite, loss or metrics that are
        functions of the user's, which a file cannot hold.
        """
        saving.replace(filepath, self._file(filepath), overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights alone, finite ones, to one file, under a name and in a place as ``save`` wants them.

        The file for Keras is ``name.weights.h5`` here.
        """
        saving.replace(filepath, self._file(filepath, weights_only=True), overwrite)

    def load_weights(self, filepath: Any) -> None:
        """Take over the weights of a file that ``save_weights`` or ``save`` wrote, parameter by parameter in order.

        Or of one that Keras 3 wrote of the same architecture, ``.weights.h5`` or ``.keras``, layer by layer (needs
        h5py, the extra ``keras``); nothing but arrays is read of it.
        """
        self._require_built("load_weights")
        if keras_files.is_keras_file(filepath):
            assign_all(self.weights, keras_files.weights_of(filepath, self))
            return
        tensors, _ = saving.read(filepath)
        assign_all(self.weights, serialization.weights(tensors))

    def _file(self, filepath: Any, weights_only: bool = False) -> Callable[[BinaryIO], object]:
        """What writes a file of that name; ValueError for what could not be loaded again, and for a name of others."""
        path = saving.destination("filepath", filepath, saving.KERAS_WEIGHTS if weights_only else saving.KERAS_MODEL)
        if keras_files.is_keras_file(path):
            return keras_files.contents(self, weights_only)
        return saving.contents(
            *(serialization.weights_contents(self) if weights_only else serialization.contents(NAMES, self))
        )

    def _backup(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The arrays and the document of what a fit has made of the model, and of what it will draw."""
        arrays, document = serialization.backup(self)
        mask_seeds = [] if self._place is None else self._place.runner.mask_seeds
        return arrays, {**document, "mask_seeds": mask_seeds, "generator": seeds.state()}

    def _take_backup(
        self, arrays: Mapping[str, Array], document: Mapping[str, Any], epoch: int, batches: int, drawn_from: Any
    ) -> None:
        """Let the fit that begins go on from a backup; one of ``serialization.UNFIT`` where it cannot.

        It goes on in ``epoch`` behind so many ``batches``, whose order was drawn from the state ``drawn_from``.
        """
        if self._place is None:
            raise ValueError("fit: got none that begins, wants one to go on with")
        mask_seeds = [checks.integer("mask_seeds", seed) for seed in document["mask_seeds"]]
        wanted = len(self.wired()[0])
        if len(mask_seeds) != wanted:
            raise ValueError(f"mask_seeds: got {len(mask_seeds)}, wants {wanted}, one a layer")
        seeds.in_state(document["generator"])
        order = seeds.in_state(drawn_from) if batches else None
        serialization.take_backup(self, document, arrays)
        seeds.generator().bit_generator.state = document["generator"]
        self._place.runner.mask_seeds = mask_seeds
        self._place.epoch, self._place.batches, self._place.generator = epoch, batches, order


# Classes of graphs, by the user's class that they are.
_graphs: dict[type[Any], type[Any]] = {}


def _graph_of(cls: type[Any]) -> type[Any]:
    """The class of a graph of layers that is one of the user's class, too."""
    functional = NAMES["Functional"]
    if cls is Model or issubclass(cls, functional):
        return functional if cls is Model else cls
    if cls not in _graphs:
        _graphs[cls] = type(cls.__name__, (cls, functional), {"__module__": cls.__module__, "written_as": cls})
    return _graphs[cls]


def _shapes_of(x: Any) -> Any:
    """Shapes of symbolic tensors, in the structure that these are given in."""
    if isinstance(x, Mapping):
        return {name: each.shape for name, each in x.items()}
    return [each.shape for each in x] if isinstance(x, (list, tuple)) else x.shape


def _is_followed(x: Any) -> bool:
    given = x.values() if isinstance(x, Mapping) else x if isinstance(x, (list, tuple)) else [x]
    return any(isinstance(array, Followed) for array in given)


def _as_given(array: Any, dtype: Any) -> Any:
    """An array as a model's call takes it: floating-point numbers in its dtype."""
    if isinstance(array, Followed):
        return array
    found = numeric_array("x", array)
    return found.astype(dtype, copy=False) if found.dtype.kind in "fub" else found
