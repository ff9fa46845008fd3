import tomllib

import pytest

from vexfs.config import Faults, load
from vexfs.config.edit import with_values
from vexfs.config.model import KEYS, SECTIONS
from vexfs.errors import ConfigError


def settings_of(tmp_path, text, environment=None, overrides=()):
    file = tmp_path / "node.conf"
    file.write_text(text)
    return load(file, environment=environment or {}, overrides=overrides)


def faults_of(tmp_path, text, **more):
    with pytest.raises(Faults) as caught:
        settings_of(tmp_path, text, **more)
    return [fault.replace(f"{tmp_path}/", "") for fault in caught.value.faults]


# A value other than the default for every key, as a file has it.
OTHER = {
    "general.node_id": '"n7"', "general.cluster_name": '"c"', "general.data_dir": '"/srv/d"',
    "general.log_dir": '"/srv/log"', "general.log_level": '"debug"', "general.log_format": '"json"',
    "general.log_max_size": '"1MB"', "general.log_keep": "2", "general.control_socket": '"/srv/s"',
    "general.run_as": '"nobody"', "general.stop_timeout": '"5s"', "mount.mountpoint": '"/mnt/x"',
    "mount.options": '"ro"', "performance_optimizations.enable_tiered_memory_pools": "false",
    "performance_optimizations.enable_avx2_acceleration": "false",
    "performance_optimizations.enable_stack_optimization": "false",
    "performance_optimizations.enable_enhanced_bridge": "false",
    "performance_optimizations.small_buffer_count": "256", "performance_optimizations.medium_buffer_count": "32",
    "performance_optimizations.large_buffer_count": "8", "performance_optimizations.pool_hit_rate_target": "0.8",
    "performance_optimizations.auto_detect_simd": "false", "performance_optimizations.force_avx2": "true",
    "performance_optimizations.enable_avx512": "false", "performance_optimizations.simd_batch_size": "64",
    "performance_optimizations.fuse_stack_limit": "4096", "performance_optimizations.enable_stack_monitoring": "false",
    "performance_optimizations.heap_threshold": "512", "performance_optimizations.enable_batch_processing": "false",
    "performance_optimizations.batch_size": "10", "performance_optimizations.priority_scheduling": "false",
    "performance_optimizations.lazy_sync": "false", "performance_optimizations.target_latency_ns": "500000",
    "cluster.enabled": "true", "cluster.bind_address": '"10.0.0.1:7001"',
    "cluster.advertise_address": '"node-1.example:7001"', "cluster.seed_nodes": '["node-2:7000"]',
    "cluster.replication_factor": "5", "storage.backend": None, "storage.cache_size": '"24GB"',
    "storage.compression": '"none"', "storage.encryption": "true", "storage.encryption_key_file": '"/etc/k"',
    "storage.enable_direct_io": "true", "storage.io_queue_depth": "64", "storage.prefetch_size": '"64KB"',
    "api.rest_enabled": "false", "api.rest_bind": '"0.0.0.0:80"', "api.websocket_enabled": "false",
    "api.websocket_bind": '"[::1]:81"', "api.tls_enabled": "true", "api.tls_cert_file": '"/c"',
    "api.tls_key_file": '"/k"', "api.tls_client_ca_file": '"/ca"', "api.auth_required": "false",
    "api.max_concurrent_requests": "10", "api.request_timeout": '"5ms"', "api.keepalive_timeout": '"1min"',
    "api.max_body_size": '"1MB"', "api.max_file_size": '"1GB"', "api.rate_limit": "100",
    "api.cors_origins": '["https://a.example"]', "monitoring.metrics_enabled": "false",
    "monitoring.metrics_bind": '"0.0.0.0:9"', "monitoring.health_check_bind": '"0.0.0.0:10"',
    "monitoring.prometheus_enabled": "false", "monitoring.enable_performance_metrics": "false",
    "monitoring.metrics_collection_interval": '"500ms"', "monitoring.detailed_timing": "true",
}  # fmt: skip


