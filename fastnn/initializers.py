"""Initial weights, under Keras's names and with its formulas.

An initializer is called with a shape and a dtype. Random ones keep a seed: the one they were given, or one drawn from
the library's generator (``utils.set_random_seed``) when they were made; all calls of one object give the same numbers.
Where a layer wants an initializer, an array of the weights' shape will do, and a function ``f(shape, dtype=...)``;
None is Keras's default, ``GlorotUniform``, for biases too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import absent, checks, configurable
from fastnn.configurable import Configurable, aliases, find, snake_case, undefined
from fastnn.engine import seeds
from fastnn.engine.data import check_finite, numeric_array
from fastnn.engine.protocols import Array, Shape
from fastnn.errors import installing

# Standard deviation of a unit normal cut off at +-2, by which a truncated draw must be divided to have unit variance.
_TRUNCATED_STDDEV = 0.8796256610342398


class Initializer(Configurable):
    """Base class: ``initializer(shape, dtype) -> array``."""

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array of ``shape``."""
        raise undefined(self, "__call__(shape, dtype) -> array")


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array of zeros."""
        return np.zeros(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        """No arguments."""
        return {}


class Ones(Zeros):
    """All ones."""

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array of ones."""
        return np.ones(shape, dtype)


class Constant(Initializer):
    """All ``value``."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = checks.real("value", value)

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array filled with the value."""
        return np.full(shape, self.value, dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"value": self.value}


class Identity(Initializer):
    """``gain`` times the identity matrix; two dimensions only."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = checks.real("gain", gain)

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new matrix."""
        if len(shape) != 2:
            raise ValueError(f"shape: got {tuple(shape)}, wants two dimensions for an identity matrix")
        return np.asarray(self.gain * np.eye(*shape), dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"gain": self.gain}


class Given(Initializer):
    """An array, or a function ``f(shape, dtype=...)``, of the user's.

    Configs, and with them model files, hold the description alone: what is made of that can be loaded into, since a
    file holds the weights themselves, but draws no new weights.
    """

    def __init__(self, description: str, draw: Callable[..., Any] | None = None) -> None:
        self.description = checks.instance("description", description, str, "a string")
        self._draw = draw

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Any:
        """The array, or what the function gives; ValueError where only the description is left."""
        if self._draw is None:
            raise ValueError(
                f"initializer: got the description of one ({self.description}), which is all that a config or a model "
                "file holds of it; wants the initializer itself"
            )
        return self._draw(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The description."""
        return {"description": self.description}


class RandomInitializer(Initializer):
    """Base class of the random ones: keeps the seed."""

    def __init__(self, seed: int | None = None) -> None:
        self._given_seed = None if seed is None else checks.integer("seed", seed, 0)
        self.seed = seeds.draw_seed() if self._given_seed is None else self._given_seed

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array of random numbers, the same at every call with the same shape."""
        return np.asarray(self._draw(np.random.default_rng(self.seed), tuple(shape)), dtype)

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        raise undefined(self, "_draw(generator, shape) -> array")

    def get_config(self) -> dict[str, Any]:
        """The seed, as it was given."""
        return {"seed": self._given_seed}


class RandomUniform(RandomInitializer):
    """Uniform numbers in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval = checks.real("minval", minval)
        self.maxval = checks.real("maxval", maxval, minimum=self.minval)
        super().__init__(seed)

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"minval": self.minval, "maxval": self.maxval, **super().get_config()}


class RandomNormal(RandomInitializer):
    """Normal numbers."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean = checks.real("mean", mean)
        self.stddev = checks.real("stddev", stddev, minimum=0)
        super().__init__(seed)

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"mean": self.mean, "stddev": self.stddev, **super().get_config()}


class TruncatedNormal(RandomNormal):
    """Normal numbers, drawn again where they lie more than two standard deviations from the mean."""

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return self.mean + self.stddev * _truncated_normal(generator, shape)


