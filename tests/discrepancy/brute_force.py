"""The values of discrepancies in sixty digits, from their definitions, for a few points.

Each truth returns parts: the value is the sum of ``factor`` times the ``power``-th root of ``value``, and ``size`` is that of
the terms which cancel in a part where moving the points and weights by a rounding does not show it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from torch import Tensor

from discrepancy import Measure
from discrepancy.kernels import Energy, Gaussian, Kernel, Laplace, Linear, Polynomial, Scaled, Sum

__all__ = ["Exact", "Parts", "digits", "exact", "truths", "value_of"]

digits = mpmath.MPContext()
digits.dps = 60

Numbers = Any
"""An array of mpmath's numbers."""


@dataclass(frozen=True)
class Part:
    value: Any
    size: Any = 0
    factor: Any = 1
    power: Any = 1


Parts = list[Part]


def exact(values: Any) -> Numbers:
    return np.vectorize(digits.mpf, otypes=[object])(np.asarray(values, dtype=object))


@dataclass(frozen=True)
class Exact:
    """One side: points (n, *shape), weights and labels."""

    points: Numbers
    weights: Numbers
    labels: Numbers | None = None

    @classmethod
    def of(cls, side: Measure) -> "Exact":
        points, weights = (exact(item.detach().double().numpy()) for item in (side.tensors[""], side.weights))
        return cls(points, weights, None if side.labels is None else exact(side.labels.double().numpy()))

    @property
    def x(self) -> Numbers:
        return self.points.reshape(len(self.points), -1)

    @property
    def w(self) -> Numbers:
        return self.weights / self.weights.sum()

    @property
    def held(self) -> "Exact":
        """The points that have a weight."""
        keep = self.weights > 0
        return Exact(self.points[keep], self.weights[keep], None if self.labels is None else self.labels[keep])

    @property
    def classes(self) -> "dict[int, Exact]":
        """The conditional measures; a soft label is a point of each of its classes."""
        assert self.labels is not None
        shares = {c: Exact(self.points, self.weights * self.labels[:, c]) for c in range(self.labels.shape[1])}
        return {c: side.held for c, side in shares.items() if side.weights.sum() > 0}


def root(value: Any) -> Any:
    return digits.sqrt(max(value, digits.zero))


def value_of(parts: Parts, slack: Any = 0) -> Any:
    """The value where every part is off by ``slack`` times its size."""
    total = digits.zero
    for part in parts:
        value = part.value + slack * part.size
        total += part.factor * (value if part.power == 1 else max(value, digits.zero) ** (digits.one / part.power))
    return total


def solved(matrix: Any, right: Any) -> Any:
    """By elimination with pivots; the matrix is regular."""
    rows = np.hstack([matrix, right])
    n = len(matrix)
    for k in range(n):
        pivot = k + max(range(n - k), key=lambda i: abs(rows[k + i, k]))
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] = rows[k] / rows[k, k]
        for i in range(n):
            if i != k:
                rows[i] = rows[i] - rows[i, k] * rows[k]
    return rows[:, n:]


# Kernels


def kernel(k: Kernel, a: Numbers, b: Numbers) -> Any:
    inner, square = (a * b).sum(), ((a - b) ** 2).sum()
    match k:
        case Gaussian(lengthscale=length):
            return digits.exp(-square / (2 * digits.mpf(length) ** 2))
        case Laplace(lengthscale=length):
            return digits.exp(-digits.sqrt(square) / digits.mpf(length))
        case Energy():
            return -digits.sqrt(square)
        case Polynomial(power=power, offset=offset, lengthscale=length):
            return (inner / digits.mpf(length) ** 2 + digits.mpf(offset)) ** power
        case Linear():
            return inner
        case Sum(parts=parts):
            return sum(kernel(part, a, b) for part in parts)
        case Scaled(factor=factor, of=of):
            return digits.mpf(factor) * kernel(of, a, b)
    raise NotImplementedError(k)


