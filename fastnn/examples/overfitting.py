"""Overfitting: smaller and larger networks, L2 and dropout on few digits, training against validation."""

from __future__ import annotations

from pathlib import Path

from fastnn import layers, models, plotting, regularizers, utils
from fastnn.datasets import digits


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Train them on 300 digits; the figures are the least and the last validation loss of each."""
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    x_train, y_train, x_test = x_train[:300].reshape(300, -1) / 16, y_train[:300], x_test.reshape(len(x_test), -1) / 16
    networks = {
        "4 units": (4, 0.0, 0.0),
        "32 units": (32, 0.0, 0.0),
        "512 units": (512, 0.0, 0.0),
        "512 units, L2 0.0003": (512, 0.0003, 0.0),
        "512 units, dropout 0.5": (512, 0.0, 0.5),
    }
    figure, panels = plotting.empty_figure(
        2, "300 digits, larger and larger networks", "validation; training thin and dashed", size=(10.4, 5)
    )
    figures = {}
    styles = zip(plotting.SERIES, plotting.MARKERS, strict=False)
    for place, ((name, (units, penalty, rate)), (colour, marker)) in enumerate(
        zip(networks.items(), styles, strict=False)
    ):
        utils.set_random_seed(seed)
        network = models.Sequential()
        small = regularizers.L2(penalty) if penalty else None
        network.add(layers.Dense(units, activation="relu", input_shape=(64,), kernel_regularizer=small))
        if rate:
            network.add(layers.Dropout(rate, seed=seed))
        network.add(layers.Dense(10, activation="softmax", kernel_regularizer=small))
        network.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"])
        seen = network.fit(x_train, y_train, batch_size=32, epochs=20 if quick else 80, verbose=0,
                           validation_data=(x_test, y_test)).history  # fmt: skip
        for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
            epochs = range(1, 1 + len(seen[quantity]))
            axes.plot(epochs, seen[quantity], color=colour, linestyle="--", linewidth=1)
            axes.plot(epochs, seen[f"val_{quantity}"], color=colour, linewidth=2, label=name,
                      marker=marker, markevery=(3 * place, 15), markersize=6)  # fmt: skip
            axes.set_title(quantity, loc="left", fontsize=11)
            axes.set_xlabel("epoch")
            plotting.tidy(axes)
        figures[f"{name}, least"], figures[f"{name}, last"] = min(seen["val_loss"]), seen["val_loss"][-1]
        said = f"least {min(seen['val_loss']):.3f}, at the end {seen['val_loss'][-1]:.3f}"
        print(f"{name:24} validation loss {said}; training loss {seen['loss'][-1]:.4f}")
    panels[0].set_yscale("log")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    plotting.save(figure, out / "overfitting.png")
    return figures
