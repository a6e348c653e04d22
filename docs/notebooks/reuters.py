# %% [markdown]
# # Reuters
#
# Newswires of 46 topics by the words that occur in them, and where validation says to stop.

# %%
import numpy as np

from fastnn import callbacks, layers, models, plotting, utils
from fastnn.datasets import reuters, reviews
from fastnn.errors import DataFileError

WORDS = 10_000

# %% [markdown]
# The file is looked for in the folder that `FASTNN_DATA` names, then in the user's cache, then downloaded. Where
# there is none, and no network, made reviews of two kinds take the place of newswires.

# %%
try:
    (train, y_train), (test, y_test) = reuters.load_data(num_words=WORDS)
    topics = list(reuters.get_label_names())
except DataFileError as reason:
    print(reason)
    print("NO REUTERS: going on with made reviews")
    (train, y_train), (test, y_test) = reviews.load_data(num_words=WORDS)
    topics = ["unfavourable", "favourable"]
print(f"{len(train):,} texts to learn from, {len(test):,} to test, {len(topics)} topics")

# %% [markdown]
# A text becomes a row of 0s and 1s: which of the 10,000 most frequent words it has. Few are 1, and fastnn's kernels
# skip the rest.


# %%
def vectorized(texts):
    """One row a text, 1 in the column of every word that occurs in it."""
    rows = np.zeros((len(texts), WORDS), "float32")
    for row, words in zip(rows, texts, strict=True):
        row[words] = 1
    return rows


x_train, x_test = vectorized(train), vectorized(test)
print(f"{x_train.mean():.2%} of the inputs are not zero")


# %%
def network():
    """64 and 64 units, the same first weights each time."""
    utils.set_random_seed(0)
    made = models.Sequential(
        [
            layers.Input((WORDS,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(len(topics), activation="softmax"),
        ]
    )
    made.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


held_out = len(x_train) // 9
history = network().fit(
    x_train[held_out:],
    y_train[held_out:],
    epochs=20,
    batch_size=512,
    validation_data=(x_train[:held_out], y_train[:held_out]),
    verbose=0,
)

# %%
_ = plotting.learning_curve(history, "loss")

# %%
_ = plotting.learning_curve(history, "accuracy")

# %% [markdown]
# Validation loss rises while training loss still falls: from there on the network learns newswires by heart. It is
# trained anew on all of them for as many epochs as are good for it.

# %%
best = int(np.argmin(history.history["val_loss"])) + 1
final = network()
final.fit(x_train, y_train, epochs=best, batch_size=512, verbose=0)
loss, accuracy = final.evaluate(x_test, y_test, verbose=0)
print(f"trained for {best} epochs: test accuracy {accuracy:.4f}")

# %% [markdown]
# `EarlyStopping` does the same while it watches:

# %%
watched = network()
stopping = callbacks.EarlyStopping(patience=3, restore_best_weights=True)
watched.fit(x_train, y_train, epochs=50, batch_size=512, validation_split=0.1, callbacks=[stopping], verbose=0)
print(f"stopped: test accuracy {watched.evaluate(x_test, y_test, verbose=0)[1]:.4f}")

# %% [markdown]
# What it makes of one text:

# %%
outputs = final.predict(x_test[:1], verbose=0)[0]
for topic in np.argsort(-outputs)[:3]:
    print(f"{topics[topic]:16} {outputs[topic]:.3f}" + ("  <- is" if topic == y_test[0] else ""))
