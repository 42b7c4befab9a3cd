"""The model of configs/classify_gcide.textproto in Keras, trained by model.fit on the same files.

    KERAS_BACKEND=torch python keras_parts_of_speech.py DIR [--seeds 1 2 3] [--epochs 5]

DIR holds train.tsv and heldout.tsv (launch/datasets.sh gcide-pos). Words as TextVectorization makes them; padding is not
seen, not pooled and takes no slot; batches are as long as their longest text. Every token passes through all experts and
keeps what its own one made: the same numbers as dispatch and combine, without their one-hot tensors.
One line for each epoch, and for each epoch the mean over the seeds.
"""
import argparse, collections, os, re, statistics, time

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np
from keras import layers, ops

VOCABULARY, LENGTH, WIDTH, HEADS, HIDDEN, EXPERTS, BATCH, CAPACITY_FACTOR = 20000, 200, 32, 2, 32, 10, 50, 1.25
PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")


def read(path):
    with open(path, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t", 1) for line in file]
    return [label for label, _ in rows], [PUNCTUATION.sub("", text.lower()).split() for _, text in rows]


class Batches(keras.utils.PyDataset):
    def __init__(self, texts, labels, seed=None):
        super().__init__()
        self.texts, self.labels, self.rng = texts, labels, np.random.default_rng(seed) if seed is not None else None
        self.order = np.arange(len(texts))
        self.on_epoch_end()

    def on_epoch_end(self):
        if self.rng is not None:
            self.rng.shuffle(self.order)

    def __len__(self):
        return len(self.texts) // BATCH if self.rng is not None else -(-len(self.texts) // BATCH)

    def __getitem__(self, index):
        chosen = self.order[index * BATCH:(index + 1) * BATCH]
        length = min(LENGTH, -(-max(len(self.texts[i]) for i in chosen) // 16) * 16 or 16)
        tokens = np.zeros((len(chosen), length), np.int32)
        for row, i in enumerate(chosen):
            words = self.texts[i][:length]
            tokens[row, :len(words)] = words
        return tokens, self.labels[chosen]


class Embedding(layers.Layer):
    def __init__(self):
        super().__init__()
        self.token, self.position = layers.Embedding(VOCABULARY, WIDTH), layers.Embedding(LENGTH, WIDTH)

    def call(self, tokens):
        return self.token(tokens) + self.position(ops.arange(ops.shape(tokens)[1]))


class Switch(layers.Layer):
    def __init__(self):
        super().__init__()
        self.router = layers.Dense(EXPERTS)
        self.noise = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.router.build((None, WIDTH))
        glorot = keras.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
        make = lambda name, inner, outer: self.add_weight(name=name, shape=(EXPERTS, inner, outer), initializer=lambda shape, dtype=None: ops.stack(
            [glorot((inner, outer)) for _ in range(EXPERTS)]))
        self.w_in, self.w_out = make("w_in", WIDTH, HIDDEN), make("w_out", HIDDEN, WIDTH)
        self.b_in = self.add_weight(name="b_in", shape=(EXPERTS, HIDDEN), initializer="zeros")
        self.b_out = self.add_weight(name="b_out", shape=(EXPERTS, WIDTH), initializer="zeros")

    def call(self, x, real, training=False):
        shape = ops.shape(x)
        x, real = ops.reshape(x, (-1, WIDTH)), ops.reshape(real, (-1, 1))
        seen = x * keras.random.uniform(ops.shape(x), 0.99, 1.01, seed=self.noise) if training else x
        probabilities = ops.softmax(self.router(seen), axis=-1) * real
        mask = ops.one_hot(ops.argmax(probabilities, axis=-1), EXPERTS) * real
        tokens = ops.maximum(ops.sum(real), 1.0)
        self.add_loss(0.01 * EXPERTS * ops.sum(ops.sum(probabilities, 0) * ops.sum(mask, 0)) / (tokens * tokens))
        if training:
            capacity = float(-(-CAPACITY_FACTOR * int(ops.shape(x)[0]) // EXPERTS))
            mask = mask * ops.cast(ops.less_equal(ops.cumsum(mask, axis=0), capacity), "float32")
        gate = ops.sum(probabilities * mask, -1, keepdims=True)
        hidden = ops.relu(ops.einsum("td,edh->teh", x, self.w_in) + self.b_in) * mask[:, :, None]
        y = ops.einsum("teh,ehd->td", hidden, self.w_out) + ops.matmul(mask, self.b_out)
        return ops.reshape(y * gate, shape)


def build(classes):
    tokens = keras.Input((None,), dtype="int32")
    real = ops.cast(ops.not_equal(tokens, 0), "float32")
    x = Embedding()(tokens)
    attended = layers.MultiHeadAttention(HEADS, WIDTH)(x, x, attention_mask=ops.expand_dims(real, 1))
    x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
    x = layers.LayerNormalization(epsilon=1e-6)(x + Switch()(x, real))
    x = ops.sum(x * ops.expand_dims(real, -1), 1) / ops.maximum(ops.sum(real, 1, keepdims=True), 1.0)
    x = layers.Dense(20, activation="relu")(layers.Dropout(0.1)(x))
    model = keras.Model(tokens, layers.Dense(classes, activation="softmax")(layers.Dropout(0.1)(x)))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=5)
    a = parser.parse_args()
    (labels, texts), (heldout_labels, heldout_texts) = read(a.directory + "/train.tsv"), read(a.directory + "/heldout.tsv")
    counts = collections.Counter(word for text in texts for word in text)
    ids = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(VOCABULARY - 2))}
    names = {name: i for i, name in enumerate(sorted(set(labels)))}
    encode = lambda rows: [[ids.get(word, 1) for word in row] for row in rows]
    numbers = lambda rows: np.array([names[name] for name in rows], np.int32)
    train, heldout = (encode(texts), numbers(labels)), (encode(heldout_texts), numbers(heldout_labels))
    reached = collections.defaultdict(list)
    for seed in a.seeds:
        keras.utils.set_random_seed(seed)
        model = build(len(names))
        batches, judged = Batches(*train, seed=seed), Batches(*heldout)
        for epoch in range(a.epochs):
            begin = time.perf_counter()
            model.fit(batches, epochs=1, verbose=0)
            seconds = time.perf_counter() - begin
            accuracy = model.evaluate(judged, verbose=0, return_dict=True)["accuracy"]
            reached[epoch].append(accuracy)
            print(f"seed {seed} epoch {epoch + 1}: accuracy {accuracy:.4f}, {seconds:.0f} s", flush=True)
    for epoch, found in reached.items():
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(f"epoch {epoch + 1}: mean {statistics.mean(found):.4f}, standard deviation {spread:.4f} of {len(found)} seeds")


if __name__ == "__main__":
    main()
