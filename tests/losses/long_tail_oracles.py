"""Oracles of the long-tail losses in float64: value and derivative per element, no autograd.

Each takes float64 logits (N, K), labels (N,) and, where the loss keeps a memory, that memory. An
ignored row is the caller's business.
"""

import math
from statistics import NormalDist

import torch
from loss_oracles import IMAGE_COUNTS, IMAGES, INSTANCE_COUNTS, C, gumbel_exact, one_hot


def softmax(x):
    e = (x - x.max(dim=1, keepdim=True).values).exp()
    return e / e.sum(dim=1, keepdim=True)


def softmax_ce(x, t):
    return -t * softmax(x).log(), t.sum(1, keepdim=True) * softmax(x) - t


def sigmoid_ce(x, t):
    p = 1 / (1 + (-x).exp())
    return torch.where(t > 0, (-x).exp().log1p(), x.exp().log1p()), p - t


CROSS_ENTROPY = {"softmax": softmax_ce, "sigmoid": sigmoid_ce, "gumbel": gumbel_exact}


def seesaw(x, labels, seen, p=0.8, q=2.0, eps=0.01):
    """``seen``: RoIs of each class so far, this batch's included."""
    value, slope = torch.zeros_like(x), torch.zeros_like(x)
    for row, label in enumerate(labels.tolist()):
        side = 0 if label < C else 1
        o = softmax(x[row : row + 1, C:])[0]
        value[row, C + side] = -o[side].log()
        slope[row, C:] = o - torch.eye(2, dtype=torch.float64)[side]
        if label == C:
            continue
        z, score = x[row, :C].clone(), softmax(x[row : row + 1, :C])[0]
        for j in range(C):
            if j != label:
                n_j, n_i = max(float(seen[j]), 1), max(float(seen[label]), 1)
                mitigation = (n_j / n_i) ** p if n_j < n_i else 1
                ratio = float(score[j]) / max(float(score[label]), eps)
                z[j] += math.log(mitigation * (ratio**q if ratio > 1 else 1))
        moved = softmax(z[None])[0]
        value[row, label] = -moved[label].log()
        slope[row, :C] = moved - torch.eye(C, dtype=torch.float64)[label]
    return value, slope


def eqlv2(x, labels, pull, activation="sigmoid", gamma=12, mu=0.8, alpha=4):
    """``pull``: (sums of positives, of negatives) by class; returns what this batch adds, too."""
    t = one_hot(x, labels)
    value, slope = CROSS_ENTROPY[activation](x, t)
    weight, added = torch.ones_like(x), [torch.zeros(C), torch.zeros(C)]
    for c in range(C):
        plus, minus = float(pull[0][c]), float(pull[1][c])
        r = 1 if plus + minus == 0 else 1 / (1 + math.exp(-gamma * (plus / minus - mu)))
        for i in range(len(x)):
            weight[i, c] = 1 + alpha * (1 - r) if t[i, c] else r
            added[0 if t[i, c] else 1][c] += min(abs(slope[i, c]), 1) * weight[i, c]
    return value * weight, slope * weight, added


def shifts(activation, tau):
    """Of the balanced losses, (K,)."""
    if activation == "softmax":
        return [tau * math.log(m / sum(INSTANCE_COUNTS)) for m in INSTANCE_COUNTS] + [0]
    return [tau * math.log(C * m / sum(INSTANCE_COUNTS)) for m in INSTANCE_COUNTS]


def balanced(x, labels, activation="softmax", tau=1.0):
    moved = x + torch.tensor(shifts(activation, tau), dtype=torch.float64)
    return CROSS_ENTROPY[activation](moved, one_hot(x, labels))


def ecm(x, labels):
    """Of the source's scores w+ e^z / (w+ e^z + w- e^-z), with w the inverse of a margin."""
    n = [*IMAGE_COUNTS, 6.3313 * sum(IMAGE_COUNTS)]
    value, slope, t = torch.zeros_like(x), torch.zeros_like(x), one_hot(x, labels)
    for c in range(C + 1):
        roots = n[c] ** 0.25, (sum(n) - n[c]) ** 0.25
        margin = roots[1] / sum(roots), roots[0] / sum(roots)  # of positives, of negatives
        rest = 1 - n[c] / sum(n)
        weight = -rest * math.log(rest) / (1 - rest)
        for i in range(len(x)):
            plus, minus = (
                math.exp(float(x[i, c])) / margin[0],
                math.exp(-float(x[i, c])) / margin[1],
            )
            s = plus / (plus + minus)
            value[i, c] = -weight * (math.log(s) if t[i, c] else math.log(1 - s))
            slope[i, c] = 2 * weight * (s - float(t[i, c]))
    return value, slope


def focal(x, labels, activation="sigmoid", alpha=0.25, gamma=2.0):
    t = one_hot(x, labels)
    value, slope = CROSS_ENTROPY[activation](x, t)
    share, p = torch.where(t > 0, alpha, 1 - alpha), (-value).exp()
    # (1 - p)^gamma L with p = e^-L: the derivative by L is gamma (1 - p)^(gamma - 1) p L + ...
    by_value = gamma * (1 - p) ** (gamma - 1) * p * value + (1 - p) ** gamma
    return share * (1 - p) ** gamma * value, share * by_value * slope


def class_balanced(x, labels, activation="softmax", beta=0.999, mean_over="samples"):
    raw = [(1 - beta) / (1 - beta**n) for n in IMAGE_COUNTS]
    mean = sum(raw) / C
    if mean_over == "samples":
        mean = sum(n * w for n, w in zip(IMAGE_COUNTS, raw, strict=True)) / sum(IMAGE_COUNTS)
    weight = torch.tensor([w / mean for w in raw] + [1], dtype=torch.float64)[labels]
    value, slope = CROSS_ENTROPY[activation](x, one_hot(x, labels))
    return value * weight[:, None], slope * weight[:, None]


def iif_weights(variant):
    f = [n / IMAGES for n in IMAGE_COUNTS]
    if variant.endswith("_obj"):
        f = [m / sum(INSTANCE_COUNTS) for m in INSTANCE_COUNTS]
    n, total = (INSTANCE_COUNTS, sum(INSTANCE_COUNTS))
    n, total = (n, total) if variant.endswith("_obj") else (IMAGE_COUNTS, IMAGES)
    return {
        "raw": [-math.log(v) for v in f],
        "base2": [-math.log(v) / math.log(2) for v in f],
        "base10": [-math.log(v) / math.log(10) for v in f],
        "smooth": [math.log((total + 1) / (k + 1)) + 1 for k in n],
        "prob": [math.log(1 / v - 1) for v in f],
        "normit": [NormalDist().inv_cdf(1 - v) for v in f],
        "gombit": [-math.log(math.log(1 / (1 - v))) for v in f],
    }[variant.removesuffix("_obj")]


def iif(x, labels, variant):
    w = torch.tensor([*iif_weights(variant), 1], dtype=torch.float64)
    value, slope = softmax_ce(w * x, one_hot(x, labels))
    return value, slope * w


def adaptive(x, labels, shape=1e-4):
    """Of the activation (shape e^-x + 1)^(-1 / shape)."""
    t, e = one_hot(x, labels), (-x).exp()
    log_p, log_slope = -(shape * e).log1p() / shape, e / (1 + shape * e)
    p = log_p.exp()
    value = torch.where(t > 0, -log_p, -(-p).log1p())
    return value, torch.where(t > 0, -log_slope, p * log_slope / (1 - p))
