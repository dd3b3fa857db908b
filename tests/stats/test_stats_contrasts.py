"""Contrasts, equivalence, log-odds and training seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from clipbias.stats.contrasts import contrast, equivalence, log_odds
from clipbias.stats.intervals import difference
from clipbias.stats.seeds import from_estimates, over_seeds
from clipbias.stats.tests import sign_flip


def test_a_contrast_is_the_difference_of_the_drops_on_the_same_queries():
    generator = np.random.default_rng(0)
    base_a, drop_a, base_b, drop_b = (generator.random((4, 300)) < np.array([[0.8], [0.5], [0.8], [0.7]])).astype(float)
    found = contrast((base_a, drop_a), (base_b, drop_b))
    by_hand = [(b2 - b1) - (a2 - a1) for a1, a2, b1, b2 in zip(base_a, drop_a, base_b, drop_b, strict=True)]
    assert found.apart.value == pytest.approx(np.mean(by_hand)) == pytest.approx(found.second.value - found.first.value)
    assert found.apart == difference(np.array(by_hand), bound=2.0)
    assert found.p == sign_flip(np.array(by_hand)) and found.log_odds is None
    normal = stats.norm.interval(0.95, np.mean(by_hand), stats.sem(by_hand))
    assert (found.apart.low, found.apart.high) == pytest.approx(normal, abs=0.02)


def test_equivalence_is_tost():
    generator = np.random.default_rng(1)
    values = generator.choice([-1.0, 0.0, 1.0], 4000, p=[0.11, 0.8, 0.09])
    for margin in (0.01, 0.03, 0.05):
        theirs = ttost_paired(values, np.zeros(4000), -margin, margin)
        found = equivalence(values, margin)
        assert found.p == pytest.approx(min(theirs[0], 0.5), abs=0.02)
        interval = difference(values, level=0.9)
        assert (found.p < 0.05) == (-margin < interval.low and interval.high < margin)
    assert equivalence(np.zeros(100), 0.02).p > 0.05 > equivalence(np.zeros(1000), 0.02).p
    better = np.where(np.arange(500) < 100, 1.0, 0.0)
    assert equivalence(better, 0.02).p == 0.5 and equivalence(better, 0.02).p_no_worse < 1e-6
    with pytest.raises(ValueError, match="margin"):
        equivalence(values, 0.0)


def test_log_odds_of_two_independent_recalls_are_those_of_the_table():
    generator = np.random.default_rng(2)
    x, y = (generator.random(3000) < 0.97).astype(float), (generator.random(3000) < 0.9).astype(float)
    found = log_odds([x, y], np.array([-1.0, 1.0]))
    table = np.array([[y.sum(), 3000 - y.sum()], [x.sum(), 3000 - x.sum()]])
    error = np.sqrt((1 / table).sum())
    odds = np.log(table[0, 0] * table[1, 1] / table[0, 1] / table[1, 0])
    assert found.value == pytest.approx(odds, abs=0.02)
    assert (found.low, found.high) == pytest.approx((odds - 1.96 * error, odds + 1.96 * error), abs=0.12)


def test_log_odds_are_open_where_all_is_found_and_stand_beside_extremes():
    generator = np.random.default_rng(3)
    full = np.ones(400)
    less, other = ((generator.random(400) < share).astype(float) for share in (0.9, 0.95))
    found = contrast((full, less), (full, other)).log_odds
    assert found is not None and np.isinf(found.high) and np.isinf(found.low)
    drop = log_odds([full, less], np.array([-1.0, 1.0]))
    assert np.isneginf(drop.low) and drop.high < 0


def test_with_few_seeds_there_is_no_interval():
    assert over_seeds(np.zeros((4, 50))) is None and from_estimates(np.arange(4), 1.0) is None


def test_seeds_carry_their_own_spread_and_the_queries():
    generator = np.random.default_rng(4)
    shift = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])[:, None]
    common = generator.choice([-1.0, 0.0, 1.0], 2000)
    spread = over_seeds(0.5 * np.zeros((5, 2000)) + shift)
    t = stats.t.interval(0.95, 4, 0, stats.sem(shift[:, 0]))
    assert spread is not None and (spread.low, spread.high) == pytest.approx(t, abs=0.01)
    alike = over_seeds(np.repeat(common[None], 5, axis=0))
    assert alike is not None and alike == pytest.approx(difference(common), abs=1e-9)
    flat = over_seeds(np.zeros((6, 500)))
    assert flat is not None and flat.low < 0 < flat.high


def test_seeds_with_captions_that_are_copies_are_those_of_images():
    generator = np.random.default_rng(5)
    values = generator.choice([-1.0, 0.0, 1.0], (6, 300), p=[0.2, 0.5, 0.3])
    one = over_seeds(values)
    copies = over_seeds(np.repeat(values, 5, axis=1), np.repeat(np.arange(300), 5))
    assert one is not None and copies is not None
    assert (copies.low, copies.high) == pytest.approx((one.low, one.high), abs=0.004)


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_coverage_over_seeds(spread):
    generator = np.random.default_rng(6)
    inside = known = 0
    for _ in range(500):
        common = generator.normal(0, 0.3, 400)
        values = common + generator.normal(0, 0.2, (5, 400)) + generator.normal(0, spread * 0.015, (5, 1))
        found = over_seeds(values, bound=3.0)
        part = from_estimates(values.mean(axis=1), 0.3**2 / 400)
        assert found is not None and part is not None
        inside += found.low <= 0 <= found.high
        known += part.low <= 0 <= part.high
    assert min(inside, known) >= 0.92 * 500
