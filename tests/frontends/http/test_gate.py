import json
import select
import socket
import ssl
import threading
import time

import pytest
from vexfs.frontends.http.connection import LINGER_S

from tests.waiting import until


def test_no_token_wrong_token_wrong_scope(served):
    none = served.ask("GET", "/v1/files", token="")
    assert none.status == 401 and none.headers["WWW-Authenticate"].startswith("Bearer")
    for bad in ("x", "vex_0123456789ab_" + "A" * 43, served.token[:-1], served.token + "A"):
        got = served.ask("GET", "/v1/files", token=bad)
        assert got.status == 401 and "invalid_token" in got.headers["WWW-Authenticate"]
    assert served.ask("GET", "/v1/files", token="", headers={"Authorization": "Basic eDp5"}).status == 401
    reader = served.node.tokens.create("reader", ["read"])[0]
    assert served.ask("GET", "/v1/files", token=reader).status == 200
    assert served.ask("PUT", "/v1/files/x", b"x", token=reader).status == 403
    assert served.ask("GET", "/v1/config", token=reader).status == 403
    assert served.ask("GET", "/v1/performance", token=reader).status == 403
    call = {"calls": [{"op": "mkdir", "args": ["/x"]}]}
    assert served.ask("POST", "/v1/operations", call, token=reader).json["fault"]["error"] == "NotPermitted"
    open_ = {"calls": [{"op": "open", "args": ["/x", 0o101, 0o644]}]}
    assert served.ask("POST", "/v1/operations", open_, token=reader).json["fault"]["error"] == "NotPermitted"


def test_revoked_and_expired_at_once(served):
    text, _ = served.node.tokens.create("brief", ["read"], lifetime_s=0.5)
    other, known = served.node.tokens.create("gone", ["read"])
    link = served.connection()
    assert served.ask("GET", "/v1/files", token=other, connection=link).status == 200
    served.node.tokens.revoke(known.id)
    assert "revoked" in served.ask("GET", "/v1/files", token=other, connection=link).json["detail"]
    time.sleep(0.6)
    assert "expired" in served.ask("GET", "/v1/files", token=text).json["detail"]


@pytest.fixture
def mine(served):
    """A token for /mine alone, and links that lead out of it."""
    fs = served.node.volume
    fs.makedirs("/mine/sub", exist_ok=True)
    fs.makedirs("/other", exist_ok=True)
    fs.write_text("/other/secret", "secret")
    fs.write_text("/mine/ok", "ok")
    fs.symlink("/other", "/mine/out")
    fs.symlink("../other/secret", "/mine/link")
    yield served.node.tokens.create("mine", ["read", "write"], ["/mine"])[0]
    fs.rmtree("/mine")
    fs.rmtree("/other")


@pytest.mark.parametrize(
    "path",
    ["/other/secret", "/mine/../other/secret", "/mine/%2e%2e/other/secret", "/mine/..%2fother/secret",
     "/mine/%2e%2e%2fother%2fsecret", "/mine/out/secret", "/mine/link", "//other/secret", "/./other/secret",
     "/mine/./../other/secret", "/mine%00/../other/secret", "/other%2fsecret", "/mine/out/%2e/secret", "/.vexfs/x"],
)  # fmt: skip
def test_nothing_leads_out_of_a_tokens_paths(served, mine, path):
    for method, body in (("GET", None), ("PUT", b"x"), ("DELETE", None), ("PATCH", {"mode": 0o600})):
        if (method, path) == ("DELETE", "/mine/link"):
            continue  # the link itself is the token's own
        got = served.ask(method, f"/v1/files{path}", body, token=mine)
        assert got.status in (400, 403, 404), (method, got)
        assert got.body != b"secret"
    name = path.replace("%2e", ".").replace("%2f", "/").replace("%00", "\0")
    for op, args in (("read_file", []), ("stat", []), ("write_file", ["x"]), ("unlink", []), ("open", [0]),
                     ("truncate", [0]), ("chmod", [0o777]), ("rename", ["/mine/new"])):  # fmt: skip
        if path == "/mine/link" and op in ("unlink", "rename", "stat"):
            continue
        got = served.ask("POST", "/v1/operations", {"calls": [{"op": op, "args": [name, *args]}]}, token=mine)
        assert got.status in (400, 404) or got.json["fault"]["error"] in ("NotPermitted", "NotFound"), (op, got)
    assert served.node.volume.read_text("/other/secret") == "secret"


