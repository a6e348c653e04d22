"""Digits: 1,797 hand-written digits, 8x8 pixels of 0 to 16. Ships with fastnn (data/LICENSE-DATA.md)."""

from __future__ import annotations

import io

import numpy as np

from fastnn.datasets import _files, _split


def load_data(test_split: float = 0.2, seed: int | None = 113) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: uint8 images (n, 8, 8) of 0 to 16, uint8 labels (n,).

    Parameters
    ----------
    test_split
        The share of each digit that becomes test images, in [0, 1); 0.2 gives 1,438 training and 359 test images.
    seed
        Of the shuffle; the same seed gives the same images in every version, None different ones each time.
    """
    text = _files.gunzip(_files.read_shipped("digits.csv.gz"), "digits.csv.gz").decode("ascii")
    table = np.loadtxt(io.StringIO(text), np.uint8, delimiter=",")
    return _split.stratified(table[:, :64].reshape(-1, 8, 8).copy(), table[:, 64].copy(), test_split, seed)
