"""Keys set in a file leave everything else as it was, and the result is valid."""

import tomllib

from vexfs.config.edit import with_values

TEXT = """\
# my node
[general]
node_id = "a"   # keep me

[performance_optimizations]
batch_size = 100  # why 100

  # indented thought
medium_buffer_count=64

[api]
rest_enabled = true
"""


def test_values_are_replaced_in_place_with_their_comments():
    made = with_values(
        TEXT, {"performance_optimizations.batch_size": 400, "performance_optimizations.lazy_sync": False}
    )
    assert "batch_size = 400  # why 100" in made and 'node_id = "a"   # keep me' in made
    found = tomllib.loads(made)
    assert found["performance_optimizations"] == {"batch_size": 400, "medium_buffer_count": 64, "lazy_sync": False}
    assert found["api"] == {"rest_enabled": True}
    changed = set(made.splitlines()) ^ set(TEXT.splitlines())
    assert changed == {"batch_size = 100  # why 100", "batch_size = 400  # why 100", "lazy_sync = false"}


def test_a_section_that_is_not_there_is_added():
    found = tomllib.loads(with_values("", {"monitoring.detailed_timing": True, "general.log_dir": 'a "b" \\ c'}))
    assert found == {"monitoring": {"detailed_timing": True}, "general": {"log_dir": 'a "b" \\ c'}}
    assert tomllib.loads(with_values(TEXT, {"storage.cache_size": "64MB"}))["storage"] == {"cache_size": "64MB"}


def test_only_ends_of_lines_divide_lines():
    text = "[api]\r\nrest_enabled = true  # one\u2028comment\x0c\n"
    made = with_values(text, {"api.rate_limit": 3})
    assert made == "[api]\nrest_enabled = true  # one\u2028comment\x0c\nrate_limit = 3\n"