def gram(k: Kernel, first: Exact, second: Exact) -> Numbers:
    table = exact([[kernel(k, a, b) for b in second.x] for a in first.x])
    return table if first.labels is None else table * (first.labels @ second.labels.T)  # pyright: ignore


def of_pairs(tables: Sequence[Numbers], w: Numbers, v: Numbers, unbiased: bool, rooted: bool) -> Parts:
    own, cross, other = (
        (p[:, None] * q * table).ravel() for p, q, table in zip((w, w, v), (w, v, v), tables, strict=True)
    )
    real = own.sum()
    if unbiased:
        if sum(share > 0 for share in w) < 2:
            raise ZeroDivisionError("no pairs of different points")
        if 1 - (w**2).sum() < 1e-11:
            raise NotImplementedError("one point has all of the weight but for a rounding")
        own = (w[:, None] * w * tables[0])[~np.eye(len(w), dtype=bool)] / (1 - (w**2).sum())
        real = own.sum()
        own = (w[:, None] * w * abs(tables[0])).ravel() + abs(real)  # in the size alone: what is left out cancels
        own = own / (1 - (w**2).sum())
    size = sum(abs(terms).sum() for terms in (own, 2 * cross, other))
    return [Part(real - 2 * cross.sum() + other.sum(), size, power=2 if rooted else 1)]


def mmd(discrepancy: Any, mu: Exact, nu: Exact, draws: Any, labelled: bool = False) -> Parts:
    if not labelled:
        mu, nu = Exact(mu.points, mu.weights), Exact(nu.points, nu.weights)
    tables = [gram(discrepancy.kernel, *pair) for pair in ((mu, mu), (mu, nu), (nu, nu))]
    return of_pairs(tables, mu.w, nu.w, discrepancy.estimator == "u", discrepancy.root)


