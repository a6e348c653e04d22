# %% [markdown]
# # MNIST
#
# Handwritten digits by a network of one hidden layer, 784-512-10: the course's first network, and what it takes for
# what.

# %%
import numpy as np

from fastnn import layers, models, plotting, utils
from fastnn.datasets import digits, mnist
from fastnn.errors import DataFileError

utils.set_random_seed(0)

# %% [markdown]
# The images are looked for in the folder that `FASTNN_DATA` names, then in the user's cache, then downloaded. Where
# there are none, and no network, the 1,797 digits that ship with fastnn take their place.

# %%
try:
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
except DataFileError as reason:
    print(reason)
    print("NO MNIST: going on with the digits that ship with fastnn")
    (x_train, y_train), (x_test, y_test) = digits.load_data()
print(x_train.shape, x_train.dtype, y_train[:10])

# %%
_ = plotting.images(x_train[:24], [str(label) for label in y_train[:24]], columns=8)

# %% [markdown]
# The images stay bytes: `Rescaling` brings them to numbers from 0 to 1 as batches are gathered.

# %%
network = models.Sequential(
    [
        layers.Input(x_train.shape[1:]),
        layers.Rescaling(1 / float(x_train.max())),
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
network.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
network.summary()

# %% [markdown]
# What `fit` will run, and why:

# %%
print(network.plan(x_train, batch_size=128))

# %%
history = network.fit(x_train, y_train, epochs=5, batch_size=128, validation_split=0.1, verbose=2)

# %%
_ = plotting.learning_curve(history, "accuracy")

# %% [markdown]
# ## What it has learned
#
# Accuracy on images that it has not seen, and how often each digit is taken for which.

# %%
loss, accuracy = network.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}")

# %%
outputs = network.predict(x_test, verbose=0)
_ = plotting.confusion_matrix(y_test, outputs.argmax(axis=1))

# %% [markdown]
# The mistakes of which it is surest:

# %%
wrong = np.flatnonzero(outputs.argmax(axis=1) != y_test)
surest = wrong[np.argsort(-outputs[wrong].max(axis=1))][:16]
_ = plotting.images(x_test[surest], [f"{y_test[each]}, not {outputs[each].argmax()}" for each in surest], columns=8)

# %% [markdown]
# And what the first units look for, dark where ink speaks against them and light where it speaks for them:

# %%
_ = plotting.weight_images(network.get_weights()[0][:, :24], x_train.shape[1:], columns=8)
