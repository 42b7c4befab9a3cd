"""The Keras example's text classifier with a Switch layer, trained by model.fit on random texts.

    KERAS_BACKEND=torch OMP_NUM_THREADS=2 python keras_classifier.py [--turns PATH]

The layers of the example: token and position embedding, attention, a switch layer whose dispatch and combine are one-hot
einsums over [tokens, experts, capacity], mean, dense 32 ReLU, dense 2. Batch 50, 200 tokens, 10 experts, Adam at 1e-3.
A timed block is a number of batches inside one epoch. One line of JSON at the end: samples/s of each block.
"""
import argparse, json, os, time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from keras import layers, ops

from torch_lm import peak_mib, process_age, wait_for_turn

VOCABULARY, LENGTH, WIDTH, HEADS, HIDDEN, EXPERTS, BATCH, WARM_UP = 20000, 200, 32, 2, 32, 10, 50, 3


class Embedding(layers.Layer):
    def __init__(self):
        super().__init__()
        self.token, self.position = layers.Embedding(VOCABULARY, WIDTH), layers.Embedding(LENGTH, WIDTH)

    def call(self, tokens):
        return self.token(tokens) + self.position(ops.arange(LENGTH))


class Switch(layers.Layer):
    def __init__(self):
        super().__init__()
        self.capacity = BATCH * LENGTH // EXPERTS
        self.router = layers.Dense(EXPERTS)
        self.experts = [keras.Sequential([layers.Dense(HIDDEN, activation="relu"), layers.Dense(WIDTH)]) for _ in range(EXPERTS)]

    def build(self, shape):
        for layer in [self.router, *self.experts]:
            layer.build((None, WIDTH))
        super().build(shape)

    def call(self, x):
        x = ops.reshape(x, (BATCH * LENGTH, WIDTH))
        probabilities = keras.activations.softmax(self.router(x), axis=-1)
        gate, chosen = ops.top_k(probabilities, k=1)
        mask = ops.one_hot(ops.squeeze(chosen, -1), EXPERTS)
        self.add_loss(0.01 * EXPERTS * ops.sum(ops.mean(probabilities, 0) * ops.mean(mask, 0)))
        place = ops.sum(ops.cumsum(mask, axis=0) * mask, -1)
        kept = ops.cast(ops.less(place, self.capacity), "float32")
        places = ops.one_hot(ops.cast(ops.minimum(place, self.capacity - 1), "int32"), self.capacity)
        dispatch = (mask * kept[:, None])[:, :, None] * places[:, None, :]
        rows = ops.einsum("tec,td->ecd", dispatch, x)
        done = ops.stack([expert(rows[i]) for i, expert in enumerate(self.experts)], axis=0)
        y = ops.einsum("tec,ecd->td", dispatch * gate[:, :, None], done)
        return ops.reshape(y, (BATCH, LENGTH, WIDTH))


def build():
    tokens = keras.Input((LENGTH,), batch_size=BATCH, dtype="int32")
    x = Embedding()(tokens)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.MultiHeadAttention(HEADS, WIDTH)(x, x))
    x = layers.LayerNormalization(epsilon=1e-6)(x + Switch()(x))
    x = layers.Dense(32, activation="relu")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(tokens, layers.Dense(2, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return model


class Clock(keras.callbacks.Callback):
    """Blocks of whole batches: how many fill `seconds` is told by the batches before the first block."""

    def __init__(self, arguments):
        super().__init__()
        self.a, self.rates, self.batches, self.left, self.start_up = arguments, [], 0, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        now = time.perf_counter()
        if self.batches == 1:
            self.start_up, self.begin = process_age(), now
        if self.batches < WARM_UP:
            return
        if self.batches == WARM_UP:
            self.size = max(1, int(self.a.seconds * (WARM_UP - 1) / (now - self.begin)))
        else:
            self.left -= 1
            if self.left > 0:
                return
            self.rates.append(self.size * BATCH / (now - self.begin))
            if len(self.rates) == self.a.blocks:
                self.model.stop_training = True
                return
        wait_for_turn(self.a.turns, len(self.rates), 0)
        self.left, self.begin = self.size, time.perf_counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--turns", default="")
    a = parser.parse_args()
    rng = np.random.default_rng(1)

    def batches():
        while True:
            yield rng.integers(2, VOCABULARY, (BATCH, LENGTH), dtype=np.int32), rng.integers(0, 2, BATCH)

    clock = Clock(a)
    build().fit(batches(), steps_per_epoch=10 ** 6, epochs=1, verbose=0, callbacks=[clock])
    print(json.dumps(dict(peer="keras " + keras.__version__ + " on " + keras.backend.backend(), samples_per_second=sorted(clock.rates)[len(clock.rates) // 2],
                          blocks=clock.rates, peak_mib=peak_mib(), start_up_seconds=clock.start_up)), flush=True)


if __name__ == "__main__":
    main()
