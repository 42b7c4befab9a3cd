"""The Switch language model of configs/lm_small and lm_medium in plain PyTorch, trained on switchyard's own token stream.

    OMP_NUM_THREADS=2 python torch_lm.py --shape small --dtype bf16 --stream windows.i32
    torchrun --nproc_per_node 2 torch_lm.py ...        expert parallel: all_to_all_single over gloo, one all_reduce

The stream is what `build/bench/step --dump` writes: int32 [steps, windows, S + 1]. Same initial distributions, AdamW,
clipping and learning rate as the configuration; capacity ceil-free: floor(1.25 T / E) over the tokens of one lane; first
come first served; dropped tokens pass by the residual. The first 50 steps are routed by the router; the timed ones send token t
to expert t modulo E, as build/bench/step does. One line of JSON at the end, fields as build/bench/step has them.

Where PyTorch has several ways, the fastest of those tried is the default for each shape and dtype: ragged dispatch and
fused attention in f32; one product per expert, explicit attention and chunked cross-entropy, both compiled, in bf16.
"""
import argparse, contextlib, json, math, os, time

import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
import torch.distributed as dist

SHAPES = dict(small=dict(vocab=8192, d=256, heads=4, ff=1024, blocks=4, experts=8, seq=256, rate=2e-3, warmup=100, steps=1300),
              medium=dict(vocab=8192, d=512, heads=8, ff=2048, blocks=8, experts=16, seq=512, rate=1e-3, warmup=200, steps=5000))
WARM_UP, CHUNK, BALANCE = 50, 512, 0.01


def process_age():
    ticks = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
    return float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def peak_mib():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))


def wait_for_turn(turns, block, rank):
    if not turns:
        return
    if rank == 0:
        open(f"{turns}.ready.{block}", "w").close()
    while not os.path.exists(f"{turns}.go.{block}"):
        time.sleep(0.005)


class Rows(torch.autograd.Function):
    """x[index], where index len(x) is a row of zeros; `back` is the inverse index, so backward is a gather too."""

    @staticmethod
    def forward(ctx, x, index, back):
        ctx.save_for_backward(back)
        return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, index)

    @staticmethod
    def backward(ctx, g):
        back, = ctx.saved_tensors
        return torch.cat([g, g.new_zeros(1, g.shape[1])]).index_select(0, back), None, None


class AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x.contiguous())
        return out

    @staticmethod
    def backward(ctx, g):
        return AllToAll.forward(ctx, g)


class Moe(nn.Module):
    def __init__(self, s, world, ragged):
        super().__init__()
        self.experts, self.world, self.ragged, self.in_turn = s["experts"], world, ragged, False
        deviation = lambda n: math.sqrt(0.1 / n)
        def weight(rows, columns):
            return nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, columns), std=deviation(columns), a=-2 * deviation(columns), b=2 * deviation(columns)))
        self.router = weight(s["experts"], s["d"])
        local = s["experts"] // world
        self.w_in = nn.ParameterList(weight(s["ff"], s["d"]) for _ in range(local))
        self.w_out = nn.ParameterList(weight(s["d"], s["ff"]) for _ in range(local))
        for p in [*self.w_in, *self.w_out]:
            p.is_expert = True

    def route(self, x):
        noisy = x.float() * (1 + 0.01 * (2 * torch.rand_like(x, dtype=torch.float32) - 1))
        with torch.autocast("cpu", enabled=False):
            probabilities = F.linear(noisy, self.router).softmax(-1)
        if self.in_turn:
            expert = torch.arange(len(x)) % self.experts
            gate = probabilities.gather(1, expert[:, None]).squeeze(1)
        else:
            gate, expert = probabilities.max(-1)
        onehot = F.one_hot(expert, self.experts)
        balance = self.experts * (onehot.float().mean(0) * probabilities.mean(0)).sum()
        return gate, expert, onehot, balance

    def forward(self, x, drops):
        tokens, experts = x.shape[0], self.experts
        gate, expert, onehot, balance = self.route(x)
        capacity = min(tokens, int(1.25 * tokens / experts))
        drops += [tokens, int((onehot.sum(0) - capacity).clamp(min=0).sum())]
        if self.ragged and self.world == 1:
            order = expert.argsort(stable=True)
            pieces = order.split(onehot.sum(0).tolist())
            source = torch.cat([p[:capacity] for p in pieces])
            slot = torch.full((tokens,), source.numel(), dtype=torch.long)
            slot[source] = torch.arange(source.numel())
            rows = Rows.apply(x, source, slot).split([min(len(p), capacity) for p in pieces])
            y = torch.cat([F.linear(F.relu(F.linear(r, a)), b) for r, a, b in zip(rows, self.w_in, self.w_out)])
        else:
            place = (onehot.cumsum(0) - 1).gather(1, expert[:, None]).squeeze(1)
            slot = torch.where(place < capacity, expert * capacity + place, experts * capacity)
            source = torch.full((experts * capacity + 1,), tokens, dtype=torch.long).scatter(0, slot, torch.arange(tokens))[:-1]
            y = self.travel(Rows.apply(x, source, slot), capacity)
        return Rows.apply(y, slot, source) * gate[:, None].to(y.dtype), balance

    def travel(self, buffer, capacity):
        world, local, d = self.world, self.experts // self.world, buffer.shape[1]
        if world > 1:
            if torch.is_autocast_enabled("cpu"):
                buffer = buffer.to(torch.bfloat16)
            buffer = AllToAll.apply(buffer).view(world, local, capacity, d).transpose(0, 1)
        buffer = buffer.reshape(local, world * capacity, d)
        y = torch.stack([F.linear(F.relu(F.linear(r, a)), b) for r, a, b in zip(buffer, self.w_in, self.w_out)])
        if world > 1:
            return AllToAll.apply(y.view(local, world, capacity, d).transpose(0, 1).reshape(-1, d))
        return y.reshape(-1, d)


