"""Writes switch_lm.safetensors: what PyTorch computes for two small Switch language models.

    python make_switch_lm.py [--out switch_lm.safetensors]

Each model has two blocks, the second with experts; capacity binds and there is padding. For each the file holds the
weights, 20 batches, and of the first batch the routing, logits, every part of the loss and the gradient of every
parameter; then the losses of 20 steps of plain SGD, one batch each, and the weights after them. All in f32.

The models are written from the papers' formulas with PyTorch's own layers and autograd. Nothing here follows the C++.
The script refuses to write vectors that rounding could turn over: it computes everything in f64 too and compares, and
it demands a distance between the two likeliest experts of every token in every step.
"""
import argparse
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

STEPS = 20
PADDING = 0  # token of padded places; targets there are -1

COMMON = dict(vocabulary=50, width=16, heads=2, head_width=8, feed_forward=24, sequence=12, sequences=4, experts=4, group_tokens=24,
              capacity_factor=0.75, min_capacity=2, balance_loss=0.05, router_z_loss=0.01, rate=0.2)
MODELS = {
    # Pre-LN with LayerNorm, tied head times D^-1/2, scores not scaled.
    "layer_norm": dict(COMMON, norm="layer_norm", epsilon=1e-5, bias=False, scale_head=True, scale_scores=False, z_loss=1e-2, seed=1),
    # RMSNorm, biases in linear layers, head not scaled, scores over sqrt(K).
    "rms_norm": dict(COMMON, norm="rms_norm", epsilon=1e-6, bias=True, scale_head=False, scale_scores=True, z_loss=1e-3, seed=4),
}


def make_weights(m):
    g = torch.Generator().manual_seed(m["seed"])
    weights = {}

    def matrix(name, rows, columns, deviation=None):
        weights[name] = torch.randn(rows, columns, generator=g) * (columns**-0.5 if deviation is None else deviation)

    def linear(name, rows, columns):
        matrix(name + ".weight", rows, columns)
        if m["bias"]:
            weights[name + ".bias"] = 0.1 * torch.randn(rows, generator=g)

    def norm(name):
        weights[name + ".scale"] = 1 + 0.2 * torch.randn(m["width"], generator=g)
        if m["norm"] == "layer_norm":
            weights[name + ".bias"] = 0.1 * torch.randn(m["width"], generator=g)

    d, f, inner = m["width"], m["feed_forward"], m["heads"] * m["head_width"]
    matrix("decoder.embedding.token.weight", m["vocabulary"], d, 0.5)
    matrix("decoder.embedding.position.weight", m["sequence"], d, 0.5)
    for block, sublayer in ((0, "feed_forward"), (1, "moe")):
        name = f"decoder.block.{block}."
        norm(name + "attention.norm")
        linear(name + "attention.qkv", 3 * inner, d)
        linear(name + "attention.output", d, inner)
        norm(name + sublayer + ".norm")
        if sublayer == "feed_forward":
            linear(name + "feed_forward.in", f, d)
            linear(name + "feed_forward.out", d, f)
        else:
            matrix(name + "moe.router.weight", m["experts"], d, 0.5)
            for e in range(m["experts"]):
                linear(name + f"moe.expert.{e}.in", f, d)
                linear(name + f"moe.expert.{e}.out", d, f)
    norm("decoder.norm")
    return weights


def make_batch(m, step):
    """tokens, targets, mask [B, S]. Sequences end early here and there; a step's first group always has padding."""
    g = torch.Generator().manual_seed(1000 * m["seed"] + step)
    tokens = torch.randint(1, m["vocabulary"], (m["sequences"], m["sequence"]), generator=g)
    lengths = torch.tensor([m["sequence"] - 3, m["sequence"], m["sequence"], 5 + step % 5])
    mask = torch.arange(m["sequence"])[None, :] < lengths[:, None]
    tokens = torch.where(mask, tokens, PADDING)
    following = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], 1)
    has_target = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1) & mask
    return tokens, torch.where(has_target, following, -1), mask


