"""The text classifier of configs/classify_keras_io.textproto in plain PyTorch, the fastest of the forms tried, on random texts.

    OMP_NUM_THREADS=2 python torch_classifier.py --samples 50 [--turns PATH]

Vocabulary 20,000, 200 tokens, width 32, 2 heads of 32, one post-LN block, 10 experts of 32 behind one batched product,
mean over the tokens, 32 ReLU, 2 classes; Adam at 1e-3, fused. Every token goes to expert t modulo E, as in build/bench/step,
so no side drops what the other computes. One line of JSON at the end: samples/s of each block.
"""
import argparse, json, math, time

import torch, torch.nn as nn, torch.nn.functional as F

from torch_lm import Rows, peak_mib, process_age, wait_for_turn

VOCABULARY, LENGTH, WIDTH, HEADS, HIDDEN, EXPERTS = 20000, 200, 32, 2, 32, 10
WARM_UP = 50


class Switch(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.w_in = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) / math.sqrt(WIDTH))
        self.w_out = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) / math.sqrt(HIDDEN))
        self.b_in, self.b_out = nn.Parameter(torch.zeros(EXPERTS, 1, HIDDEN)), nn.Parameter(torch.zeros(EXPERTS, 1, WIDTH))

    def forward(self, x):
        tokens = len(x)
        probabilities = self.router(x).softmax(-1)
        expert = torch.arange(tokens) % EXPERTS
        gate = probabilities.gather(1, expert[:, None])
        onehot = F.one_hot(expert, EXPERTS)
        balance = EXPERTS * (onehot.float().mean(0) * probabilities.mean(0)).sum()
        capacity = math.ceil(1.25 * tokens / EXPERTS)
        place = (onehot.cumsum(0) - 1).gather(1, expert[:, None]).squeeze(1)
        slot = torch.where(place < capacity, expert * capacity + place, EXPERTS * capacity)
        source = torch.full((EXPERTS * capacity + 1,), tokens, dtype=torch.long).scatter(0, slot, torch.arange(tokens))[:-1]
        buffer = Rows.apply(x, source, slot).view(EXPERTS, capacity, WIDTH)
        hidden = torch.baddbmm(self.b_in, buffer, self.w_in.transpose(1, 2)).relu()
        y = torch.baddbmm(self.b_out, hidden, self.w_out.transpose(1, 2)).view(-1, WIDTH)
        return Rows.apply(y, slot, source) * gate, balance


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * HEADS * 32), nn.Linear(HEADS * 32, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.switch = Switch()
        self.hidden, self.classes = nn.Linear(WIDTH, 32), nn.Linear(32, 2)

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, 32).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v)
        x = self.norm1(x + self.out(a.transpose(1, 2).reshape(b, t, HEADS * 32)))
        y, balance = self.switch(x.view(-1, d))
        x = self.norm2(x + y.view(b, t, d)).mean(1)
        return self.classes(self.hidden(x).relu()), balance


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=50, help="of a step")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--turns", default="")
    a = parser.parse_args()
    torch.manual_seed(1)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    pool = [(torch.randint(2, VOCABULARY, (a.samples, LENGTH)), torch.randint(0, 2, (a.samples,))) for _ in range(8)]
    done = 0

    def step():
        nonlocal done
        tokens, labels = pool[done % len(pool)]
        done += 1
        logits, balance = model(tokens)
        loss = F.cross_entropy(logits, labels)
        (loss + 0.01 * balance).backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    step()
    start_up, begin = process_age(), time.perf_counter()
    while done < WARM_UP:
        loss = step()
    count = max(1, int(a.seconds * (WARM_UP - 1) / (time.perf_counter() - begin)))
    rates = []
    for block in range(a.blocks):
        wait_for_turn(a.turns, block, 0)
        begin = time.perf_counter()
        for _ in range(count):
            loss = step()
        rates.append(count * a.samples / (time.perf_counter() - begin))
    print(json.dumps(dict(peer="pytorch " + torch.__version__, threads=torch.get_num_threads(), samples_per_second=sorted(rates)[len(rates) // 2], blocks=rates,
                          loss=loss, peak_mib=peak_mib(), start_up_seconds=start_up)), flush=True)


if __name__ == "__main__":
    main()