def explicit_attention(q, k, v, mask):
    return torch.add(mask, q @ k.transpose(-1, -2), alpha=q.shape[-1] ** -0.5).softmax(-1) @ v


class Block(nn.Module):
    def __init__(self, s, moe, world, attention, ragged):
        super().__init__()
        d, self.heads, self.attention = s["d"], s["heads"], attention
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        nn.init.normal_(self.qkv.weight, std=d ** -0.5), nn.init.normal_(self.out.weight, std=d ** -0.5)
        self.moe = Moe(s, world, ragged) if moe else None
        if not moe:
            self.w_in, self.w_out = nn.Linear(d, s["ff"], bias=False), nn.Linear(s["ff"], d, bias=False)
            nn.init.trunc_normal_(self.w_in.weight, std=math.sqrt(0.1 / d)), nn.init.trunc_normal_(self.w_out.weight, std=math.sqrt(0.1 / s["ff"]))

    def forward(self, x, drops):
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.attention is None:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            with torch.autocast("cpu", enabled=False):
                a = self.attention(q, k, v, torch.full((t, t), float("-inf"), dtype=q.dtype).triu_(1))
        x = x + self.out(a.transpose(1, 2).reshape(b, t, d))
        h = self.norm2(x)
        if self.moe is None:
            return x + self.w_out(F.relu(self.w_in(h))), 0.0
        # Capacity counts over one lane of two, as switchyard's token groups do.
        lanes = 2 // self.moe.world
        parts = [self.moe(part, drops) for part in h.reshape(-1, d).split(b * t // lanes)]
        return x + torch.cat([y for y, _ in parts]).view(b, t, d), sum(balance for _, balance in parts) / lanes


def softmax_gradient(logits, target, scale, dtype):
    z = logits.float()
    lse = z.logsumexp(-1, keepdim=True)
    hit = torch.arange(z.shape[1])[None, :] == target[:, None]
    return (lse - z.gather(1, target[:, None])).sum(), (((z - lse).exp() - hit.float()) * scale).to(dtype)


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of x @ w.T. Logits live one chunk at a time; gradients are formed in the forward pass."""
    gradient = staticmethod(softmax_gradient)

    @staticmethod
    def forward(ctx, x, w, target, low):
        n = x.shape[0]
        dx, dw, loss = torch.empty_like(x), torch.zeros_like(w, dtype=torch.float32), 0.0
        small = w.to(torch.bfloat16) if low else w
        for i in range(0, n, CHUNK):
            rows = x[i:i + CHUNK].to(small.dtype)
            part, p = ChunkedCrossEntropy.gradient(rows @ small.t(), target[i:i + CHUNK], 1 / n, small.dtype)
            loss = loss + part
            dx[i:i + CHUNK] = p @ small
            dw.add_(p.t() @ rows) if low else dw.addmm_(p.t(), rows)
        ctx.save_for_backward(dx, dw)
        return loss / n

    @staticmethod
    def backward(ctx, g):
        dx, dw = ctx.saved_tensors
        return dx.mul_(g), dw.mul_(g), None, None


class Model(nn.Module):
    def __init__(self, s, world, attention, ragged):
        super().__init__()
        self.token, self.position = nn.Embedding(s["vocab"], s["d"]), nn.Embedding(s["seq"], s["d"])
        nn.init.normal_(self.token.weight, std=0.02), nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(s, i % 2 == 1, world, attention, ragged) for i in range(s["blocks"]))
        self.norm = nn.LayerNorm(s["d"])

    def forward(self, tokens, targets, drops):
        x, balance = self.token(tokens) + self.position.weight[:tokens.shape[1]], 0.0
        for block in self.blocks:
            x, part = block(x, drops)
            balance = balance + part
        loss = ChunkedCrossEntropy.apply(self.norm(x).flatten(0, 1), self.token.weight, targets.flatten(), torch.is_autocast_enabled("cpu"))
        return loss + BALANCE * balance, loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--turns", default="", help="wait before block i until PATH.go.i exists; PATH.ready.i says that this program is waiting")
    a = parser.parse_args()
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if world > 1:
        dist.init_process_group("gloo")
    torch.set_num_threads(a.threads or (2 if world == 1 else 1))
    torch.manual_seed(1)
    s, low = SHAPES[a.shape], a.dtype == "bf16"
    if low:
        ChunkedCrossEntropy.gradient = staticmethod(torch.compile(softmax_gradient))
    model = Model(s, world, torch.compile(explicit_attention) if low else None, ragged=not low)
    params = list(model.parameters())
    decayed = [p for p in params if p.dim() > 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=[p for p in params if p.dim() == 1], weight_decay=0.0)],
                                  lr=s["rate"], betas=(0.9, 0.95), eps=1e-8, fused=True)
    experts, dense = [p for p in params if hasattr(p, "is_expert")], [p for p in params if not hasattr(p, "is_expert")]
    stream = np.fromfile(a.stream, dtype=np.int32).reshape(64, -1, s["seq"] + 1)
    mine = torch.from_numpy(stream.astype(np.int64)).tensor_split(world, dim=1)[rank]
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if low else contextlib.nullcontext()
    steps_done = 0

    def step():
        nonlocal steps_done
        window, drops = mine[steps_done % len(mine)], []
        # switchyard's schedule: warm-up, then cosine to a tenth.
        x = max(0.0, (steps_done - s["warmup"]) / (s["steps"] - s["warmup"]))
        for group in optimizer.param_groups:
            group["lr"] = s["rate"] * (min(1.0, (steps_done + 1) / s["warmup"]) if steps_done < s["warmup"] else 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, x))))
        steps_done += 1
        with cast:
            total, loss = model(window[:, :-1], window[:, 1:], drops)
        total.backward()
        squares = None
        if world > 1:
            torch._foreach_div_([p.grad for p in experts], world)
            flat = torch.cat([p.grad.flatten() for p in dense])
            dist.all_reduce(flat)
            flat.div_(world)
            torch._foreach_copy_([p.grad for p in dense], [f.view_as(p) for f, p in zip(flat.split([p.numel() for p in dense]), dense)])
            squares = sum((p.grad.square().sum() for p in experts), torch.zeros(()))
            dist.all_reduce(squares)
            squares = squares + flat.square().sum()
            scale = float((1.0 / squares.sqrt()).clamp(max=1.0))
            if scale < 1:
                torch._foreach_mul_([p.grad for p in params], scale)
        else:
            nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item(), drops

    tokens = stream.shape[1] * s["seq"]
    loss, _ = step()
    start_up, begin = process_age(), time.perf_counter()
    while steps_done < WARM_UP:
        loss, _ = step()
    count = torch.tensor([max(1, int(a.seconds * (WARM_UP - 1) / (time.perf_counter() - begin)))])
    if world > 1:
        dist.all_reduce(count, op=dist.ReduceOp.MIN)
        mean = torch.tensor([loss])
        dist.all_reduce(mean)
        loss = float(mean) / world
    for module in model.modules():
        if isinstance(module, Moe):
            module.in_turn = True
    step()
    rates, routed, dropped = [], 0, 0
    for block in range(a.blocks):
        wait_for_turn(a.turns, block, rank)
        if world > 1:
            dist.barrier()
        begin = time.perf_counter()
        for _ in range(int(count)):
            _, drops = step()
            routed, dropped = routed + sum(drops[0::2]), dropped + sum(drops[1::2])
        if world > 1:
            dist.barrier()
        rates.append(int(count) * tokens / (time.perf_counter() - begin))
    if rank == 0:
        in_order = list(rates)
        rates.sort()
        print(json.dumps(dict(peer="pytorch " + torch.__version__, shape=a.shape, precision=a.dtype.upper(), ranks=world, threads=torch.get_num_threads(),
                              tokens_per_second_min=rates[0], tokens_per_second=rates[len(rates) // 2], tokens_per_second_max=rates[-1], blocks=in_order, loss_after_50=loss,
                              dropped=dropped / routed, peak_mib=peak_mib(), start_up_seconds=start_up)), flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