def test_every_key_can_be_set(tmp_path):
    assert set(OTHER) == set(KEYS)
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        lines += [f"{p.split('.')[1]} = {v}" for p, v in OTHER.items() if p.split(".")[0] == section and v]
    text = "\n".join(lines).replace("enable_avx2_acceleration = false", "").replace("auth_required = false", "")
    settings = settings_of(tmp_path, text)
    same = {path for path, key in KEYS.items() if settings.value(path) == key.default}
    left = {"storage.backend", "api.auth_required", "performance_optimizations.enable_avx2_acceleration"}
    assert same == left
    assert settings.storage.cache_size == 24 << 30
    assert settings.api.request_timeout == 0.005
    assert settings.performance.target_latency_ns == 500_000
    assert settings.api.websocket_bind.host == "::1"
    line = text[: text.index("cache_size")].count("\n") + 1
    assert settings.origin("storage.cache_size").place.endswith(f":{line}")


def test_values_shown_read_back_as_themselves(tmp_path):
    for path, key in KEYS.items():
        for value in (key.default, key.kind.read(tomllib.loads(f"x = {OTHER[path]}")["x"]) if OTHER[path] else None):
            if value is not None:
                assert key.kind.read(tomllib.loads(f"x = {key.kind.show(value)}")["x"]) == value, path


def test_faults_name_line_key_and_what_is_right(tmp_path):
    text = """\
# a comment
[api]
rest_bnd = "127.0.0.1:8080"
request_timeout = 5
max_concurrent_requests = 0

[storag]
cache_size = 1
[storage]
cache_size = "twelve"
rest_enabled = true
compression = "zip"
"""
    assert faults_of(tmp_path, text) == [
        "node.conf:3: rest_bnd is no key of [api]; did you mean rest_bind?",
        f"node.conf:4: api.request_timeout is 5, and must be {KEYS['api.request_timeout'].kind.wanted}",
        "node.conf:5: api.max_concurrent_requests is 0, and must be a whole number from 1 to 100000",
        "node.conf:7: there is no section [storag]; did you mean [storage]?",
        f"node.conf:10: storage.cache_size is 'twelve', and must be {KEYS['storage.cache_size'].kind.wanted}",
        "node.conf:11: rest_enabled is no key of [storage]; it belongs to [api]",
        'node.conf:12: storage.compression is \'zip\', and must be "lz4" or "none"',
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[api\n", "node.conf:1:5: is not TOML"),
        ("[api]\nrest_enabled = tru\n", "node.conf:2:16: is not TOML"),
        ("[api]\nrest_enabled = true\nrest_enabled = false\n", "is not TOML: Cannot overwrite a value"),
        ("[api]\ncors_origins = [\n", "node.conf:2: is not TOML: Invalid value (at end of document)"),
        ("log_level = 'info'\n", "node.conf:1: log_level stands outside its section; write it under [general]"),
        ("api = 3\n", "node.conf:1: api is a section; write [api]"),
        ("[api]\nrest_bind = '127.0.0.1'\n", "must be an address and a port"),
        ("[api]\nrest_bind = '127.0.0.1:99999'\n", "must be an address and a port"),
        ("[api]\nrest_bind = '300.0.0.1:80'\n", "must be an address and a port"),
        ("[api]\nrest_enabled = 1\n", "must be true or false"),
        ("[api]\nrest_enabled = 'true'\n", "must be true or false"),
        ("[api]\nmax_concurrent_requests = 2000.0\n", "must be a whole number"),
        ("[api]\nrequest_timeout = '-5s'\n", "must be a time"),
        ("[api]\nrequest_timeout = '5 parsecs'\n", "must be a time"),
        ("[storage]\ncache_size = '1.0000001KB'\n", "must be a size"),
        ("[storage]\ncache_size = true\n", "must be a size"),
        ("[general]\ndata_dir = 'relative'\n", "must be an absolute path"),
        ("[general]\nnode_id = 'a b'\n", "must be 1 to 63 letters"),
        ("[cluster]\nseed_nodes = ['x']\n", "must be a list, each of it an address"),
        ("[performance_optimizations]\nheap_threshold = 4000\n", "(4000) is above fuse_stack_limit (3072)"),
        ("[api]\ntls_enabled = true\n", "tls_enabled needs tls_cert_file"),
        ("[storage]\nencryption = true\n", "encryption needs encryption_key_file"),
        ("[api]\nauth_required = false\nrest_bind = '0.0.0.0:8080'\n", "would open api.rest_bind"),
        ("[api]\nrest_bind = '127.0.0.1:8081'\n", "are both 127.0.0.1:8081"),
    ],
)
def test_bad_files(tmp_path, text, told):
    assert told in "\n".join(faults_of(tmp_path, text))


