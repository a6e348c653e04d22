"""What course notebooks write, chapter by chapter, in small: each takes the library, Keras or fastnn, as ``keras``.

Each gives what it made: a model that predicts, the data that it predicts from, and figures, which the test compares.
"""

from __future__ import annotations

import numpy as np

CHAPTERS = {}


def chapter(function):
    """Enter a chapter."""
    CHAPTERS[function.__name__] = function
    return function


def made_digits(n=160, side=8, seed=0):
    """Images of a bright bar, one column a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.random((n, side, side)) * 80
    images[np.arange(n), :, labels * 2] += 150
    return images.astype("uint8"), labels


@chapter
def dense_classification(keras):
    layers = keras.layers
    images, labels = made_digits()
    x = images.reshape((len(images), -1)).astype("float32") / 255
    y = keras.utils.to_categorical(labels)
    model = keras.Sequential(
        [
            keras.Input(shape=(64,)),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.summary(print_fn=lambda *_, **__: None)
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True)
    history = model.fit(x, y, batch_size=32, epochs=3, validation_split=0.1, callbacks=[stopping], verbose=0)
    score = model.evaluate(x, y, verbose=0)
    predicted = np.argmax(model.predict(x[:5], verbose=0), axis=1)
    assert predicted.shape == (5,)
    return model, x, {"history": sorted(history.history), "scores": len(score)}


@chapter
def regression(keras):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 8)) * [1, 10, 3, 2, 5, 1, 1, 4] + 3
    y = (x @ rng.normal(size=8))[:, None]
    normalizer = keras.layers.Normalization(axis=-1)
    normalizer.adapt(np.array(x))
    model = keras.Sequential([normalizer, keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)])
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=0.01),
        loss=keras.losses.MeanSquaredError(),
        metrics=["mae", keras.metrics.RootMeanSquaredError()],
    )
    history = model.fit(x, y, epochs=2, batch_size=16, validation_split=0.2, verbose=0)
    figures = model.evaluate(x, y, verbose=0, return_dict=True)
    return model, x, {"history": sorted(history.history), "figures": sorted(figures), "epochs": history.epoch}


@chapter
def overfitting(keras):
    layers, regularizers = keras.layers, keras.regularizers
    rng = np.random.default_rng(2)
    x = rng.random((100, 20)).astype("float32")
    y = (x.sum(axis=1) > 10).astype("float32")
    model = keras.Sequential(name="l2")
    model.add(keras.Input((20,)))
    model.add(layers.Dense(16, activation="relu", kernel_regularizer=regularizers.l2(0.002)))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(16, activation="relu", kernel_regularizer=regularizers.L1L2(l1=0.001, l2=0.001)))
    model.add(layers.Dense(1, activation="sigmoid"))
    rate = keras.optimizers.schedules.InverseTimeDecay(0.001, decay_steps=100, decay_rate=1, staircase=False)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["acc"])
    history = model.fit(x, y, epochs=4, batch_size=20, validation_data=(x[:20], y[:20]), verbose=0)
    assert model.layers[0].get_weights()[0].shape == (20, 16)
    assert len(model.losses) == 2
    return model, x, {"history": sorted(history.history), "name": model.name, "steps": int(model.optimizer.iterations)}


@chapter
def convolution_from_scratch(keras):
    layers = keras.layers
    images, labels = made_digits()
    x = np.expand_dims(images, -1).astype("float32") / 255
    inputs = keras.Input(shape=(8, 8, 1))
    h = layers.Conv2D(filters=8, kernel_size=3, activation="relu", padding="same")(inputs)
    h = layers.MaxPooling2D(pool_size=2)(h)
    h = layers.Conv2D(filters=12, kernel_size=(3, 3), activation="relu")(h)
    h = layers.Flatten()(h)
    outputs = layers.Dense(4, activation="softmax")(h)
    model = keras.Model(inputs=inputs, outputs=outputs)
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, labels, epochs=2, batch_size=64, verbose=0)
    maps = keras.Model(inputs=model.input, outputs=[layer.output for layer in model.layers[1:3]])
    first, second = maps.predict(x[:2], verbose=0)
    assert first.shape == (2, 8, 8, 8)
    assert second.shape == (2, 4, 4, 8)
    return model, x, {"parameters": model.count_params(), "shapes": [tuple(w.shape) for w in model.weights]}


@chapter
def augmentation(keras):
    layers = keras.layers
    images, labels = made_digits()
    x = np.repeat(images[..., None], 3, axis=-1)
    augment = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.2)], name="augmentation"
    )
    inputs = keras.Input(shape=(8, 8, 3))
    h = augment(inputs)
    h = layers.Rescaling(1.0 / 255)(h)
    for size in [4, 8]:
        h = layers.SeparableConv2D(size, 3, padding="same", use_bias=False)(h)
        h = layers.BatchNormalization()(h)
        h = layers.Activation("relu")(h)
    h = layers.GlobalAveragePooling2D()(h)
    h = layers.Dropout(0.25)(h)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(h))
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.fit(x, labels, epochs=1, batch_size=40, verbose=0)
    shown = augment(x[:4].astype("float32"), training=True)
    assert tuple(shown.shape) == (4, 8, 8, 3)
    return model, x, {"layers": [type(layer).__name__ for layer in model.layers]}


@chapter
def batch_normalization(keras):
    layers = keras.layers
    images, labels = made_digits()
    x = images.astype("float32")[..., None] / 255
    inputs = layers.Input((8, 8, 1))
    h = layers.Conv2D(8, 3, padding="same")(inputs)
    for _ in range(2):  # residual blocks
        kept = h
        h = layers.BatchNormalization(momentum=0.9)(h)
        h = layers.ReLU()(h)
        h = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal")(h)
        h = layers.add([h, kept])
    h = layers.LayerNormalization()(layers.GlobalMaxPooling2D()(h))
    model = keras.Model(inputs, layers.Dense(4)(h))
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    drop = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else rate)
    history = model.fit(x, labels, epochs=2, batch_size=32, callbacks=[drop], verbose=0)
    kinds = [len(model.trainable_weights), len(model.non_trainable_weights)]
    return model, x, {"history": sorted(history.history), "weights": kinds}


@chapter
def two_inputs_two_outputs(keras):
    layers = keras.layers
    rng = np.random.default_rng(3)
    title, tags = rng.integers(0, 2, (90, 20)).astype("float32"), rng.random((90, 6)).astype("float32")
    priority, department = title.mean(axis=1, keepdims=True), np.eye(3, dtype="float32")[rng.integers(0, 3, 90)]
    first, second = keras.Input(shape=(20,), name="title"), keras.Input(shape=(6,), name="tags")
    h = layers.Concatenate()([first, second])
    h = layers.Dense(12, activation="relu")(h)
    scored = layers.Dense(1, activation="sigmoid", name="priority")(h)
    chosen = layers.Dense(3, activation="softmax", name="department")(h)
    model = keras.Model(inputs=[first, second], outputs=[scored, chosen])
    model.compile(
        optimizer="adam",
        loss={"priority": "mean_squared_error", "department": "categorical_crossentropy"},
        loss_weights={"priority": 1.0, "department": 0.5},
        metrics={"priority": ["mean_absolute_error"], "department": ["accuracy"]},
    )
    history = model.fit(
        {"title": title, "tags": tags}, {"priority": priority, "department": department}, epochs=2, verbose=0
    )
    features = model.get_layer("priority").input
    again = keras.Model([first, second], [*model.outputs, layers.Dense(2)(features)])
    assert len(again.predict([title, tags], verbose=0)) == 3
    return model, [title, tags], {"history": sorted(history.history), "inputs": len(model.inputs)}


@chapter
def custom_layer_and_loop(keras):
    layers, ops = keras.layers, keras.ops

    class Linear(layers.Layer):
        def __init__(self, units=32, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", name="w")
            self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

        def call(self, inputs):
            return ops.matmul(inputs, self.w) + self.b

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    class Classifier(keras.Model):
        def __init__(self, classes):
            super().__init__()
            self.hidden, self.head = Linear(16), layers.Dense(classes, activation="softmax")

        def call(self, inputs):
            return self.head(ops.relu(self.hidden(inputs)))

    images, labels = made_digits()
    x = images.reshape(-1, 64).astype("float32") / 255
    model = Classifier(4)
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy, tracked = keras.metrics.SparseCategoricalAccuracy(), keras.metrics.Mean(name="loss")
    for start in range(0, 160, 40):
        loss, *_ = model.train_on_batch(x[start : start + 40], labels[start : start + 40])
        tracked.update_state(loss)
    accuracy.update_state(labels, model.predict(x, verbose=0))
    assert 0 <= float(accuracy.result()) <= 1
    assert float(tracked.result()) > 0
    return model, x, {"weights": [tuple(w.shape) for w in model.get_weights()]}


TEXTS = ["The cat sat on the mat.", "A dog barked!", "the dog and the cat", "mat, mat, MAT", "never seen a bird"] * 12


@chapter
def text_vectorization_and_embedding(keras):
    layers = keras.layers
    labels = np.arange(len(TEXTS)) % 2
    vectorize = layers.TextVectorization(max_tokens=12, output_mode="int", output_sequence_length=7)
    vectorize.adapt(TEXTS)
    x = np.asarray(vectorize(TEXTS))
    inputs = keras.Input(shape=(None,), dtype="int64")
    h = layers.Embedding(input_dim=12, output_dim=6, mask_zero=True)(inputs)
    h = layers.Bidirectional(layers.LSTM(5))(h)
    h = layers.Dropout(0.5)(h)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(h))
    model.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, labels, epochs=1, batch_size=20, verbose=0)
    bags = layers.TextVectorization(ngrams=2, max_tokens=20, output_mode="tf_idf")
    bags.adapt(TEXTS)
    return model, x, {
        "rows": x.tolist(),
        "words": vectorize.get_vocabulary(),
        "bags": np.round(np.asarray(bags(TEXTS)), 4).tolist(),
    }  # fmt: skip


@chapter
def time_series(keras):
    layers = keras.layers
    t = np.arange(300)
    series = np.stack([np.sin(t / 7), np.cos(t / 11)], axis=1).astype("float32")
    x = np.stack([series[i : i + 12] for i in range(200)])
    y = np.array([series[i + 13, 0] for i in range(200)])
    inputs = keras.Input(shape=(12, 2))
    h = layers.Conv1D(6, 3, activation="relu", padding="causal")(inputs)
    h = layers.GRU(6, recurrent_dropout=0.2, return_sequences=True)(h)
    h = layers.LSTM(5, return_sequences=True)(h)
    h = layers.Bidirectional(layers.SimpleRNN(4))(h)
    model = keras.Model(inputs, layers.Dense(1)(h))
    model.compile("rmsprop", "mse", metrics=["mae"])
    history = model.fit(x, y, epochs=1, batch_size=50, validation_data=(x[:50], y[:50]), verbose=0)
    return model, x, {"history": sorted(history.history), "shapes": [tuple(w.shape) for w in model.weights]}
