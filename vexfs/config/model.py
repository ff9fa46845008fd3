"""Every key of a node's configuration: its kind, its default, what it does, and whether it can change while running.

The reference page and the commented default file are made from these classes (:mod:`vexfs.config.reference`).
"""

# ruff: noqa: RUF009 - `_key` makes a field of attrs

import socket
from typing import Any

import attrs

from vexfs.config.kinds import Bind, Choice, Duration, Endpoint, Kind, Listing, Place, Share, Size, Switch, Text, Whole

_COUNT = Whole(0, 1 << 19)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


def _key(kind: Kind, default: Any, about: str, *, live: bool = False) -> Any:
    """One key.  `default` is written as the file would; `live`: a reload applies it, else it waits for a restart."""
    metadata = {"kind": kind, "about": about, "live": live}
    if callable(default):
        return attrs.field(factory=default, metadata=metadata)
    return attrs.field(default=kind.read(default), metadata=metadata)


@attrs.frozen(kw_only=True)
class General:
    """The node itself: names, places, log."""

    node_id: str = _key(Text("1 to 63 letters, digits, dots, dashes, underscores", _NAME), lambda: _host_name(),
                        "Name of this node in logs, metrics and answers; the host's name by default.")
    cluster_name: str = _key(Text("1 to 63 letters, digits, dots, dashes, underscores", _NAME), "vexfs",
                             "Name of the cluster, shown with every metric and answer.")
    data_dir: str = _key(Place(), "/var/lib/vexfs",
                         "Where the node keeps its state: the volume in `volume.vex`, API tokens in `tokens.json`.")
    log_dir: str = _key(Place("standard error, and so the journal"), "",
                        "Directory of `vexfs.log` and its rotated predecessors.", live=True)
    log_level: str = _key(Choice(("debug", "info", "warning", "error")), "info",
                          "The least important kind of message that is logged.", live=True)
    log_format: str = _key(Choice(("text", "json")), "text", "One line or one JSON object a message.", live=True)
    log_max_size: int = _key(Size(4096, 1 << 40), "64MB", "Size at which the log file is rotated.", live=True)
    log_keep: int = _key(Whole(0, 1000), 5, "How many rotated log files are kept; with 0 the file begins anew.",
                         live=True)
    control_socket: str = _key(Place("no control socket"), "/run/vexfs/control.sock",
                               "UNIX socket of `vexctl`, mode 0600.")
    run_as: str = _key(Text("USER or USER:GROUP, or empty to stay who started it", r"([\w.-]+(:[\w.-]+)?)?"), "",
                       "Who the node becomes after it has bound its ports and read its private keys as root.")
    stop_timeout: float = _key(Duration("1s", "10min"), "30s",
                               "How long a stop waits for requests under way before it ends them.", live=True)


@attrs.frozen(kw_only=True)
class Mount:
    """The volume as a disk of the host."""

    mountpoint: str = _key(Place("no mount"), "", "An existing, empty directory.")
    options: str = _key(Text("mount options, separated by commas"), "",
                        "As behind `vexfs mount -o`; `nosuid` and `nodev` unless it says `suid`, `dev`; what [storage] "
                        "has a key for stands there.")  # fmt: skip


