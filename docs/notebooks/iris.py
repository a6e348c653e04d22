# %% [markdown]
# # Iris
#
# Three kinds of flowers by the lengths of their leaves: by R's `neuralnet`, and by the trainer. The data ship with
# fastnn.

# %%
# %matplotlib inline
import numpy as np

import fastnn
from fastnn import layers, models, plotting, utils
from fastnn.datasets import iris

(x, species), _ = iris.load_data(test_split=0.0)
kinds = list(iris.get_label_names())
names = ["Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width"]
flowers = dict(zip(names, x.T, strict=True)) | {"Species": [kinds[each] for each in species]}

# %% [markdown]
# ## By a formula
#
# `Species ~ .` makes an output of each kind, and an input of each other column. All flowers are one batch, and
# training ends where no derivative is above the threshold.

# %%
net = fastnn.neuralnet("Species ~ .", flowers, hidden=3, threshold=0.05, linear_output=False, seed=1)
print(net)
right = np.argmax(net.predict(flowers), axis=1) == species
print(f"{right.sum()} of {len(right)} right")

# %%
net.plot()

# %% [markdown]
# ## By the trainer
#
# Two features are enough to draw what a network answers over the plane; a fifth of the flowers is held out.

# %%
(x_train, y_train), (x_test, y_test) = iris.load_data(test_split=0.2, seed=1)
petals = slice(2, 4)
utils.set_random_seed(1)
network = models.Sequential([layers.Input((2,)), layers.Dense(16, "tanh"), layers.Dense(3, "softmax")])
network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = network.fit(x_train[:, petals], y_train, epochs=300, batch_size=16, verbose=0)
loss, accuracy = network.evaluate(x_test[:, petals], y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}")

# %%
axes = plotting.decision_surface(network, x[:, petals], species, labels=kinds)
_ = axes.set(xlabel=names[2], ylabel=names[3])

# %%
_ = plotting.learning_curve(history, "loss")

# %%
_ = plotting.confusion_matrix(y_test, network.predict(x_test[:, petals], verbose=0).argmax(axis=1), labels=kinds)
