"""Newswires in 46 topics: multi-hot word vectors, two hidden layers, in plain Keras style."""

import numpy as np

from fastnn import layers, models
from fastnn.datasets import reuters
from fastnn.utils import to_categorical

WORDS = 10000

(train_data, train_labels), (test_data, test_labels) = reuters.load_data(num_words=WORDS)


def vectorize(newswires):
    """Return one row per newswire, 1 in the column of every word that occurs in it."""
    rows = np.zeros((len(newswires), WORDS), dtype="float32")
    for index, words in enumerate(newswires):
        rows[index, words] = 1
    return rows


x_train, x_test = vectorize(train_data), vectorize(test_data)
y_train, y_test = to_categorical(train_labels, 46), to_categorical(test_labels, 46)

model = models.Sequential()
model.add(layers.Dense(64, activation="relu", input_shape=(WORDS,)))
model.add(layers.Dense(64, activation="relu"))
model.add(layers.Dense(46, activation="softmax"))
model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, epochs=9, batch_size=512, validation_split=0.1)

test_loss, test_accuracy = model.evaluate(x_test, y_test)
predictions = model.predict(x_test)
print("test accuracy:", test_accuracy)
print("most likely topic of the first newswire:", np.argmax(predictions[0]))