def joint_mmd(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    return mmd(discrepancy, mu, nu, draws, labelled=True)


def energy(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    mu, nu = Exact(mu.points, mu.weights), Exact(nu.points, nu.weights)
    tables = [gram(Energy(), *pair) for pair in ((mu, mu), (mu, nu), (nu, nu))]
    return of_pairs(tables, mu.w, nu.w, discrepancy.estimator == "u", discrepancy.root)


def characteristic(discrepancy: Any, mu: Exact, nu: Exact, draws: Mapping[str, Tensor]) -> Parts:
    lengths = discrepancy.lengthscale if isinstance(discrepancy.lengthscale, tuple) else (discrepancy.lengthscale,)
    scales = draws["scales"].detach().double().reshape(-1, mu.x.shape[1]).numpy() if "scales" in draws else None
    parts, count = [], len(draws["frequencies"])
    for index, z in enumerate(exact(draws["frequencies"].double().numpy())):
        t = z / digits.mpf(lengths[index % len(lengths)])
        if scales is not None:
            reach = digits.log(10)
            t = t * exact([digits.exp(reach * digits.tanh(s / reach)) for s in exact(scales[index % len(scales)])])
        waves = [side.w @ exact([digits.cos_sin(angle) for angle in side.x @ t]) for side in (mu, nu)]
        r, s = (digits.sqrt((wave**2).sum()) for wave in waves)
        inner = (waves[0] * waves[1]).sum()
        value = digits.mpf(discrepancy.amplitude) * (r - s) ** 2 + 2 * digits.mpf(discrepancy.phase) * (r * s - inner)
        parts.append(Part(value, 1, digits.one / count, 2 if discrepancy.root else 1))
    return parts


# Moments


def mean(side: Exact) -> Numbers:
    return side.w @ side.x


def covariance(side: Exact) -> Numbers:
    rays = side.x - mean(side)
    return (rays * side.w[:, None]).T @ rays


def moments(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    def moment(side: Exact, k: int) -> Numbers:
        return mean(side) if k == 1 else side.w @ (side.x - mean(side)) ** k

    unit = digits.mpf(discrepancy.unit)
    return [
        Part(((moment(mu, k) - moment(nu, k)) ** 2).sum() / unit ** (2 * k), power=2 if discrepancy.root else 1)
        for k in discrepancy.orders
    ]


def coral(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    return [Part(((covariance(mu) - covariance(nu)) ** 2).sum() / (4 * mu.x.shape[1] ** 2))]


def eigenvalues(matrix: Numbers) -> Numbers:
    return exact(list(digits.eigsy(digits.matrix(((matrix + matrix.T) / 2).tolist()), eigvals_only=True)))


def triangle(matrix: Numbers) -> Numbers:
    """L with L Lᵀ = the matrix, which may be singular."""
    lower = exact(np.zeros(matrix.shape))
    for j in range(len(matrix)):
        pivot = matrix[j, j] - (lower[j] ** 2).sum()
        if pivot > digits.mpf(10) ** -45 * matrix.diagonal().sum():
            lower[j:, j] = (matrix[j:, j] - lower[j:] @ lower[j]) / digits.sqrt(pivot)
    return lower


def bures(mu: Exact, nu: Exact, shrink: float = 0.0) -> tuple[Any, Any]:
    """The squared distance of the fitted gaussians, and the size of what eigenvalues of zero leave unknown."""
    fits = []
    for side in (mu, nu):
        matrix, s, d = covariance(side), digits.mpf(shrink), side.x.shape[1]
        fits.append((1 - s) * matrix + s * matrix.diagonal().sum() / d * exact(np.eye(d)))
    first, second = map(triangle, fits)
    product = first.T @ second
    overlap = sum(map(root, eigenvalues(product @ product.T)))
    traces = sum(matrix.diagonal().sum() for matrix in fits)
    singular = any(spectrum[0] <= 1e-10 * spectrum[-1] for spectrum in map(eigenvalues, fits))
    return ((mean(mu) - mean(nu)) ** 2).sum() + traces - 2 * overlap, traces * (10**6 if singular else 1)


def frechet(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    value, size = bures(mu, nu, discrepancy.shrink)
    return [Part(value, size, power=2 if discrepancy.root else 1)]


def gaussian_kl(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    fits, d = [], mu.x.shape[1]
    for side in (mu, nu):
        s, towards = digits.mpf(discrepancy.shrink), digits.mpf(discrepancy.towards)
        matrix = (1 - s) * covariance(side) + s * towards**2 * exact(np.eye(d))
        fits.append((mean(side), matrix * exact(np.eye(d)) if discrepancy.covariance == "diagonal" else matrix))

    def one_way(p: Any, q: Any) -> Any:
        (a, first), (b, second) = p, q
        inverse = exact((digits.matrix(second.tolist()) ** -1).tolist()).reshape(d, d)
        logs = [digits.log(digits.det(digits.matrix(matrix.tolist()))) for matrix in (second, first)]
        return ((inverse * first.T).sum() + (a - b) @ inverse @ (a - b) - d + logs[0] - logs[1]) / 2

    ways = {"forward": [fits], "reverse": [fits[::-1]], "jeffreys": [fits, fits[::-1]]}[discrepancy.direction]
    conditions = [spectrum[-1] / spectrum[0] for spectrum in (eigenvalues(matrix) for _, matrix in fits)]
    return [Part(sum(one_way(*way) for way in ways), d * max(conditions))]


def linear_hypotheses(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    def second_moment(side: Exact) -> Numbers:
        x = np.hstack([side.x, exact(np.ones((len(side.x), 1)))]) if discrepancy.intercept else side.x
        return (x * side.w[:, None]).T @ x

    gap = eigenvalues(second_moment(mu) - second_moment(nu))
    return [Part(4 * digits.mpf(discrepancy.norm) ** 2 * max(map(abs, gap)))]


def mean_gradients(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    rows = mu.points.shape[1] if mu.points.ndim > 2 else 1
    a, b = (mean(side).reshape(rows, -1) for side in (mu, nu))
    if discrepancy.form != "cosine":
        return [Part((abs(a - b) ** (2 if discrepancy.form == "mse" else 1)).sum())]
    lengths = [digits.sqrt((p**2).sum()) * digits.sqrt((q**2).sum()) for p, q in zip(a, b, strict=True)]
    epsilon = digits.mpf(discrepancy.epsilon)
    return [Part(1 - (p * q).sum() / (length + epsilon), 1) for p, q, length in zip(a, b, lengths, strict=True)]


# Others


def quantiles(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    levels = discrepancy.levels

    def of(values: Numbers, weights: Numbers) -> list[Any]:
        order = sorted((x, w) for x, w in zip(values, weights, strict=True) if w > 0)
        ends = np.cumsum([w for _, w in order])
        if isinstance(levels, tuple):
            places = [next((k for k, end in enumerate(ends) if end >= level - 1e-14), -1) for level in levels]
            return [order[place][0] for place in places]
        edges = [digits.mpf(k) / levels for k in range(levels + 1)]
        return [
            levels
            * sum(
                x * max(digits.zero, min(end, high) - max(end - w, low))
                for (x, w), end in zip(order, ends, strict=True)
            )
            for low, high in itertools.pairwise(edges)
        ]

    sides = [exact([of(column, side.w) for column in side.x.T]) for side in (mu, nu)]
    value = ((sides[0] - sides[1]) ** 2).sum() / sides[0].shape[1]
    return [Part(value, power=2 if discrepancy.root else 1)]


def apart(norm: str, a: Numbers, b: Numbers) -> Any:
    gap = abs(a - b)
    return {"l1": gap.sum, "linf": gap.max, "l2": lambda: digits.sqrt((gap**2).sum())}[norm]()


def covering(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    table = exact([[apart(discrepancy.norm, a, b) for b in nu.held.x] for a in mu.held.x])
    cover = table.min(1).max()
    return [Part(cover if discrepancy.side == "cover" else max(cover, table.min(0).max()))]


def smooth_covering(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    low, high = digits.mpf(discrepancy.min_temperature), digits.mpf(discrepancy.max_temperature)
    total = digits.zero
    for a, w in zip(mu.x, mu.w, strict=True):
        near = sum(v * digits.exp(-apart(discrepancy.norm, a, b) / low) for b, v in zip(nu.x, nu.w, strict=True))
        total += w * digits.exp(-low * digits.log(near) / high) if w else 0
    return [Part(high * digits.log(total), low + high)]


def smoothed(discrepancy: Any, mu: Exact, nu: Exact, draws: Mapping[str, Tensor]) -> Parts:
    scale, total = digits.mpf(discrepancy.lengthscale), digits.zero
    noise = exact(draws["noise"].double().numpy())
    for step in [sign * scale * row for row in noise for sign in (1, -1)]:
        for side in (mu, nu):
            for x, w in zip(side.x, side.w, strict=True):
                p, q = (
                    sum(
                        v * digits.exp(-((x + step - y) ** 2).sum() / (2 * scale**2))
                        for y, v in zip(other.x, other.w, strict=True)
                    )
                    for other in (mu, nu)
                )
                total += w * abs(p - q) / (p + q) / 2 if w else 0
    return [Part(total / (2 * len(noise)), 10)]


def joint(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    scale = digits.mpf(discrepancy.scale)
    first, second = (Exact(np.hstack([side.x, scale * side.labels]), side.weights) for side in (mu, nu))
    return truths[discrepancy.of.kind](discrepancy.of, first, second, draws)


Truth = Callable[[Any, Exact, Exact, Any], Parts]
truths: dict[str, Truth] = {
    "mmd": mmd,
    "joint_mmd": joint_mmd,
    "energy_distance": energy,
    "characteristic_function": characteristic,
    "moments": moments,
    "coral": coral,
    "frechet": frechet,
    "gaussian_kl": gaussian_kl,
    "linear_hypotheses": linear_hypotheses,
    "mean_gradients": mean_gradients,
    "quantiles": quantiles,
    "covering_radius": covering,
    "smooth_cover": smooth_covering,
    "smoothed_total_variation": smoothed,
    "joint": joint,
}
