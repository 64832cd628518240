"""The values of transport, for ``brute_force``: linear programs by shortest paths in whole numbers, the line by walking up, and
Sinkhorn's in extended precision."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from brute_force import Exact, Numbers, Part, Parts, bures, digits, exact, mmd, solved, truths
from torch import Tensor

BITS = 400
"""Of the parts of the whole mass, and of the largest cost."""
FAR = 1 << 2 * BITS


def in_units(shares: Any) -> list[int]:
    """Shares as whole numbers that sum to 2^BITS; those of zero stay zero."""
    units = [int(share * (1 << BITS)) for share in shares]
    units[max(range(len(units)), key=units.__getitem__)] += (1 << BITS) - sum(units)
    return units


def least_cost(costs: Any, w: Any, v: Any) -> Any:
    """min ⟨π, C⟩ over plans with these marginals: mass goes along shortest paths of the residual network, in whole numbers."""
    largest = costs.max()
    if largest == 0:
        return largest
    price = [[int(cost / largest * (1 << BITS)) for cost in row] for row in costs]
    supply, demand = in_units(w), in_units(v)
    n, m = costs.shape
    plan = [[0] * m for _ in range(n)]
    while any(supply):
        away, reach = [0 if left else FAR for left in supply], [FAR] * m
        before, back = [-1] * m, [-1] * n
        changed = True
        while changed:
            changed = False
            for i, j in np.ndindex(n, m):
                if away[i] + price[i][j] < reach[j]:
                    reach[j], before[j], changed = away[i] + price[i][j], i, True
            for i, j in np.ndindex(n, m):
                if plan[i][j] and reach[j] - price[i][j] < away[i]:
                    away[i], back[i], changed = reach[j] - price[i][j], j, True
        end = min((j for j in range(m) if demand[j]), key=reach.__getitem__)
        path, j = [], end
        while True:
            i = before[j]
            path.append((i, j, 1))
            if back[i] < 0:
                break
            j = back[i]
            path.append((i, j, -1))
        moved = min([supply[i], demand[end], *(plan[a][b] for a, b, sign in path if sign < 0)])
        supply[i] -= moved
        demand[end] -= moved
        for a, b, sign in path:
            plan[a][b] += sign * moved
    total = sum((plan[i][j] * costs[i, j] for i, j in np.ndindex(n, m) if plan[i][j]), 0 * largest)
    return total / (1 << BITS)


def transport_of_quantiles(x: Any, w: Any, y: Any, v: Any, p: Any) -> Any:
    """∫ |Q_x - Q_y|^p by walking up both staircases, taking from each the smaller rest of mass."""
    first, second = (sorted(zip(values, in_units(shares), strict=True)) for values, shares in ((x, w), (y, v)))
    total = 0 * x[0]
    (a, left), (b, right) = first.pop(0), second.pop(0)
    while True:
        moved = min(left, right)
        if moved and a != b:
            total += moved * abs(a - b) ** p
        left, right = left - moved, right - moved
        if not left:
            if not first:
                return total / (1 << BITS)
            a, left = first.pop(0)
        if not right:
            if not second:
                return total / (1 << BITS)
            b, right = second.pop(0)


def gaps(mu: Exact, nu: Exact, p: float) -> Numbers:
    square = ((mu.x[:, None] - nu.x) ** 2).sum(-1)
    return square if p == 2 else np.vectorize(lambda s: s ** (digits.mpf(p) / 2) if s else s, otypes=[object])(square)


def wasserstein(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    value = least_cost(gaps(mu, nu, discrepancy.p), mu.w, nu.w)
    return [Part(value, value, power=discrepancy.p if discrepancy.root else 1)]


def slices(discrepancy: Any, mu: Exact, nu: Exact, directions: Tensor) -> Numbers:
    found = []
    for theta in exact(directions.detach().double().numpy()):
        unit = theta / digits.sqrt((theta**2).sum())
        found.append(transport_of_quantiles(mu.x @ unit, mu.w, nu.x @ unit, nu.w, digits.mpf(discrepancy.p)))
    return exact(found)


def sliced(discrepancy: Any, mu: Exact, nu: Exact, draws: Mapping[str, Tensor]) -> Parts:
    value = slices(discrepancy, mu, nu, draws["direction"])
    return [Part(value.sum() / len(value), power=discrepancy.p if discrepancy.root else 1)]


def max_sliced(discrepancy: Any, mu: Exact, nu: Exact, draws: Mapping[str, Tensor]) -> Parts:
    value = max(slices(discrepancy, mu, nu, draws["direction"].reshape(-1, mu.x.shape[1])))
    return [Part(value, power=discrepancy.p if discrepancy.root else 1)]


def data_set_distance(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    p, sides = discrepancy.p, (mu.classes, nu.classes)
    between, size = {}, digits.zero
    for a, first in sides[0].items():
        for b, second in sides[1].items():
            if discrepancy.between == "gaussian":
                between[a, b], unknown = bures(first, second)
                size = max(size, unknown)
            else:
                between[a, b] = least_cost(gaps(first, second, p), first.w, second.w)
    rows, columns = ([(c, k) for c, side in sort.items() for k in range(len(side.x))] for sort in sides)
    tables = {pair: gaps(sides[0][pair[0]], sides[1][pair[1]], p) for pair in between}
    costs = exact([[tables[a, b][i, j] + between[a, b] for b, j in columns] for a, i in rows])
    masses = [np.concatenate([side.weights for side in sort.values()]) for sort in sides]
    value = least_cost(costs, *(mass / mass.sum() for mass in masses))
    return [Part(value, size, power=p if discrepancy.root else 1)]


def classes_distance(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    sides = mu.classes, nu.classes
    parts = [[mmd(discrepancy.of, a, b, None)[0] for b in sides[1].values()] for a in sides[0].values()]
    masses = [exact([side.weights.sum() for side in sort.values()]) for sort in sides]
    value = least_cost(exact([[part.value for part in row] for row in parts]), *(mass / mass.sum() for mass in masses))
    return [Part(value, max(part.size for row in parts for part in row))]


# Sinkhorn, in extended precision


def entropic(discrepancy: Any, mu: Exact, nu: Exact) -> Any:
    """OT by plain updates at falling temperatures, then, where all of the mass goes, by Newton's steps between them."""
    p, eps = discrepancy.p, np.longdouble(discrepancy.blur) ** discrepancy.p
    rho = None if discrepancy.reach is None else np.longdouble(discrepancy.reach) ** p
    mu, nu = mu.held, nu.held
    square = extended(((mu.x[:, None] - nu.x) ** 2).sum(-1))
    cost = square / 2 if p == 2 else np.sqrt(square)
    a, b = extended(mu.w), extended(nu.w)
    g = np.zeros_like(b)

    def update(rows: np.ndarray, masses: np.ndarray, heat: Any) -> np.ndarray:
        rows = np.log(masses) + rows / heat
        top = rows.max(1, keepdims=True)
        found = -heat * (top[:, 0] + np.log(np.exp(rows - top).sum(1)))
        return found if rho is None else found * rho / (rho + heat)

    def both(g: np.ndarray, heat: Any) -> tuple[np.ndarray, np.ndarray]:
        f = update(g - cost, b, heat)
        return f, update((f[:, None] - cost).T, a, heat)

    for k in range(max(0, int(np.log2(float(cost.max() / eps) + 1))), 0, -1):
        for _ in range(4):
            g = both(g, eps * 2.0**k)[1]
    for count in range(400):
        f, after = both(g, eps)
        plan = a[:, None] * b * np.exp((f[:, None] + g - cost) / eps)
        if rho is None and abs(plan.sum(0) - b).max() <= 1e-18 * (1 + cost.max() / eps):
            return a @ f + b @ g
        if rho is not None and abs(after - g).max() <= 1e-18 * (eps + cost.max()):
            return -rho * (a @ np.expm1(-f / rho) + b @ np.expm1(-g / rho)) - eps * (plan.sum() - 1)
        g = after
        if rho is None and count % 5 == 4:
            # The Hessian of b·g + a·f(g) in g; what it cannot tell, separate clusters, is left as it is.
            f = both(g, eps)[0]
            plan = a[:, None] * b * np.exp((f[:, None] + g - cost) / eps)
            curve = (np.diag(plan.sum(0)) - (plan / a[:, None]).T @ plan) / eps
            step = solved(curve + 1e-12 * np.diag(b) / eps, (b - plan.sum(0))[:, None])[:, 0]
            candidates = [g + step / 2**k for k in range(0, 45, 2)]
            g = max([g, *candidates], key=lambda g: a @ both(g, eps)[0] + b @ g)
    raise NotImplementedError("updates that do not arrive")


def extended(values: Any) -> np.ndarray:
    """Numbers of sixty digits in extended precision."""
    high = np.asarray(values).astype(np.float64)
    return high.astype(np.longdouble) + (values - exact(high)).astype(np.float64)


def sinkhorn(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    terms = [entropic(discrepancy, mu, nu)]
    if discrepancy.debias:
        terms += [-entropic(discrepancy, side, side) / 2 for side in (mu, nu)]
    high = [float(term) for term in terms]
    value = sum(digits.mpf(one) + digits.mpf(float(term - one)) for one, term in zip(high, terms, strict=True))
    # Costs are expanded about a centre: their rounding is that of the largest.
    largest = max(gaps(*pair, discrepancy.p).max() for pair in ((mu, mu), (mu, nu), (nu, nu)))
    return [Part(value, sum(map(abs, high)) + digits.mpf(discrepancy.blur) ** discrepancy.p / 100 + largest)]


truths |= {
    "wasserstein": wasserstein,
    "sliced_wasserstein": sliced,
    "max_sliced_wasserstein": max_sliced,
    "sinkhorn": sinkhorn,
    "data_set_distance": data_set_distance,
    "measure_of_classes": classes_distance,
}
