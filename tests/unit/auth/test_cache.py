"""The auth cache: lifetimes, order of leaving, counting."""
from __future__ import annotations

from mailproxy.auth.cache import Cache
from mailproxy.auth.fields import FieldSet


def _cache(clock: list[float], limit: int = 10_000) -> Cache:
    return Cache(limit, 10.0, 5.0, lambda: clock[0])


def test_lifetimes_differ_and_old_entries_stay() -> None:
    clock = [100.0]
    cache = _cache(clock)
    cache.put((1, "", "joe"), FieldSet([("a", "1")]), "{PLAIN}pw", True, "joe")
    cache.put((1, "", "no"), None, None, False, "no")
    clock[0] = 106.0
    assert cache.look((1, "", "joe"))[1]
    entry, fresh = cache.look((1, "", "no"))
    assert entry is not None
    assert not fresh
    clock[0] = 111.0
    entry, fresh = cache.look((1, "", "joe"))
    assert entry is not None
    assert not fresh
    assert cache.look((1, "", "x")) == (None, False)


def test_the_least_recently_used_leaves() -> None:
    clock = [0.0]
    cache = _cache(clock, 150)
    for name in ("a", "b", "c"):
        cache.put((1, "", name), None, None, False, name)
    assert len(cache) == 3
    cache.look((1, "", "a"))
    cache.put((1, "", "d"), None, None, False, "d")
    assert cache.look((1, "", "a"))[0] is not None
    assert cache.look((1, "", "b"))[0] is None
    assert cache.used <= 150


def test_sizes_add_up() -> None:
    cache = _cache([0.0])
    for number in range(50):
        cache.put((1, "", f"u{number % 20}"), FieldSet([("k", "v" * number)]), "{PLAIN}x", True, f"u{number % 20}")
    assert len(cache) == 20
    assert cache.flush_user("u3") == 1
    assert cache.flush() == 19
    assert cache.used == 0


def test_a_zero_lifetime_means_no_entry_and_statistics_start_again() -> None:
    cache = Cache(10_000, 10.0, 0.0, lambda: 0.0)
    cache.put((1, "", "no"), None, None, False, "no")
    assert len(cache) == 0
    cache.look((1, "", "no"))
    assert cache.statistics()[0] == "Authentication cache hits 0/1 (0%)"
    assert cache.statistics()[0] == "Authentication cache hits 0/0 (100%)"