class VarianceScaling(RandomInitializer):
    """Numbers whose variance is ``scale`` over the fan: Glorot and Bengio 2010, He et al. 2015, LeCun et al. 1998.

    ``mode`` is "fan_in", "fan_out" or "fan_avg"; ``distribution`` "truncated_normal" (or "normal"),
    "untruncated_normal" or "uniform" (on +-sqrt(3 * scale / fan)). Fans are the sizes of the last two axes, times those
    before them, or the products of those of ``input_axes`` and ``output_axes``.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        self.scale = checks.real("scale", scale, minimum=0, open_low=True)
        self.mode = checks.one_of("mode", mode, ("fan_in", "fan_out", "fan_avg"))
        named = distribution.lower() if isinstance(distribution, str) else distribution
        named = "truncated_normal" if named == "normal" else named
        self.distribution = checks.one_of("distribution", named, _DISTRIBUTIONS)
        self.input_axes, self.output_axes = _axes("input_axes", input_axes), _axes("output_axes", output_axes)
        if (input_axes is None) != (output_axes is None):
            raise ValueError(f"input_axes, output_axes: got {input_axes} and {output_axes}, wants both or neither")
        super().__init__(seed)

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        if self.input_axes is None or self.output_axes is None:
            fan_in, fan_out = _fans(shape)
        else:
            fan_in, fan_out = (_size(shape, axes) for axes in (self.input_axes, self.output_axes))
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        return stddev * _DISTRIBUTIONS[self.distribution](generator, shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**own, **super().get_config(), "input_axes": self.input_axes, "output_axes": self.output_axes}


class _NamedScaling(VarianceScaling):
    """A variance scaling with everything settled but the seed, and which axes are inputs and outputs."""

    _SCALE = 1.0
    _MODE = "fan_avg"
    _DISTRIBUTION = "uniform"

    def __init__(
        self,
        seed: int | None = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(self._SCALE, self._MODE, self._DISTRIBUTION, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"seed": self._given_seed, "input_axes": self.input_axes, "output_axes": self.output_axes}


class GlorotUniform(_NamedScaling):
    """Uniform on +-sqrt(6 / (fan_in + fan_out))."""


class GlorotNormal(_NamedScaling):
    """Truncated normal of standard deviation sqrt(2 / (fan_in + fan_out))."""

    _DISTRIBUTION = "truncated_normal"


class HeUniform(_NamedScaling):
    """Uniform on +-sqrt(6 / fan_in)."""

    _SCALE = 2.0
    _MODE = "fan_in"


class HeNormal(HeUniform):
    """Truncated normal of standard deviation sqrt(2 / fan_in)."""

    _DISTRIBUTION = "truncated_normal"


class LecunUniform(_NamedScaling):
    """Uniform on +-sqrt(3 / fan_in)."""

    _MODE = "fan_in"


class LecunNormal(LecunUniform):
    """Truncated normal of standard deviation sqrt(1 / fan_in)."""

    _DISTRIBUTION = "truncated_normal"


class Orthogonal(RandomInitializer):
    """``gain`` times a matrix with orthonormal rows or columns (Saxe et al. 2014); leading dimensions are the rows."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = checks.real("gain", gain)
        super().__init__(seed)

    def _draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        if len(shape) < 2:
            raise ValueError(f"shape: got {shape}, wants at least two dimensions for an orthogonal matrix")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(generator.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the draw uniform over the orthogonal matrices
        return self.gain * (q if rows >= columns else q.T).reshape(shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"gain": self.gain, **super().get_config()}


class STFT(Initializer):
    """The waves of a short-time Fourier transform, each in a window: kernels (T, 1, F) of T samples and F bands.

    kernel[t, 0, f] = window[t] / s * cos(2 pi t f / n) on the ``side`` "real", on "imag" -sin of that, n = 2 (F - 1).
    ``window`` is the name of one of SciPy's, which must be installed for that, ``periodic`` or symmetric; T numbers; or
    None for neither window nor ``scaling``. That is "density", s = sqrt(sum of window^2), "spectrum", s = sum of
    |window|, or None, s = 1.
    """

    def __init__(
        self,
        side: str = "real",
        window: Any = "hann",
        scaling: str | None = "density",
        periodic: bool = False,
    ) -> None:
        self.side = checks.one_of("side", side, ("real", "imag"))
        self.scaling = None if scaling is None else checks.one_of("scaling", scaling, ("density", "spectrum"))
        self.periodic = checks.instance("periodic", periodic, bool, "True or False")
        self.window = window
        if isinstance(window, str):
            _window(window, 1, periodic)  # an unknown name is refused here
        elif window is not None:
            self.window = numeric_array("window", window)
            if self.window.ndim != 1:
                raise ValueError(f"window: got shape {self.window.shape}, wants one dimension")

    def __call__(self, shape: Shape, dtype: Any = "float32") -> Array:
        """A new array of waves."""
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(f"shape: got {tuple(shape)}, wants (samples, 1, bands), two bands at least")
        samples, _, bands = shape
        turns = np.arange(samples)[:, np.newaxis] * np.arange(bands) / (2 * (bands - 1))
        waves = np.cos(2 * np.pi * turns) if self.side == "real" else -np.sin(2 * np.pi * turns)
        return (waves * self._weights(samples)[:, np.newaxis])[:, np.newaxis].astype(dtype)

    def _weights(self, samples: int) -> Array:
        """The window, scaled."""
        if self.window is None:
            return np.ones(samples)
        window = _window(self.window, samples, self.periodic) if isinstance(self.window, str) else self.window
        if window.shape != (samples,):
            raise ValueError(f"window: got {window.size} numbers, wants {samples}, as many as samples")
        scales = {"density": np.sqrt(np.sum(window * window)), "spectrum": np.sum(abs(window)), None: 1.0}
        weights: Array = window / scales[self.scaling]
        return weights

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        named = self.window is None or isinstance(self.window, str)
        window = self.window if named else self.window.tolist()
        return {"side": self.side, "window": window, "scaling": self.scaling, "periodic": self.periodic}


def _window(name: str, samples: int, periodic: bool) -> Array:
    """One of SciPy's windows, in float64."""
    try:
        from scipy import signal
    except ImportError as error:
        raise ImportError(f"window: got {name!r}, wants numbers: names need SciPy ({installing('sklearn')})") from error
    try:
        window: Array = signal.get_window(name, samples, fftbins=periodic)
    except ValueError as error:
        raise ValueError(f"window: got {name!r}, wants the name of one of SciPy's windows ({error})") from None
    return window


def _truncated_normal(generator: np.random.Generator, shape: Shape) -> Array:
    draw = generator.standard_normal(shape)
    while (outside := np.abs(draw) > 2).any():
        draw[outside] = generator.standard_normal(int(outside.sum()))
    return draw


# Draws of unit variance, by name.
_DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, Shape], Array]] = {
    "truncated_normal": lambda generator, shape: _truncated_normal(generator, shape) / _TRUNCATED_STDDEV,
    "untruncated_normal": lambda generator, shape: generator.standard_normal(shape),
    "uniform": lambda generator, shape: generator.uniform(-math.sqrt(3), math.sqrt(3), shape),
}


