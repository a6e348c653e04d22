"""House prices: regression on 13 normalised features, in plain Keras style."""

from fastnn import layers, models
from fastnn.datasets import boston_housing

(train_data, train_targets), (test_data, test_targets) = boston_housing.load_data()

mean = train_data.mean(axis=0)
deviation = train_data.std(axis=0)
train_data = (train_data - mean) / deviation
test_data = (test_data - mean) / deviation


def build_model():
    """Return a new compiled model."""
    model = models.Sequential()
    model.add(layers.Dense(64, activation="relu", input_shape=(train_data.shape[1],)))
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(1))
    model.compile(optimizer="rmsprop", loss="mse", metrics=["mae"])
    return model


model = build_model()
history = model.fit(train_data, train_targets, epochs=80, batch_size=16, verbose=0)
test_mse, test_mae = model.evaluate(test_data, test_targets)
print("test mean absolute error, in thousands of dollars:", test_mae)
