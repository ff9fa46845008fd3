"""Quantities as operators write them, and what becomes of them on the way to a verb."""

import argparse

import pytest

from vexfs.cli import performance_load
from vexfs.cli.main import build_parser
from vexfs.cli.quantities import share
from vexfs.errors import UsageError
from vexfs.node.verbs.terms import time_s


@pytest.mark.parametrize(("word", "value"), [("5%", 0.05), ("0.05", 0.05), ("1", 1.0), ("150%", 1.5), ("0", 0.0)])
def test_shares(word, value):
    assert share(word) == pytest.approx(value)


@pytest.mark.parametrize("word", ["5", "50", "1.01", "5x", "-5%", ""])
def test_what_is_no_share(word):
    """`--threshold 5` would let everything pass that is less than 500 % worse."""
    with pytest.raises(argparse.ArgumentTypeError, match="%"):
        share(word)


@pytest.mark.parametrize(
    "words",
    [
        "performance bridge configure --lazy-sync",
        "performance stack configure --monitoring-enabled",
        "performance simd configure --enable-avx2 --enable-fma --enable-avx512",
        "security memory-pools configure --zero-on-free --guard-pages --allocation-tracking",
    ],
)
def test_a_switch_alone_is_on(words):
    noun, *_ = words.split()
    parser = build_parser("vexctl", noun)
    names = [word[2:].replace("-", "_") for word in words.split() if word.startswith("--")]
    alone = parser.parse_args(words.split())
    assert all(getattr(alone, name) is True for name in names)
    off = parser.parse_args([part for word in words.split() for part in ([word, "false"] if "--" in word else [word])])
    assert all(getattr(off, name) is False for name in names)


def test_a_time_out_of_bounds_is_told_with_units():
    assert time_s(2, "duration", 0.001, 60.0) == 2.0
    with pytest.raises(UsageError, match="lazy_sync_threshold is 10s, and must be a time from 500ns to 5s"):
        time_s(10.0, "lazy_sync_threshold", 5e-7, 5.0)
    with pytest.raises(UsageError, match="duration is 'x', and must be a time from 1ms to 24h"):
        time_s("x", "duration", 0.001, 86400.0)


@pytest.mark.parametrize("check", [False, True])
def test_a_baseline_is_shown_and_fails_only_when_that_is_asked_for(monkeypatch, check):
    def baseline(ops):
        figure = {"unit": "operations/s", "better": "higher", "samples": [ops * (1 + i / 1000) for i in range(9)]}
        return {"format": "vexfs-baseline-1", "figures": {"fuse_ops": figure}, "skipped": {}}

    monkeypatch.setattr(performance_load, "_baseline", lambda _: baseline(1000))
    monkeypatch.setattr(performance_load, "_measured", lambda _: baseline(500))
    args = argparse.Namespace(baseline="b.json", regression_check=check, email_report=None)
    answer = performance_load._validated(args, {"checks": {}, "reasons": [], "overall_success": True})
    assert answer["regression"]["regressions"] == ["fuse_ops"]
    assert answer["overall_success"] is not check
    assert "fuse_ops" in performance_load._validation(answer)
