"""Who was given how much: accounts that forget."""

from __future__ import annotations

import pytest

from cascade.edge.shares import HORIZON_S, MAX_ACCOUNTS, Shares


def given(
    rates: dict[str, float], *, for_s: float, step_s: float = 0.1, shares: Shares | None = None
) -> Shares:
    """Owners that were given so many tokens a second."""
    shares = shares or Shares()
    for number in range(round(for_s / step_s)):
        for owner, rate in rates.items():
            shares.charge(owner, rate * step_s, number * step_s)
    return shares


def test_before_anything_was_given_all_are_equal() -> None:
    standing = Shares().standing(["a", "b"], 0.0)
    assert standing["a"] == standing["b"]
    assert standing["a"].tokens_per_s > 0
    assert not standing["a"].is_in_debt


@pytest.mark.parametrize("for_s", [3.0, 10.0, 60.0])
def test_rates_are_rates_however_long_they_were_watched(for_s: float) -> None:
    standing = given({"a": 20.0, "b": 10.0}, for_s=for_s).standing(["a", "b"], for_s)
    assert standing["a"].tokens_per_s / standing["b"].tokens_per_s == pytest.approx(2, rel=0.25)
    assert standing["a"].tokens_per_s + standing["b"].tokens_per_s == pytest.approx(30, rel=0.05)


def test_a_newcomer_stands_at_the_mean() -> None:
    standing = given({"a": 20.0, "b": 10.0}, for_s=30).standing(["a", "b", "new"], 30.0)
    assert standing["new"].tokens_per_s == pytest.approx(15, rel=0.01)


def test_nobody_saves_up_while_it_is_away() -> None:
    shares = given({"a": 10.0, "b": 10.0}, for_s=30)
    for number in range(600):
        shares.charge("a", 1.0, 30 + number / 10)
    standing = shares.standing(["a", "b"], 90.0)
    assert standing["a"].tokens_per_s > standing["b"].tokens_per_s
    assert standing["b"].tokens_per_s == pytest.approx(10 / 2 / 2, rel=0.02), (
        "half of what the two have on average"
    )


def test_what_was_given_is_forgotten() -> None:
    shares = given({"greedy": 100.0, "b": 10.0}, for_s=10)
    for number in range(1000):
        for owner in ("greedy", "b"):
            shares.charge(owner, 1.0, 10 + number / 10)
    standing = shares.standing(["greedy", "b"], 10 + 10 * HORIZON_S)
    assert standing["greedy"].tokens_per_s == pytest.approx(standing["b"].tokens_per_s, rel=0.02)


def test_debt_is_having_been_given_much_more_than_the_others() -> None:
    owners = {"greedy": 60.0} | {f"honest-{number}": 10.0 for number in range(9)}
    standing = given(owners, for_s=30).standing(list(owners), 30.0)
    assert [owner for owner in owners if standing[owner].is_in_debt] == ["greedy"]


def test_who_is_alone_is_never_in_debt() -> None:
    assert not given({"a": 1000.0}, for_s=60).standing(["a"], 60.0)["a"].is_in_debt


def test_accounts_are_bounded_and_the_emptiest_go_first() -> None:
    shares = Shares()
    shares.charge("greedy", 1e6, 0.0)
    for number in range(3 * MAX_ACCOUNTS):
        shares.charge(f"passing-{number}", 1.0, 0.0)
    assert len(shares._accounts) <= MAX_ACCOUNTS
    assert shares.standing(["greedy"], 0.0)["greedy"].tokens_per_s >= 1
    assert "greedy" in shares._accounts