def _fans(shape: Shape) -> tuple[float, float]:
    """Numbers of inputs and outputs of a weight array: the last two dimensions, times a receptive field before them."""
    if len(shape) < 2:
        size = float(math.prod(shape))
        return size, size
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


def _axes(name: str, axes: Any) -> list[int] | None:
    """Axes as a list of integers; None stays None."""
    if axes is None:
        return None
    if not isinstance(axes, (list, tuple)):
        raise TypeError(f"{name}: got {checks.describe(axes)}, wants a list of integers")
    return [checks.integer(f"{name}[{place}]", axis) for place, axis in enumerate(axes)]


def _size(shape: Shape, axes: Sequence[int]) -> float:
    """The product of the sizes of ``axes``; ValueError where ``shape`` lacks one."""
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"shape: got {shape}, wants one that has the axis {axis}")
    return float(math.prod(shape[axis] for axis in axes))


# The spellings that course scripts use: initializers.he_normal(seed=1).
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = IdentityInitializer = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
stft = STFTInitializer = STFT
orthogonal = OrthogonalInitializer = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

NAMES = aliases(
    (
        *(Zeros, Ones, Constant, Identity, RandomUniform, RandomNormal, TruncatedNormal, VarianceScaling),
        *(GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal),
        STFT,
    ),
    zero=Zeros,
    one=Ones,
    uniform=RandomUniform,
    normal=RandomNormal,
    IdentityInitializer=Identity,
    OrthogonalInitializer=Orthogonal,
    STFTInitializer=STFT,
)

# What a config may name: also what stands there for an initializer of the user's own.
_SAVED: dict[str, type[Initializer]] = {**NAMES, "Given": Given}


def get(identifier: Any, argument: str = "initializer") -> Initializer | None:
    """The initializer that ``identifier`` means: a name, a class, an object, a config, an array or a function; or None.

    Of an array the numbers are taken when weights are made, not before.
    """
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        return configurable.deserialize(argument, identifier, _SAVED)
    if isinstance(identifier, type) and not issubclass(identifier, Initializer):
        identifier = identifier()
    if isinstance(identifier, (str, type, Initializer)):
        return find(argument, identifier, Initializer, NAMES)
    if hasattr(identifier, "__array__") and len(getattr(identifier, "shape", ())):
        array = numeric_array(argument, identifier)
        return Given(f"an array of shape {array.shape}", lambda shape, dtype: array)
    if callable(identifier):
        return Given(f"the function {getattr(identifier, '__name__', type(identifier).__name__)!r}", identifier)
    raise TypeError(
        f"{argument}: got {checks.describe(identifier)}, wants a name such as 'glorot_uniform', an array, a function "
        "f(shape, dtype=...) or an Initializer object"
    )


def serialize(initializer: Initializer | None) -> dict[str, Any] | None:
    """The initializer as JSON can hold it: its config, or of one of the user's own its description alone."""
    if initializer is not None and _SAVED.get(type(initializer).__name__) is not type(initializer):
        initializer = Given(f"an object of the class {type(initializer).__name__}")
    return configurable.serialize(initializer, _SAVED)


def deserialize(config: Mapping[str, Any]) -> Initializer:
    """The initializer that ``serialize`` wrote as ``config``."""
    return configurable.deserialize("config", config, _SAVED)


def first_weights(initializer: Initializer | None, argument: str, shape: Shape, dtype: str) -> Array:
    """An array of its own, of ``shape`` and ``dtype``; errors, which name ``argument``, for anything else."""
    drawn = (GlorotUniform() if initializer is None else initializer)(shape, dtype=dtype)
    array = np.asarray(drawn)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{argument}: got {checks.describe(drawn)} from it, wants an array of numbers")
    if array.shape != shape:
        raise ValueError(f"{argument}: got an array of shape {array.shape} from it, wants {shape}")
    check_finite(argument, array, np.dtype(dtype))
    return np.array(array, dtype, order="C")


_PUBLIC = {cls.__name__ for cls in NAMES.values()}
__all__ = [
    *("Initializer", "IdentityInitializer", "OrthogonalInitializer", "STFTInitializer"),
    *("deserialize", "get", "serialize"),
    *sorted(_PUBLIC | {snake_case(name) for name in _PUBLIC}),
]
absent.explain(__name__)
