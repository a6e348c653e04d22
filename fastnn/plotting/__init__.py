"""Pictures of training and of networks: a call each. They need matplotlib (the extra ``plot``), imported when drawn.

What draws into one panel takes ``ax=``, a matplotlib ``Axes``, and returns it; without, a new figure of pyplot's is
made, as matplotlib's users expect. Colours are told apart with every kind of colour vision; maps of numbers go from
dark to light, and classes have marks of their own, so that pictures survive in grey.
"""

from __future__ import annotations

from fastnn.plotting.curves import history_figure, learning_curve, spelled
from fastnn.plotting.figures import (
    BLUE,
    COLOUR_MAP,
    FORMATS,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    empty_figure,
    line_style,
    panel,
    require,
    save,
    tidy,
)
from fastnn.plotting.images import images, weight_images
from fastnn.plotting.networks import network, network_figure
from fastnn.plotting.scores import confusion_matrix, roc_curve
from fastnn.plotting.surfaces import activation, decision_surface, descent

__all__ = [
    "BLUE",
    "COLOUR_MAP",
    "FORMATS",
    "GREEN",
    "GREY",
    "MARKERS",
    "ORANGE",
    "PURPLE",
    "SERIES",
    "SKY",
    "activation",
    "confusion_matrix",
    "decision_surface",
    "descent",
    "empty_figure",
    "history_figure",
    "images",
    "learning_curve",
    "line_style",
    "network",
    "network_figure",
    "panel",
    "require",
    "roc_curve",
    "save",
    "spelled",
    "tidy",
    "weight_images",
]
