"""Coverage and width of every interval of `clipbias.stats`, by simulation; one table.

    python benchmarks/coverage.py [--quick] [--seed 0] [--trials 2000] [--only recall,difference,mean,seeds]

Each line is the worst and the mean coverage over the cells of its kind, and the widest interval against a reference
that is honest there or nearly so: Clopper-Pearson, Tango, t at the true design effect. `--cells` prints every cell.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import betaincinv, stdtrit

from clipbias.stats.intervals import Interval, difference, mean, proportion, ratio
from clipbias.stats.seeds import over_seeds

SHARES = (0.5, 0.9, 0.99, 0.999, 0.9995, 1.0)
SIZES = (100, 1000, 5000)
Trial = Callable[[np.random.Generator], tuple[float, float, float, float]]
"""One sample -> (truth, low, high, width of the reference)."""


@dataclass(frozen=True)
class Cell:
    """What is simulated: its kind, what tells it from others, and one trial."""

    kind: str
    name: str
    trial: Trial


def clusters(n: int, size: str) -> np.ndarray:
    """The cluster [n] of each query: "1", "5" a cluster, or "uneven" (1 to 15, most small)."""
    if size == "uneven":
        sizes = np.minimum(np.random.default_rng(n).geometric(0.3, n), 15)
        return np.repeat(np.arange(n), sizes)[:n]
    return np.arange(n) // int(size)


def hits(generator: np.random.Generator, cluster: np.ndarray, share: float, icc: float) -> np.ndarray:
    """Beta-binomial hits [Q] with mean ``share`` and correlation ``icc`` within a cluster."""
    if icc == 0 or share in (0.0, 1.0):
        return (generator.random(len(cluster)) < share).astype(np.float64)
    if icc == 1:
        return (generator.random(cluster.max() + 1) < share).astype(np.float64)[cluster]
    strength = 1 / icc - 1
    own = generator.beta(share * strength, (1 - share) * strength, cluster.max() + 1)
    return (generator.random(len(cluster)) < own[cluster]).astype(np.float64)


def exact(count: float, n: float) -> float:
    """Width of Clopper-Pearson."""
    low = betaincinv(count, n - count + 1, 0.025) if count > 0 else 0.0
    high = betaincinv(count + 1, n - count, 0.975) if count < n else 1.0
    return float(high - low)


@cache
def tango(won: float, lost: float, n: int) -> float:
    """Width of Tango's (1998) score interval of a paired difference; of the normal one from 50 changed queries."""
    if won + lost >= 50:
        return float(2 * 1.959964 * np.sqrt(won + lost - (won - lost) ** 2 / n) / n)

    def excess(delta: float) -> float:
        b = -won - lost + (2 * n - won + lost) * delta
        c = -lost * delta * (1 - delta)
        rare = max((np.sqrt(max(b * b - 8 * n * c, 0)) - b) / (4 * n), 0.0)
        variance = max(n * (2 * rare + delta * (1 - delta)), 1e-300)
        return float((won - lost - n * delta) ** 2 / variance - 1.959964**2)

    ends = []
    for outside in (-1.0, 1.0):
        inside = (won - lost) / n
        far = outside
        for _ in range(30):
            middle = (inside + far) / 2
            inside, far = (middle, far) if excess(middle) <= 0 else (inside, middle)
        ends.append(inside)
    return ends[1] - ends[0]


def recall_cells(quick: bool) -> Iterator[Cell]:
    """Recalls: the listed shares, sizes and clusters, with correlation within clusters, and with ties."""
    for share, n, size in itertools.product(SHARES, SIZES[: 2 if quick else 3], ("1", "5", "uneven")):
        cluster = clusters(n, size)
        for icc in (0.0,) if size == "1" else (0.0, 0.3, 1.0):
            effect = 1 + icc * ((np.bincount(cluster) ** 2).sum() / n - 1)

            def trial(
                g: np.random.Generator,
                share: float = share,
                cluster: np.ndarray = cluster,
                icc: float = icc,
                effect: float = effect,
            ) -> tuple[float, float, float, float]:
                x = hits(g, cluster, share, icc)
                found = proportion(x, cluster)
                return share, found.low, found.high, exact(x.sum() / effect, len(x) / effect)

            yield Cell(f"recall, clusters {size}", f"p {share} n {n} icc {icc}", trial)
    for share, n in itertools.product(SHARES, SIZES[:2]):

        def tied(g: np.random.Generator, share: float = share, n: int = n) -> tuple[float, float, float, float]:
            x = np.where(g.random(n) < share, np.where(g.random(n) < 0.5, 0.5, 1.0), 0.0)
            found = proportion(x)
            return 0.75 * share, found.low, found.high, exact(x.sum(), n)

        yield Cell("recall, half of the hits ties of two", f"p {share} n {n}", tied)


