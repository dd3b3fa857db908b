"""Credit for ties against every order of the equals."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.stats.ties import credit, expected_rank, expected_reciprocal_rank

few = st.integers(0, 3)


def first_places(b: int, e: int, p: int) -> list[int]:
    """The place of the first right candidate in every order of e wrong and p right ones behind b better ones."""
    orders = permutations(range(e + p))
    return [b + 1 + next(place for place, item in enumerate(order) if item < p) for order in orders]


@settings(max_examples=60, deadline=None)
@given(b=few, e=few, p=st.integers(1, 3), k=st.integers(1, 8))
def test_credit_rank_and_reciprocal_rank_are_the_mean_over_all_orders(b, e, p, k):
    places = first_places(b, e, p)
    one = (np.array([b]), np.array([e]), np.array([p]))
    mean = [
        sum(Fraction(place <= k) for place in places),
        sum(Fraction(place) for place in places),
        sum(Fraction(1, place) for place in places),
    ]
    found = [credit(*one, k)[0], expected_rank(*one)[0], expected_reciprocal_rank(*one)[0]]
    assert found == pytest.approx([float(total / len(places)) for total in mean], rel=1e-13)


@settings(max_examples=200, deadline=None)
@given(b=st.integers(0, 50), e=st.integers(0, 400), p=st.integers(1, 40), k=st.integers(1, 100))
def test_credit_is_the_ratio_of_binomials(b, e, p, k):
    m = min(k - b, e + p)
    exact = 0 if m <= 0 else 1 - Fraction(comb(e, m), comb(e + p, m))
    assert credit(np.array([b]), np.array([e]), np.array([p]), k)[0] == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("n", [1, 7, 1000, 10**6, 10**9])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_constant_encoder_gets_what_guessing_gets(n, k):
    one = (np.array([0]), np.array([n - 1]), np.array([1]))
    assert credit(*one, k)[0] == pytest.approx(min(1, k / n), rel=1e-12)
    assert expected_rank(*one)[0] == (n + 1) / 2
    harmonic = np.log(n) + np.euler_gamma + 1 / (2 * n) - 1 / (12 * n**2) if n > 1000 else sum(1 / np.arange(1, n + 1))
    assert expected_reciprocal_rank(*one)[0] == pytest.approx(harmonic / n, rel=1e-10)


def test_large_groups_of_equals_lose_no_digits():
    many = (np.array([3]), np.array([10**7]), np.array([5]))
    assert credit(*many, 10)[0] == pytest.approx(float(1 - Fraction(comb(10**7, 7), comb(10**7 + 5, 7))), rel=1e-12)
    guessed = np.random.default_rng(0).random((5, 400_000)).min(axis=0) * 10**7  # the first of five, continuous limit
    assert expected_reciprocal_rank(*many)[0] == pytest.approx((1 / (3.5 + guessed)).mean(), rel=0.05)


def test_without_ties_they_are_the_plain_metrics():
    b = np.arange(30)
    none, one = np.zeros(30, int), np.ones(30, int)
    assert credit(b, none, 2 * one, 5).tolist() == [1.0] * 5 + [0.0] * 25
    assert expected_rank(b, none, 4 * one).tolist() == (b + 1).tolist()
    assert expected_reciprocal_rank(b, none, 4 * one).tolist() == (1 / (b + 1)).tolist()