def test_a_token_with_paths_sees_its_own(served, mine):
    assert [e["name"] for e in served.ask("GET", "/v1/files", token=mine).json["entries"]] == ["mine"]
    assert served.ask("GET", "/v1/files/mine/ok", token=mine).body == b"ok"
    assert served.ask("PUT", "/v1/files/mine/sub/new", b"x", token=mine).status == 201
    moved = served.ask("PATCH", "/v1/files/mine/ok", {"rename_to": "/other/ok"}, token=mine)
    assert moved.status == 403 and served.node.volume.exists("/mine/ok")
    assert served.ask("PATCH", "/v1/files/mine/ok", {"rename_to": "/mine/out/ok"}, token=mine).status == 403
    assert served.ask("DELETE", "/v1/files/mine/link", token=mine).status == 204


def test_an_open_file_is_its_tokens_alone(served, mine):
    answer = served.ask("POST", "/v1/operations", {"calls": [{"op": "open", "args": ["/mine/ok", 0]}]}, token=mine)
    handle = answer.json["results"][0][0]
    read = {"calls": [{"op": "read", "args": [handle, 10, 0]}]}
    assert served.ask("POST", "/v1/operations", read, token=mine).json["results"]
    assert served.ask("POST", "/v1/operations", read).json["fault"]["error"] == "BadHandle"
    write = {"calls": [{"op": "write", "args": [handle, "eA==", 0]}]}
    assert served.ask("POST", "/v1/operations", write, token=mine).json["fault"]["error"] == "BadHandle"


def raw(served, data, wait=120.0):
    with socket.create_connection(served.host.split(":"), timeout=wait) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while piece := link.recv(65536):
                found += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return found