def test_what_is_wanted_is_said_in_words():
    assert KEYS["api.request_timeout"].kind.wanted == "a time from 1ms to 1h with its unit (ns, us, ms, s, min, h, d)"
    assert KEYS["storage.cache_size"].kind.wanted.startswith('a size from 1MB to 1024TB, such as "64MB", or')


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "x", environment={})
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "y", environment={})


def test_a_mark_of_utf8_before_the_file_is_no_part_of_it(tmp_path):
    text = "\ufeff[general]\r\nnode_id = 'a'\r\n"
    assert settings_of(tmp_path, text).general.node_id == "a"
    assert settings_of(tmp_path, with_values(text, {"general.log_level": "debug"})).general.log_level == "debug"


def test_command_line_beats_environment_beats_file(tmp_path):
    text = "[storage]\ncache_size = '2MB'\nio_queue_depth = 1\nprefetch_size = 0\n"
    environment = {"VEXFS_STORAGE__CACHE_SIZE": "3MB", "VEXFS_STORAGE__IO_QUEUE_DEPTH": "2", "VEXFS_SIMD": "avx2"}
    settings = settings_of(tmp_path, text, environment, ["storage.cache_size=4MB"])
    assert (settings.storage.cache_size, settings.storage.io_queue_depth) == (4 << 20, 2)
    origins = [settings.origin(f"storage.{name}").kind for name in ("cache_size", "io_queue_depth", "prefetch_size")]
    assert origins == ["command line", "environment", "file"]
    assert settings.origin("api.rest_bind").kind == "default"


def test_words_of_the_environment_need_no_quotes(tmp_path):
    environment = {
        "VEXFS_CLUSTER__SEED_NODES": "a:1,b:2", "VEXFS_API__REST_ENABLED": "false", "VEXFS_GENERAL__NODE_ID": "17",
    }  # fmt: skip
    settings = settings_of(tmp_path, "", environment)
    assert [str(e) for e in settings.cluster.seed_nodes] == ["a:1", "b:2"]
    assert settings.api.rest_enabled is False
    assert settings.general.node_id == "17"


def test_faults_of_environment_and_command_line_say_where(tmp_path):
    found = faults_of(tmp_path, "", environment={"VEXFS_API__REST_ENABLED": "maybe", "VEXFS_APY__X": "1"},
                      overrides=["foo=1", "api.x=2"])  # fmt: skip
    assert found == [
        "VEXFS_API__REST_ENABLED: api.rest_enabled is 'maybe', and must be true or false",
        "VEXFS_APY__X: there is no section [apy]; did you mean [api]?",
        "--set foo=1: write --set section.key=value",
        f"--set api.x=2: x is no key of [api]; there are {', '.join(p[4:] for p in KEYS if p.startswith('api.'))}",
    ]


def test_lines_are_found_behind_multi_line_strings_and_in_dotted_keys(tmp_path):
    text = 'api.rest_bnd = 1\n[general]\nnode_id = """\n[storage]\ncache_size = 1\n"""\nlog_keep = -1\n'
    found = faults_of(tmp_path, text)
    assert [fault.split(": ")[0] for fault in found] == ["node.conf:1", "node.conf:3", "node.conf:7"]
