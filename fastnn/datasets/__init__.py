"""Data sets, each with Keras's ``load_data() -> (x_train, y_train), (x_test, y_test)``.

====================  ================================================  ================================
module                what                                              comes from
====================  ================================================  ================================
`digits`              1,797 digits, 8x8 pixels                          the package
`iris`                150 flowers, 4 lengths, 3 species                 the package
`xor`                 points near the corners of a square               made
`reviews`             reviews of films, good or bad                     made
`mnist`               70,000 digits, 28x28 pixels                       file
`fashion_mnist`       70,000 articles, 28x28 pixels                     file
`reuters`             11,228 newswires, 46 topics                       file
`imdb`                50,000 reviews of films, good or bad              file
`cifar10`             60,000 photographs of 10 classes, 32x32 pixels    file
`boston_housing`      506 suburbs, 13 attributes, a price to predict    file
`california_housing`  20,640 districts, 8 attributes, a price           file
====================  ================================================  ================================

Files are looked for in the folder that the argument ``data_dir``, else the environment variable ``FASTNN_DATA`` names,
then in the user's cache (``FASTNN_CACHE`` moves it), then downloaded from where they are published. Each is checked
against its published checksum before anything in it is read.
"""

from __future__ import annotations

from fastnn import absent
from fastnn.datasets import (
    boston_housing,
    california_housing,
    cifar10,
    digits,
    fashion_mnist,
    imdb,
    iris,
    mnist,
    reuters,
    reviews,
    xor,
)

__all__ = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "digits",
    "fashion_mnist",
    "imdb",
    "iris",
    "mnist",
    "reuters",
    "reviews",
    "xor",
]

absent.explain(__name__)