@pytest.mark.parametrize(
    "data",
    [b"\r\n\r\n\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
     b"GET /v1/files HTTP/1.1\r\n\r\n", b"GET /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"GET /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
     b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"PUT /v1/files/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
     b"GET /v1/files HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /v1/files HTTP/1.1\r\nHost : x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"CONNECT a:1 HTTP/1.1\r\n\r\n",
     b"GET /v1/files HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_the_node_lives(served, data):
    found = raw(served, data)
    assert found == b"" or found.startswith(b"HTTP/1.1 4"), found[:100]
    assert served.ask("GET", "/v1/files").status == 200


def test_headers_without_end_are_cut_off(served):
    assert raw(served, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"a" * 100_000).startswith(b"HTTP/1.1 431")
    assert raw(served, b"GET /" + b"a" * 100_000).startswith(b"HTTP/1.1 4")
    assert raw(served, b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(10_000))).startswith(
        b"HTTP/1.1 431"
    )


def test_a_reply_splits_at_no_header_that_a_client_sends(served):
    found = raw(served, b"GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0d%0aSet-Cookie: b\r\n\r\n")
    assert b"Set-Cookie" not in found.partition(b"\r\n\r\n")[0]


def test_pipelined_requests_are_answered_in_order(served):
    head = f"Host: x\r\nAuthorization: Bearer {served.token}\r\n".encode()
    served.ask("PUT", "/v1/files/pipe", b"first")
    request = b"GET /v1/files/pipe HTTP/1.1\r\n" + head + b"\r\n"
    put = b"PUT /v1/files/pipe HTTP/1.1\r\n" + head + b"Content-Length: 6\r\n\r\nsecond"
    found = raw(served, request + put + request + b"GET /v1/none HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
    assert [part.split(b" ")[0] for part in found.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]
    assert found.index(b"first") < found.index(b"second")
    flood = raw(served, request * 100)
    assert flood.count(b"HTTP/1.1 ") <= 100 and served.ask("GET", "/v1/files").status == 200


def test_expect_100_continue(served):
    with socket.create_connection(served.host.split(":"), timeout=120) as link:
        link.sendall(f"PUT /v1/files/e HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.token}\r\n"
                     "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n".encode())  # fmt: skip
        assert link.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"abc")
        assert b"201 Created" in link.recv(4000)
    assert served.node.volume.read_text("e") == "abc"


@pytest.mark.parametrize(
    ("token", "request_line", "header", "status"),
    [("none", "PUT /v1/files/refused", "Content-Length: 3\r\nExpect: 100-continue", 401),
     (None, "POST /v1/operations", "Content-Length: 1000000000000", 413)],
)  # fmt: skip
def test_who_is_refused_is_told_before_the_body_is_sent(served, token, request_line, header, status):
    with socket.create_connection(served.host.split(":"), timeout=120) as link:
        link.sendall(f"{request_line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token or served.token}\r\n"
                     f"{header}\r\n\r\n".encode())  # fmt: skip
        assert link.recv(4000).startswith(b"HTTP/1.1 %d " % status)
        link.sendall(b"x" * 3)  # the reply is not lost to what is still sent
        assert link.recv(4000) == b""
    assert not served.node.volume.exists("refused")


def test_no_second_request_keeps_a_refused_connection(served):
    refused = b"PUT /v1/files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    with socket.create_connection(served.host.split(":"), timeout=120) as link:
        link.sendall(refused + b"GET /v1/files HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(4000).startswith(b"HTTP/1.1 401 ")
        time.sleep(LINGER_S + 1)
        with pytest.raises(ConnectionError):  # nobody reads it any more
            for _ in range(600):
                link.sendall(b"x" * 1000)
                time.sleep(0.05)


def test_what_several_operations_answer_is_bounded(serve):
    served = serve("api.max_body_size=100KB")
    served.node.volume.write_bytes("f", b"x" * 60_000)
    read = {"op": "read_file", "args": ["/f"]}
    assert len(served.ask("POST", "/v1/operations", {"calls": [read] * 2}).json["results"]) == 2
    refused = served.ask("POST", "/v1/operations", {"calls": [read] * 1000})
    assert refused.status == 413 and "the first 2 of 1000 calls answer 120000 bytes" in refused.json["detail"]
    for n in range(100):
        served.node.volume.write_bytes(f"{'n' * 250}{n}", b"")
    listing = {"op": "scandir", "args": ["/"]}
    assert served.ask("POST", "/v1/operations", {"calls": [listing] * 1000}).status == 413


def test_oversized(serve):
    served = serve("api.max_body_size=1KB", "api.max_file_size=2KB")
    body = {"calls": [{"op": "read_file", "args": ["x" * 2000]}]}
    assert served.ask("POST", "/v1/operations", body).status == 413
    assert served.ask("PUT", "/v1/files/x", b"x" * 3000).status == 413
    link = served.connection()
    try:
        link.request("PUT", "/v1/files/x", (b"x" * 500 for _ in range(10)), {"Authorization": f"Bearer {served.token}"},
                     encode_chunked=True)  # fmt: skip
        assert link.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert served.node.volume.listdir("/") == []
    assert served.ask("PUT", "/v1/files/x", b"x" * 2000).status == 201


def test_slow_clients_are_dropped_and_hold_nobody_up(serve):
    served = serve("api.request_timeout=1h", "api.keepalive_timeout=1s")
    address = served.host.split(":")
    idle = [socket.create_connection(address) for _ in range(300)]
    for link in idle[:100]:
        link.sendall(b"GET /v1/fi")

    def slow():
        link = socket.create_connection(address, timeout=120)
        link.sendall(f"PUT /v1/files/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.token}\r\n"
                     "Content-Length: 100\r\n\r\nxx".encode())  # fmt: skip
        return link

    waited_for = slow()
    assert served.ask("GET", "/v1/files").status == 200
    assert not select.select([waited_for], [], [], 0)[0]
    served.node.change({"api.request_timeout": "1s"})
    dropped = slow()
    assert dropped.recv(1000).startswith(b"HTTP/1.1 408")
    served.node.change({"api.request_timeout": "1h"})
    assert not served.node.volume.exists("slow") and served.node.volume.listdir("/") == []
    kept = served.connection()
    assert served.ask("GET", "/v1/files", connection=kept).status == 200
    assert kept.sock.recv(10) == b""  # idle after a reply
    for link in [*idle, waited_for, dropped]:
        link.close()


def test_a_reader_that_does_not_read_is_dropped(serve):
    served = serve("api.request_timeout=1s")
    served.node.volume.write_bytes("big", bytes(32 << 20))
    figures = served.node.services["rest"].service.figures
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((served.host.split(":")[0], int(served.host.split(":")[1])))
        link.sendall(f"GET /v1/files/big HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.token}\r\n\r\n".encode())
        assert link.recv(1) == b"H"
        until(lambda: figures()["active"] == figures()["connections"] == 0)


def test_a_request_that_takes_too_long_is_answered(serve, monkeypatch):
    served = serve("api.request_timeout=500ms")
    release = threading.Event()
    served.node.verb("node.sleep")(lambda node: release.wait(60))
    link = served.connection()
    got = served.ask("POST", "/v1/verbs/node.sleep", {}, connection=link)
    assert got.status == 504 and "request_timeout" in got.json["detail"] and got.headers["Connection"] == "close"
    release.set()
    until(lambda: served.ask("GET", "/v1/files").status == 200)


def test_more_requests_than_allowed_are_told_so(serve):
    served = serve("api.max_concurrent_requests=2")
    release = threading.Event()
    served.node.verb("node.sleep")(lambda node: release.wait(60))
    answers = []

    def ask():
        answers.append(served.ask("POST", "/v1/verbs/node.sleep", {}))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    while served.node.services["rest"].service.figures()["active"] < 2:
        time.sleep(0.01)
    got = served.ask("GET", "/v1/files")
    assert got.status == 503 and got.headers["Retry-After"] == "1" and "2 requests are under way" in got.json["detail"]
    release.set()
    for thread in threads:
        thread.join()
    assert [a.status for a in answers] == [200, 200]
    assert served.ask("GET", "/v1/files").status == 200


def test_a_rate_for_each_token(serve):
    served = serve("api.rate_limit=5")
    link = served.connection()
    statuses = [served.ask("GET", "/v1/files", connection=link).status for _ in range(5)]
    assert statuses == [200] * 5
    until(lambda: served.ask("GET", "/v1/files", connection=link).status == 429)
    other = served.node.tokens.create("other", ["read"])[0]
    assert served.ask("GET", "/v1/files", token=other).status == 200


def test_other_sites_may_not(serve):
    served = serve("api.auth_required=false", 'api.cors_origins=["https://good.example"]')
    assert served.ask("GET", "/v1/files", token="").status == 200
    assert served.ask("GET", "/v1/files", token="", headers={"Origin": "https://bad.example"}).status == 403
    assert served.ask("GET", "/v1/files", token="", headers={"Host": "rebound.example"}).status == 403
    good = served.ask("OPTIONS", "/v1/files/x", token="", headers={"Origin": "https://good.example"})
    assert good.status == 204 and good.headers["Access-Control-Allow-Origin"] == "https://good.example"
    same = served.ask("GET", "/v1/files", token="", headers={"Origin": f"http://{served.host}"})
    assert same.status == 200 and "Access-Control-Allow-Origin" not in same.headers


def test_the_log_holds_no_secret(serve):
    served = serve()
    served.ask("GET", "/v1/files?meta=true")
    served.ask("GET", "/v1/files", token=served.token[:-1])
    made = served.ask("POST", "/v1/tokens", {"name": "x"}).json["token"]
    assert "GET /v1/files 200" in served.log and "401" in served.log
    for secret in (served.token, served.token.split("_", 2)[2], made, made.split("_", 2)[2]):
        assert secret not in served.log


def test_stop_answers_what_is_under_way(serve):
    served = serve()
    begun, answers = threading.Event(), []

    @served.node.verb("node.nap")
    def nap(node):
        begun.set()
        time.sleep(0.7)
        return "rested"

    thread = threading.Thread(target=lambda: answers.append(served.ask("POST", "/v1/verbs/node.nap", {})))
    thread.start()
    assert begun.wait(60)
    served.node.stop()
    thread.join()
    assert answers[0].status == 200 and answers[0].json == "rested"


# -- TLS


def certificate(directory, name, ca=None):
    """A certificate for localhost and its key, PEM."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(ca[0].subject if ca else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca is None, None), True)
        .sign(ca[1] if ca else key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (directory / f"{name}.crt").write_bytes(made.public_bytes(pem))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


def peer(served, trusted, client=None):
    """The name on the certificate that the node shows, and the status of a request."""
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = False
    if client:
        context.load_cert_chain(f"{client}.crt", f"{client}.key")
    host, port = served.host.split(":")
    with socket.create_connection((host, int(port)), timeout=120) as link:
        with context.wrap_socket(link, server_hostname="localhost") as tls:
            tls.sendall(f"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
                        "Connection: close\r\n\r\n".encode())  # fmt: skip
            reply = tls.recv(4000)
            name = dict(row[0] for row in tls.getpeercert()["subject"])["commonName"]
            return name, reply.split(b" ")[1]


def test_tls_with_reload(serve, tmp_path):
    for name in ("one", "two"):
        certificate(tmp_path, name)
    for end in ("crt", "key"):
        (tmp_path / f"now.{end}").write_bytes((tmp_path / f"one.{end}").read_bytes())
    now = [f"api.tls_{what}_file={tmp_path}/now.{end}" for what, end in (("cert", "crt"), ("key", "key"))]
    served = serve("api.tls_enabled=true", *now)
    assert served.url.startswith("https://")
    assert peer(served, tmp_path / "one.crt") == ("one", b"200")
    for end in ("crt", "key"):
        (tmp_path / f"now.{end}").write_bytes((tmp_path / f"two.{end}").read_bytes())
    assert len(served.node.reload()["read_again"]) >= 2
    assert peer(served, tmp_path / "two.crt") == ("two", b"200")
    (tmp_path / "now.key").write_text("broken")
    with pytest.raises(ValueError, match="no certificate with its key"):
        served.node.reload()
    assert peer(served, tmp_path / "two.crt") == ("two", b"200")


def test_client_certificates(serve, tmp_path):
    authority = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", authority)
    certificate(tmp_path, "client", authority)
    certificate(tmp_path, "stranger")
    served = serve(
        "api.tls_enabled=true", f"api.tls_cert_file={tmp_path}/server.crt", f"api.tls_key_file={tmp_path}/server.key",
        f"api.tls_client_ca_file={tmp_path}/ca.crt",
    )  # fmt: skip
    assert peer(served, tmp_path / "ca.crt", tmp_path / "client") == ("server", b"200")
    for refused in (None, tmp_path / "stranger"):
        with pytest.raises((OSError, IndexError, ValueError)):
            peer(served, tmp_path / "ca.crt", refused)
    served.node.change({"api.tls_client_ca_file": str(tmp_path / "stranger.crt")})
    with pytest.raises((OSError, IndexError, ValueError)):
        peer(served, tmp_path / "ca.crt", tmp_path / "client")
    served.node.change({"api.tls_client_ca_file": ""})
    assert peer(served, tmp_path / "ca.crt") == ("server", b"200")


def test_a_port_that_is_taken_is_a_clear_message(served, serve):
    with pytest.raises(ValueError, match=r"api\.rest_bind: .* cannot be bound: Address already in use"):
        serve(f"api.rest_bind={served.host}")


def test_the_node_tells_about_itself(served):
    about = served.ask("GET", "/v1/node").json
    assert about["scopes"] == ["read", "write", "watch", "admin"] and about["version"]
    assert served.ask("GET", "/v1/status").json["services"]["rest"]["state"] == "serving"
    assert served.ask("GET", "/v1/performance").json["pools"]["counts"] == [128, 64, 32]
    assert "operations" not in served.ask("GET", "/v1/performance/pools").json
    assert served.ask("GET", "/v1/performance/none").status == 404
    changed = served.ask("PATCH", "/v1/config", {"values": {"performance_optimizations.small_buffer_count": 200}})
    assert changed.json["applied"] == ["performance_optimizations.small_buffer_count"]
    assert served.ask("GET", "/v1/performance/pools").json["counts"] == [200, 64, 32]
    assert served.ask("PATCH", "/v1/config", {"values": {"api.rest_bind": "x"}}).status == 400
    assert served.ask("POST", "/v1/verbs/volume.sync", {}).status == 200
    assert served.ask("POST", "/v1/verbs/volume.none", {}).status == 404
    assert "node.status" in served.ask("GET", "/v1/verbs").json
    made = served.ask("POST", "/v1/tokens", {"name": "web", "scopes": ["read"], "prefixes": ["/a"]})
    assert made.status == 201 and json.loads(made.body)["token"].startswith("vex_")
    assert served.ask("DELETE", "/v1/tokens/web").json[0]["state"] == "revoked"
    assert served.ask("POST", "/v1/tokens", {"name": "web", "scopes": ["root"]}).status == 400