class Model:
    def __init__(self, m, weights):
        self.m, self.w = m, weights

    def norm(self, name, x):
        shape = (self.m["width"],)
        if self.m["norm"] == "layer_norm":
            return F.layer_norm(x, shape, self.w[name + ".scale"], self.w[name + ".bias"], self.m["epsilon"])
        return F.rms_norm(x, shape, self.w[name + ".scale"], self.m["epsilon"])

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def attention(self, name, x, mask):
        b, s, _ = x.shape
        h, k = self.m["heads"], self.m["head_width"]
        q, key, v = (t.view(b, s, h, k).transpose(1, 2) for t in self.linear(name + ".qkv", x).chunk(3, -1))
        visible = torch.ones(s, s, dtype=torch.bool).tril()[None, None] & mask[:, None, None, :]
        scale = k**-0.5 if self.m["scale_scores"] else 1.0
        o = F.scaled_dot_product_attention(q, key, v, attn_mask=visible, scale=scale)
        return self.linear(name + ".output", o.transpose(1, 2).reshape(b, s, h * k))

    def moe(self, name, x, mask):
        """Top-1 routing in groups of consecutive tokens, left to right up to the capacity; padding takes no slot."""
        m, shape = self.m, x.shape
        x, mask = x.reshape(-1, shape[-1]), mask.reshape(-1)
        experts, size = m["experts"], m["group_tokens"]
        logits = F.linear(x, self.w[name + ".router.weight"])
        p = logits.softmax(-1)
        top = p.topk(2, -1).values
        self.margin = (top[:, 0] - top[:, 1])[mask].min().item()
        gate, choice = p.max(-1)
        capacity = max(min(size, int(size * m["capacity_factor"] / experts)), m["min_capacity"])
        kept = torch.zeros_like(mask)
        balance, groups = 0.0, 0
        for first in range(0, len(x), size):
            used = [0] * experts
            for t in range(first, min(first + size, len(x))):
                if mask[t] and used[choice[t]] < capacity:
                    used[choice[t]] += 1
                    kept[t] = True
            real = mask[first:first + size]
            if real.any():
                groups += 1
                chosen, probability = choice[first:first + size][real], p[first:first + size][real]
                fraction = F.one_hot(chosen, experts).to(p.dtype).mean(0)
                balance = balance + m["balance_loss"] * experts * (fraction * probability.mean(0)).sum()
        self.balance = balance / groups
        self.router_z = m["router_z_loss"] * logits[mask].logsumexp(-1).square().mean()
        self.route = torch.where(mask, choice, -1), kept
        rows = []
        for t in range(len(x)):
            if kept[t]:
                e = f"{name}.expert.{choice[t]}"
                rows.append(gate[t] * self.linear(e + ".out", self.linear(e + ".in", x[t]).relu()))
            else:
                rows.append(torch.zeros_like(x[t]))
        return torch.stack(rows).view(shape)

    def losses(self, tokens, targets, mask):
        w, m = self.w, self.m
        table = w["decoder.embedding.token.weight"]
        x = table[tokens] + w["decoder.embedding.position.weight"]
        for block in (0, 1):
            name = f"decoder.block.{block}."
            x = x + self.attention(name + "attention", self.norm(name + "attention.norm", x), mask)
            if block == 0:
                hidden = self.linear(name + "feed_forward.in", self.norm(name + "feed_forward.norm", x)).relu()
                x = x + self.linear(name + "feed_forward.out", hidden)
            else:
                x = x + self.moe(name + "moe", self.norm(name + "moe.norm", x), mask)
        h = self.norm("decoder.norm", x)
        self.logits = F.linear(h * m["width"]**-0.5 if m["scale_head"] else h, table).flatten(0, 1)
        targets = targets.flatten()
        cross_entropy = F.cross_entropy(self.logits, targets, ignore_index=-1)
        z = m["z_loss"] * self.logits[targets >= 0].logsumexp(-1).square().mean()
        return {"cross_entropy": cross_entropy, "z": z, "balance": self.balance, "router_z": self.router_z}


def run(m, dtype):
    weights = {name: w.to(dtype).requires_grad_() for name, w in make_weights(m).items()}
    out, step_losses, margins = {}, [], []
    for name, w in weights.items():
        out["weight." + name] = w.detach().clone()
    for step in range(STEPS):
        batch = make_batch(m, step)
        model = Model(m, weights)
        losses = model.losses(*batch)
        total = sum(losses.values())
        gradients = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)  # an idle expert has zeros
        margins.append(model.margin)
        step_losses.append(total.detach())
        if step == 0:
            out["logits"] = model.logits.detach()
            out["expert"], out["kept"] = (t.to(torch.int32) for t in model.route)
            out.update({"loss." + name: loss.detach().view(1) for name, loss in losses.items()})
            out.update({"gradient." + name: g for name, g in zip(weights, gradients)})
        with torch.no_grad():
            for w, g in zip(weights.values(), gradients):
                w -= m["rate"] * g
    out["step_losses"] = torch.stack(step_losses)
    out.update({"after." + name: w.detach() for name, w in weights.items()})
    batches = [make_batch(m, step) for step in range(STEPS)]
    for i, name in enumerate(("tokens", "targets", "mask")):
        out["batch." + name] = torch.stack([batch[i].flatten() for batch in batches]).to(torch.int32)
    return out, min(margins)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_name("switch_lm.safetensors"))
    out_path = parser.parse_args().out
    torch.set_num_threads(1)
    tensors = {}
    for name, m in MODELS.items():
        out, margin = run(m, torch.float32)
        exact, exact_margin = run(m, torch.float64)
        worst = max((out[k].double() - exact[k].double()).norm() / exact[k].double().norm().clamp_min(1e-30) for k in out if exact[k].is_floating_point())
        losses = ", ".join(f"{k[5:]} {v.item():.6f}" for k, v in out.items() if k.startswith("loss."))
        dropped = int((out["expert"] >= 0).sum() - out["kept"].sum())
        print(f"{name}: {losses}; dropped {dropped}; loss after {STEPS} steps {out['step_losses'][-1]:.4f}; margin {margin:.2e}; f32 against f64 {worst:.1e}")
        assert min(margin, exact_margin) > 1e-4, "two experts are too close: choose another seed"
        assert worst < 2e-5, "f32 is too far from f64 to serve as an oracle"
        assert dropped > 0 and len(out["expert"].unique()) == m["experts"] + 1, "capacity must bind and every expert must have a token"
        assert all((g != 0).any() for k, g in out.items() if k.startswith("gradient.")), "a parameter has no gradient"
        tensors.update({f"{name}.{k}": v.contiguous() for k, v in out.items()})
    save_file(tensors, out_path, {"models": json.dumps(MODELS)})
    out_path.chmod(0o644)


if __name__ == "__main__":
    main()
