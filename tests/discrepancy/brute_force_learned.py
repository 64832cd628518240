"""The values of learned discrepancies, for ``brute_force``."""

from typing import Any

import numpy as np
from brute_force import Exact, Part, Parts, digits, exact, gram, mean, root, solved, truths

from discrepancy.kernels import Linear
from discrepancy.learning.learners import ClassMeans, KernelRidge
from discrepancy.learning.ridge import Ridge
from discrepancy.reductions import CVaR, Max


def least_norm(x: Any, y: Any) -> tuple[Any, Any]:
    """The least-squares solution of least norm, from the eigenvectors of xᵀ x, and the least of them."""
    values, vectors = digits.eigsy(digits.matrix((x.T @ x).tolist()))
    values, vectors = exact(list(values)), exact(vectors.tolist()).reshape(x.shape[1], -1)
    shares = values / max(values) if max(values) else values
    if any(digits.mpf(10) ** -40 < share < digits.mpf(10) ** -9 for share in shares):
        raise NotImplementedError("a rank that rounding decides")
    keep = shares > digits.mpf(10) ** -40
    half = vectors[:, keep]
    return (half / values[keep]) @ (half.T @ (x.T @ y)), min(values[keep], default=digits.one)


def linear(learner: Ridge, side: Exact) -> tuple[Any, Any, Any]:
    """W (d, c) and b, and by what roundings are multiplied on the way."""
    x, y, w, c = side.x, side.labels, side.w, side.labels.shape[1]  # pyright: ignore
    penalty = digits.mpf(learner.penalty)
    centre = (mean(side), w @ y) if learner.intercept else (exact(np.zeros(x.shape[1])), exact(np.zeros(c)))
    largest = (x**2).max()
    x, y = x - centre[0], y - centre[1]
    if learner.relative:
        penalty *= w @ (x**2).sum(1)
    if learner.penalty and not penalty:
        raise NotImplementedError("no spread that the penalty is relative to")
    if penalty:
        table = solved((x * w[:, None]).T @ x + penalty * exact(np.eye(x.shape[1])), (x * w[:, None]).T @ y)
        condition = 1 + largest / penalty
    else:
        rooted = exact([root(share) for share in w])[:, None]
        table, smallest = least_norm(rooted * x, rooted * y)
        condition = 1 + largest / smallest
    return table, centre[1] - centre[0] @ table, condition


def predictions(learner: Any, synthetic: Exact, at: Exact) -> Any:
    labels = synthetic.labels
    assert labels is not None
    if isinstance(learner, ClassMeans):
        shares = synthetic.w[:, None] * labels
        return at.x @ (synthetic.x.T @ shares / np.where(shares.sum(0) > 0, shares.sum(0), digits.one))
    if isinstance(learner, Ridge):
        table, intercept, _ = linear(learner, synthetic)
        return at.x @ table + intercept
    if learner.centred:
        labels = labels - digits.one / labels.shape[1]
    plain = Exact(synthetic.points, synthetic.weights)
    own, cross = gram(learner.kernel, plain, plain), gram(learner.kernel, Exact(at.points, at.weights), plain)
    penalty = digits.mpf(learner.penalty) * (synthetic.w @ own.diagonal() if learner.relative else 1)
    rooted = exact([root(share) for share in synthetic.w])[:, None]
    return cross @ (rooted * solved(rooted * own * rooted.T + penalty * exact(np.eye(len(own))), rooted * labels))


def losses_of(learner: Any, real: Exact, synthetic: Exact, loss: str = "squared") -> Any:
    """Of each real point."""
    found, labels = predictions(learner, synthetic, real), real.labels
    assert labels is not None
    if loss == "cross_entropy":
        logs = exact([digits.log(sum(digits.exp(value - max(row)) for value in row)) + max(row) for row in found])
        return (labels * (logs[:, None] - found)).sum(1)
    if getattr(learner, "centred", False):
        labels = labels - digits.one / labels.shape[1]
    return ((found - labels) ** 2).sum(1)


def reduced(reduce: Any, values: Any, mass: Any) -> Any:
    """The mean, the largest with mass, or CVaR: min_t t + Σ p (v - t)₊ / a, which is attained at one of the values."""
    if isinstance(reduce, Max):
        return max(values[mass > 0])
    if isinstance(reduce, CVaR):
        zero, fraction = digits.zero, digits.mpf(reduce.fraction)
        return min(t + mass @ np.where(values > t, values - t, zero) / fraction for t in values)
    return mass @ values


def risk(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    learner = discrepancy.learner
    value = reduced(discrepancy.reduce, losses_of(learner, mu, nu, discrepancy.loss), mu.w)
    own = mu.w @ losses_of(learner, mu, mu) if discrepancy.excess else digits.zero
    condition = digits.mpf(100)
    if isinstance(learner, KernelRidge) and isinstance(learner.kernel, Linear):
        condition += max((side.x**2).max() for side in (mu, nu)) / digits.mpf(learner.penalty)
    if isinstance(learner, Ridge):
        condition = max(linear(learner, side)[2] for side in ((mu, nu) if discrepancy.excess else (nu,)))
    return [Part(value - own, (value + own + 1) * condition)]


def parameters(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    (first, a, one), (second, b, other) = (linear(discrepancy.learner, side) for side in (mu, nu))
    if discrepancy.space == "parameters":
        value = ((first - second) ** 2).sum() + ((a - b) ** 2).sum()
    else:
        value = mu.w @ ((mu.x @ (first - second) + a - b) ** 2).sum(1)
    return [Part(value, (value + root(value)) * max(one, other))]


truths |= {"risk": risk, "parameters": parameters}