@attrs.frozen(kw_only=True)
class Performance:
    """Memory pools, SIMD, stack accounting, bridge."""

    enable_tiered_memory_pools: bool = _key(Switch(), True, "Off: plain aligned allocation, uncounted.", live=True)
    enable_avx2_acceleration: bool = _key(Switch(), True, "Off: scalar distance kernels.", live=True)
    enable_stack_optimization: bool = _key(
        Switch(), True, "Off: stack use is neither bounded nor accounted; scratch goes where the plain code puts it.",
        live=True)
    enable_enhanced_bridge: bool = _key(
        Switch(), True, "Off: every operation wakes the committer itself; nothing is queued or batched.")
    small_buffer_count: int = _key(_COUNT, 128, "Buffers of 1 KiB.", live=True)
    medium_buffer_count: int = _key(_COUNT, 64, "Buffers of 4 KiB.", live=True)
    large_buffer_count: int = _key(_COUNT, 32, "Buffers of 16 KiB.", live=True)
    pool_hit_rate_target: float = _key(
        Share(), 0.90, "Share of requests for pools to serve; figures and advice are held against it.", live=True)
    auto_detect_simd: bool = _key(
        Switch(), True, "Use the best kernels that this processor has.  Off: scalar unless `force_avx2`.", live=True)
    force_avx2: bool = _key(
        Switch(), False, "Use AVX2 even where better is there; refuse to start where it is not.", live=True)
    enable_avx512: bool = _key(Switch(), True, "Allow AVX-512 kernels.", live=True)
    simd_batch_size: int = _key(Whole(1, 1 << 20), 1024, "Vectors that a kernel is handed at a time.", live=True)
    fuse_stack_limit: int = _key(Whole(256, 1 << 20, "bytes"), 3072,
                                 "C stack that one operation may use; deeper is a counted violation.", live=True)
    enable_stack_monitoring: bool = _key(
        Switch(), True, "Measure the stack use of every operation.  Off: its bounds hold, and nothing is counted.",
        live=True)
    heap_threshold: int = _key(Whole(0, 1 << 20, "bytes"), 1024,
                               "Scratch above this comes from the pools instead of the stack.", live=True)
    enable_batch_processing: bool = _key(Switch(), True, "Off: the bridge hands changes on one by one.", live=True)
    batch_size: int = _key(Whole(1, 4096), 100, "The most changes that the bridge hands on at once.", live=True)
    priority_scheduling: bool = _key(
        Switch(), True, "The bridge serves high, medium and low priority 3 : 2 : 1.  Off: alike.", live=True)
    lazy_sync: bool = _key(
        Switch(), True, "Let a batch wait to fill, for a third of `target_latency_ns` at most.", live=True)
    target_latency_ns: int = _key(Duration("1us", "10s", "ns", as_ns=True), 1_000_000,
                                  "The bridge's latency bound, and what its figures are held against.", live=True)


@attrs.frozen(kw_only=True)
class Cluster:
    """Several nodes with one namespace.  This version has none of it: a node that is told to join one says so."""

    enabled: bool = _key(Switch(), False, "Join a cluster.  Not there yet: the node works alone and reports it.")
    bind_address: Endpoint = _key(Bind(), "127.0.0.1:7000", "Where other nodes would reach this one.")
    advertise_address: Endpoint | None = _key(Bind("the same as bind_address"), "", "The address told to others.")
    seed_nodes: tuple[Endpoint, ...] = _key(Listing(Bind()), [], "Nodes that are asked first.")
    replication_factor: int = _key(Whole(1, 7), 3, "Copies of every acknowledged change in a cluster.")


@attrs.frozen(kw_only=True)
class Storage:
    """The volume and its files on the host."""

    backend: str = _key(Choice(("local",)), "local", "Where segments live: a directory of this host.")
    cache_size: int = _key(Size(1 << 20), "64MB", "Memory for decoded file data.")
    compression: str = _key(Choice(("lz4", "none")), "lz4", "Of what is written from now on.")
    encryption: bool = _key(Switch(), False, "Whether the volume is encrypted; decided when it is made.")
    encryption_key_file: str = _key(Place("none"), "", "Made when the volume is made; keep a copy elsewhere.")
    enable_direct_io: bool = _key(Switch(), False, "Bypass the host's page cache for file data.")
    io_queue_depth: int = _key(Whole(1, 1024), 32, "Reads and writes of segments under way at once.")
    prefetch_size: int = _key(Size(0, 1 << 30), "4MB", "How far sequential reads are read ahead; 0 is not at all.")