def pair(
    generator: np.random.Generator, cluster: np.ndarray, share: float, other: float, r: float, icc: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two paired hits [Q]: with probability ``r`` of the same draw, else of another."""
    same, alone = hits(generator, cluster, share, icc), hits(generator, cluster, share, icc)
    keep = generator.random(len(cluster)) < r
    second = np.where(keep, same, alone)
    lost = generator.random(len(cluster)) < (1 - other / share)
    return same, np.where(lost, 0.0, second)


def difference_cells(quick: bool) -> Iterator[Cell]:
    """Paired differences: correlation 0, 0.5, 0.95 and identical; no change, and 2 points."""
    grid = itertools.product(
        SHARES, SIZES[: 2 if quick else 3], ("1", "5", "uneven"), (0.0, 0.5, 0.95, 1.0), (0.0, 0.02)
    )
    for share, n, size, r, drop in grid:
        cluster = clusters(n, size)
        for icc in (0.0,) if size == "1" else (0.0, 0.3):

            def trial(
                g: np.random.Generator,
                share: float = share,
                cluster: np.ndarray = cluster,
                icc: float = icc,
                r: float = r,
                drop: float = drop,
            ) -> tuple[float, float, float, float]:
                x, y = pair(g, cluster, share, share - drop, r, icc)
                found = difference(y - x, cluster)
                wide = tango(float((y > x).sum()), float((y < x).sum()), len(x)) if icc == 0 else np.nan
                return -drop, found.low, found.high, wide

            yield Cell(f"difference, clusters {size}", f"p {share} n {n} r {r} drop {drop} icc {icc}", trial)
    for share, n, r in itertools.product((0.5, 0.9, 0.99), (100, 1000), (0.0, 0.5, 0.95)):

        def contrast(
            g: np.random.Generator, share: float = share, n: int = n, r: float = r
        ) -> tuple[float, float, float, float]:
            one, two = (
                pair(g, np.arange(n), share, share - 0.05, r, 0),
                pair(g, np.arange(n), share, share - 0.02, r, 0),
            )
            found = difference(two[1] - two[0] - one[1] + one[0], bound=2.0)
            return 0.03, found.low, found.high, np.nan

        yield Cell("difference of differences", f"p {share} n {n} r {r}", contrast)
        for drop in (0.0, 0.2):

            def relative(
                g: np.random.Generator, share: float = share, n: int = n, r: float = r, drop: float = drop
            ) -> tuple[float, float, float, float]:
                x, y = pair(g, np.arange(n), share, share - drop, r, 0)
                found = ratio(y, x)
                return (share - drop) / share, found.low, found.high, np.nan

            if n == 100 and share < 0.99 and r != 0.5:
                yield Cell("ratio of recalls", f"p {share} n {n} r {r} drop {drop}", relative)


def mean_cells(quick: bool) -> Iterator[Cell]:
    """Means of values without bounds: cosines (normal), shares (beta), ranks (geometric, log-normal)."""
    draws: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
        "normal": (lambda g, n: g.normal(0.3, 0.05, n), 0.3),
        "beta(1, 9)": (lambda g, n: g.beta(1, 9, n), 0.1),
        "geometric rank": (lambda g, n: g.geometric(0.2, n).astype(float), 5.0),
        "log-normal rank": (lambda g, n: np.exp(g.normal(0, 1, n)), float(np.exp(0.5))),
    }
    for (name, (draw, truth)), n, size in itertools.product(
        draws.items(), SIZES[: 2 if quick else 3], ("1", "5", "uneven")
    ):
        cluster = clusters(n, size)

        def trial(
            g: np.random.Generator,
            draw: Callable[[np.random.Generator, int], np.ndarray] = draw,
            truth: float = truth,
            cluster: np.ndarray = cluster,
        ) -> tuple[float, float, float, float]:
            own = draw(g, cluster.max() + 1)[cluster]
            x = np.where(g.random(len(cluster)) < 0.5, own, draw(g, len(cluster)))
            found = mean(x, cluster) or Interval(0, 0, 0)
            sums = np.bincount(cluster, weights=x - x.mean())
            wide = 2 * stdtrit(cluster.max(), 0.975) * np.sqrt((sums**2).sum()) / len(x)
            return truth, found.low, found.high, float(wide)

        yield Cell(f"mean, clusters {size}", f"{name} n {n}", trial)


def seed_cells(quick: bool) -> Iterator[Cell]:
    """Recipes' differences: 3 to 10 seeds, their spread 0 to 3 times the queries', queries shared or not."""
    for seeds, spread, shared in itertools.product((3, 4, 5, 7, 10), (0.0, 0.3, 1.0, 3.0), (0.0, 0.5, 0.9)):
        for n, share in ((1000, 0.7),) if quick else ((200, 0.7), (1000, 0.7), (1000, 0.99)):
            error = np.sqrt(2 * share * (1 - share) / n)

            def trial(
                g: np.random.Generator,
                seeds: int = seeds,
                spread: float = spread,
                shared: float = shared,
                n: int = n,
                share: float = share,
                error: float = float(error),
            ) -> tuple[float, float, float, float]:
                # A seed's shift moves all its queries alike.
                common = (g.random(n) < share).astype(float) - (g.random(n) < share)
                own = (g.random((seeds, n)) < share).astype(float) - (g.random((seeds, n)) < share)
                values = np.where(g.random((seeds, n)) < shared, common, own) + g.normal(0, spread * error, (seeds, 1))
                found = over_seeds(np.clip(values, -2, 2), bound=2.0 if spread else 1.0, least=2)
                assert found is not None
                variance = (spread * error) ** 2 / seeds + error**2 * (shared**2 + (1 - shared**2) / seeds)
                part = (spread * error) ** 2 / seeds / variance
                freedom = (seeds - 1) / part**2 if part else 1e6
                return 0.0, found.low, found.high, float(2 * stdtrit(min(freedom, 1e6), 0.975) * np.sqrt(variance))

            yield Cell(f"recipes, {seeds} seeds", f"spread {spread} shared {shared} n {n} p {share}", trial)


KINDS = {"recall": recall_cells, "difference": difference_cells, "mean": mean_cells, "seeds": seed_cells}


def simulate(cell: Cell, trials: int, seed: int) -> tuple[float, float]:
    """Coverage, and the mean width against the reference's.

    A fifth of the trials is enough for a cell that is clearly above 95%; others are simulated anew with all of them.
    """
    generator = np.random.default_rng([seed, *cell.kind.encode(), *cell.name.encode()])
    coverage = width = 0.0
    for count in (max(trials // 5, 200), trials):
        truth, low, high, wide = np.array([cell.trial(generator) for _ in range(count)]).T
        coverage = float(((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean())
        width = float((high - low).mean() / wide.mean())
        if coverage >= 0.96:
            break
    return coverage, width


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="fewer cells, 300 trials each")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas")
    parser.add_argument("--cells", action="store_true", help="every cell, not the summary alone")
    given = parser.parse_args()
    trials = 300 if given.quick else given.trials
    began = time.monotonic()
    lines: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for kind in given.only.split(","):
        for cell in KINDS[kind](given.quick):
            coverage, width = simulate(cell, trials, given.seed)
            lines[cell.kind].append((coverage, width, cell.name))
            if given.cells:
                print(f"{cell.kind:38} {cell.name:46} {100 * coverage:5.1f} {width:5.2f}", flush=True)
    print("| interval | cells | least coverage | mean | where least | widest against reference |")
    print("|---|---|---|---|---|---|")
    for name, cells in lines.items():
        least, _, where = min(cells)
        widths = [width for _, width, _ in cells if np.isfinite(width)]
        wide = f"{max(widths):.2f}" if widths else "-"
        average = np.mean([coverage for coverage, _, _ in cells])
        print(f"| {name} | {len(cells)} | {100 * least:.1f}% | {100 * average:.1f}% | {where} | {wide} |")
    print(f"\nseed {given.seed}, {trials} trials a cell, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