@attrs.frozen(kw_only=True)
class Api:
    """REST and WebSocket."""

    rest_enabled: bool = _key(Switch(), True, "Serve REST and the web page.")
    rest_bind: Endpoint = _key(Bind(), "127.0.0.1:8080", "Address of REST and the web page.")
    websocket_enabled: bool = _key(Switch(), True, "Serve WebSocket subscriptions.")
    websocket_bind: Endpoint = _key(Bind(), "127.0.0.1:8081", "Address of WebSocket.")
    tls_enabled: bool = _key(Switch(), False, "TLS on both; the certificate is read again on reload.")
    tls_cert_file: str = _key(Place("none"), "", "Certificate chain, PEM.", live=True)
    tls_key_file: str = _key(Place("none"), "", "Private key, PEM.", live=True)
    tls_client_ca_file: str = _key(Place("no client certificates"), "",
                                   "Clients must show a certificate signed by these authorities.", live=True)
    auth_required: bool = _key(
        Switch(), True, "Every request needs a token (`vexctl token create`).  Off only on loopback addresses.")
    max_concurrent_requests: int = _key(Whole(1, 100_000), 2000, "More are answered 503 at once.", live=True)
    request_timeout: float = _key(Duration("1ms", "1h"), "30s",
                                  "A request that takes longer is answered 504, a body that stalls as long 408.",
                                  live=True)
    keepalive_timeout: float = _key(Duration("1s", "1h"), "5s", "How long an idle connection is kept.")
    max_body_size: int = _key(Size(1024, 1 << 40), "64MB",
                              "Largest body of a request, but for the content of files.", live=True)
    max_file_size: int = _key(Size(1024, 1 << 44), "1TB", "Largest file that may be uploaded.", live=True)
    rate_limit: int = _key(Whole(0, 1_000_000), 0, "Requests a second for each token; 0 is no limit.", live=True)
    cors_origins: tuple[str, ...] = _key(
        Listing(Text("an origin such as https://example.org", r"https?://[A-Za-z0-9.:\[\]-]+")), [],
        "Web pages of these origins may use the API.", live=True)


@attrs.frozen(kw_only=True)
class Monitoring:
    """Metrics and health."""

    metrics_enabled: bool = _key(Switch(), True, "Serve metrics and health at all.")
    metrics_bind: Endpoint = _key(Bind(), "127.0.0.1:9090", "Address of `/metrics`.")
    health_check_bind: Endpoint = _key(Bind(), "127.0.0.1:9091",
                                       "Address of `/health`, `/ready` and `/detailed-metrics`.")
    prometheus_enabled: bool = _key(Switch(), True, "Serve `/metrics` in Prometheus' format.")
    enable_performance_metrics: bool = _key(
        Switch(), True, "Measure rates and keep their history.  Off: the gauges read 0.", live=True)
    metrics_collection_interval: float = _key(Duration("100ms", "1h"), "1s", "How often rates are measured.", live=True)
    detailed_timing: bool = _key(
        Switch(), False, "Time every operation instead of one in 64.", live=True)


def _host_name() -> str:
    """The host's name as far as a node may bear it."""
    kept = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c in "._-"))[:63]
    return kept if kept[:1].isalnum() else "node"


#: The sections of the file, in its order.
SECTIONS: dict[str, type] = {
    "general": General,
    "mount": Mount,
    "performance_optimizations": Performance,
    "cluster": Cluster,
    "storage": Storage,
    "api": Api,
    "monitoring": Monitoring,
}


@attrs.frozen
class Key:
    """One key as the program sees it."""

    section: str
    name: str
    kind: Kind
    about: str
    live: bool
    default: Any

    @property
    def path(self) -> str:
        """``section.name``."""
        return f"{self.section}.{self.name}"


def _keys() -> dict[str, Key]:
    found = {}
    for section, cls in SECTIONS.items():
        defaults = cls()
        for field in attrs.fields(cls):
            key = Key(section, field.name, default=getattr(defaults, field.name), **field.metadata)
            found[key.path] = key
    return found


#: Every key by its path.
KEYS: dict[str, Key] = _keys()
