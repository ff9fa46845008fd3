"""The web page in a real browser: by keyboard, on a phone, with hostile names."""

import json
import os
from pathlib import Path

import pytest

from tests.frontends.http import browser

needs_browser = pytest.mark.skipif(browser.PROGRAM is None, reason="Chromium is not installed")
PICTURES = os.environ.get("VEXFS_TEST_PICTURES")


@pytest.fixture
def page(tmp_path):
    made = browser.Browser(tmp_path)
    yield made
    made.close()


def picture(page, name):
    if PICTURES:
        page.picture(Path(PICTURES) / f"{name}.png")


def fill(fs):
    fs.write_text("/notes/coffee/roasts.md", "# Roasts\n\nLight roasts keep their acidity: bright, sour, floral cups.\n"
                  "\nDark roasts taste of caramel and smoke.\n")  # fmt: skip
    fs.write_text("/notes/bread.md", "A sourdough starter is fed with flour and water every day.\n")
    fs.write_text("/notes/sea.md", "The tide comes in twice a day, and the moon pulls it.\n")
    fs.attributes("/notes/coffee/roasts.md")["year"] = 2021
    fs.write_text("/notes/<img src=x onerror=alert(1)>.txt", "<script>document.title = 'broken'</script> coffee")
    fs.write_bytes("/notes/data.bin", bytes(range(256)))
    if hasattr(type(fs), "search"):
        fs.index("/notes", embedder="default")
        fs.ingest.wait() if hasattr(fs.ingest, "wait") else None


def test_the_page_ships_and_lets_nothing_else_in(served):
    got = served.ask("GET", "/", token="")
    assert got.status == 200 and b"<title>VexFS" in got.body
    assert "script-src 'self'" in got.headers["Content-Security-Policy"]
    for path, media in (("/app.js", "text/javascript"), ("/style.css", "text/css")):
        got = served.ask("GET", path, token="")
        assert got.status == 200 and got.headers["Content-Type"].startswith(media)
        assert b"http://" not in got.body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in got.body
    assert served.ask("GET", "/static/../app.js", token="").status == 404


@needs_browser
def test_entering_browsing_figures(serve, page):
    served = serve()
    fill(served.node.volume)
    page.size(1200, 800)
    page.do("Page.navigate", url=served.url)
    page.until("!document.getElementById('entry').hidden")
    page.type("vex_wrong")
    page.key("Enter")
    page.until("document.getElementById('message').textContent.includes('no token')")
    page.type(served.token)
    page.key("Enter")
    page.until("document.activeElement.id === 'text'")
    if hasattr(type(served.node.volume), "search"):
        page.type("bright acidity of coffee")
        page.key("Enter")
        page.until("document.querySelector('#hits li a')?.textContent === '/notes/coffee/roasts.md'")
        assert "acidity" in page.run("document.querySelector('#hits p').textContent")
        assert page.run("document.querySelectorAll('#hits mark').length") >= 2
        picture(page, "search")
        ask = "document.getElementById('where').value = {!r}; document.getElementById('ask').requestSubmit()"
        page.run(ask.format("year >= 2022"))
        page.until("document.getElementById('message').textContent === 'Nothing was found.'")
        page.run(ask.format("year"))
        page.until("document.getElementById('message').textContent.includes('is no condition')")
        page.run("history.go(-2)")
        page.until("document.querySelector('#hits li a')?.textContent === '/notes/coffee/roasts.md'")
        assert page.run("location.hash") == "#search/?text=bright+acidity+of+coffee"
        assert page.run("document.getElementById('text').value") == "bright acidity of coffee"
        page.run("location.hash = '#search'")
        page.until("document.getElementById('message').textContent === '4 files in /notes can be found.'")
    page.run("location.hash = '#browse/notes'")
    page.until("document.querySelectorAll('#entries a').length === 5")
    page.run("[...document.querySelectorAll('#entries a')].find((a) => a.textContent.startsWith('<img')).click()")
    page.until("document.querySelector('#content pre')?.textContent.includes('<script>')")
    assert page.run("document.title") == "VexFS" and not page.run("document.querySelector('#entries img')")
    picture(page, "browse")
    page.run("location.hash = '#browse/notes/data.bin'")
    page.until("document.getElementById('content').textContent === 'no text'")
    page.run("location.hash = '#indexes'")
    if hasattr(type(served.node.volume), "search"):
        page.until("document.querySelector('#list h2')?.textContent === '/notes'")
        assert page.run("document.querySelector('#list summary').textContent") == "Not indexed: 1"
        assert "/notes/data.bin: binary data" in page.run("document.querySelector('#list details').textContent")
        picture(page, "indexes")
    page.run("location.hash = '#figures'")
    page.until("document.getElementById('feed').textContent === 'Live, every second.'")
    for i in range(300):
        served.node.volume.write_text(f"/busy/{i}", "x")
    page.until("document.querySelectorAll('figure path').length === 9")
    page.until("document.querySelector('figure path').getAttribute('d').split('L').length > 3")
    assert page.run("document.querySelectorAll('figure line').length") == 3
    picture(page, "figures")
    page.run("document.getElementById('leave').click()")
    page.until("!document.getElementById('entry').hidden")
    assert page.run("sessionStorage.getItem('token')") is None
    refused = [text for text in page.complaints if "401" not in str(text)]
    assert not refused, refused


@needs_browser
def test_on_a_phone_and_by_keyboard(serve, page):
    served = serve("api.auth_required=false")
    fill(served.node.volume)
    page.size(360, 740)
    page.do("Page.navigate", url=f"{served.url}/#browse/notes")
    page.until("document.querySelectorAll('#entries a').length === 5")
    assert page.run("document.documentElement.scrollWidth <= 360")
    for _ in range(30):
        page.key("Tab")
        if page.run("document.activeElement.textContent === 'bread.md'"):
            break
    page.key("Enter")
    page.until("document.querySelector('#content pre')?.textContent.startsWith('A sourdough')")
    assert page.run("document.documentElement.scrollWidth <= 360")
    picture(page, "phone-browse")
    page.run("location.hash = '#figures'")
    page.until("document.querySelectorAll('figure').length === 9")
    assert page.run("document.documentElement.scrollWidth <= 360")
    picture(page, "phone-figures")
    assert not page.complaints


ENTRY = "document.getElementById('entry')"
MESSAGE = "document.getElementById('message').textContent"


def shows(page, address, script, wanted):
    page.run(f"location.hash = {json.dumps(address)}")
    page.until(f"{script}.includes({json.dumps(wanted)})")


@needs_browser
def test_names_links_and_codings(serve, page):
    """What a directory can hold: names that are no UTF-8 or read otherwise than they are, links, other codings."""
    served = serve("api.auth_required=false")
    fs = served.node.volume
    fs.mkdir("/odd")
    for name in (b"\xff\xfebad", "\u202egnp.exe", " ", "a\nb", "100%", "?#"):
        fs.filesystem.write_file(b"/odd/" + os.fsencode(name), b"in " + os.fsencode(name), 0o644)
    fs.write_bytes("/odd/latin", "grün".encode("latin-1"))
    fs.write_bytes("/odd/wide", "weit".encode("utf-16"))
    fs.symlink("wide", "/odd/link")
    fs.symlink("../odd", "/odd/around")
    fs.symlink("nowhere", "/odd/dangling")
    fs.filesystem.mknod("/odd/fifo", 0o010644)
    content = "document.getElementById('content').textContent"
    page.size(1200, 800)
    page.do("Page.navigate", url=f"{served.url}/#browse/odd")
    page.until("document.querySelectorAll('#entries a').length === 12")
    names = page.run("[...document.querySelectorAll('#entries a')].map((a) => a.textContent)")
    assert {"␣", "a\\u000ab", "\\u202egnp.exe", "100%", "?#", "link →"} <= set(names)
    addresses = page.run("[...document.querySelectorAll('#entries a')].map((a) => a.hash)")
    shows(page, next(a for a in addresses if "%ff%fe" in a), content, "bad")
    for name in ("100%", "?#", "␣"):
        page.run(f"location.hash = '#browse/odd'; [...document.querySelectorAll('#entries a')]"
                 f".find((a) => a.textContent === {json.dumps(name)}).click()")  # fmt: skip
        page.until(f"{content} === {json.dumps('in ' + name.replace('␣', ' '))}")
    for name, wanted in (("latin", "grün"), ("wide", "weit"), ("link", "weit"), ("fifo", "no regular file")):
        shows(page, f"#browse/odd/{name}", content, wanted)
    shows(page, "#browse/odd/dangling", MESSAGE, "No such file")
    shows(page, "#browse/odd/around", "document.getElementById('crumbs').textContent", "around")
    page.until("document.querySelectorAll('#entries a').length === 12")
    shows(page, "#browse/%ff%zz", MESSAGE, "No such file")
    page.run("for (const name of ['wide', 'latin', 'fifo', '100%25']) location.hash = '#browse/odd/' + name")
    page.until(f"{content} === 'in 100%'")
    page.run("document.getElementById('skip').click()")
    assert page.run("location.hash + document.activeElement.id") == "#browse/odd/100%25main"
    assert not [text for text in page.complaints if "Failed to load resource" not in str(text)]


@needs_browser
def test_a_token_that_ends_and_a_node_that_goes_and_comes(serve, page):
    served = serve()
    text, _ = served.node.tokens.create("brief", ["read", "watch"])
    page.do("Page.navigate", url=f"{served.url}/#figures")
    page.until(f"!{ENTRY}.hidden")
    page.type(text)
    page.key("Enter")
    page.until("document.getElementById('feed').textContent === 'Live, every second.'")
    served.node.tokens.revoke("brief")
    page.until(f"!{ENTRY}.hidden && {MESSAGE}.includes('revoked')")
    assert page.run("document.activeElement.id") == "token" and page.run("document.getElementById('figures').hidden")
    page.type(served.token)
    page.key("Enter")
    page.until("document.getElementById('feed').textContent === 'Live, every second.'")
    assert page.run("location.hash") == "#figures"
    port = served.node.services["rest"].service.url.rpartition(":")[2]
    websocket = served.node.services["websocket"].service.url.rpartition(":")[2]
    served.stop()
    page.until(f"{MESSAGE}.includes('does not answer')")
    serve(f"api.rest_bind=127.0.0.1:{port}", f"api.websocket_bind=127.0.0.1:{websocket}")
    page.until(f"document.getElementById('feed').textContent === 'Live, every second.' && !{MESSAGE}")


@needs_browser
def test_a_preview_is_seen_where_one_is(serve, page):
    """Beside what was chosen, also far down in a long list; on a phone above it."""
    served = serve("api.auth_required=false")
    for k in range(120):
        served.node.volume.write_text(f"/long/{'x' * 150}{k:03d}", f"number {k}\n" * 500)
    last = f"#browse/long/{'x' * 150}119"
    box = "document.getElementById('content').getBoundingClientRect()"
    seen = f"{box}.top >= 0 && {box}.top < innerHeight - 50 && {box}.height > 50"
    for width in (1200, 390):
        page.size(width, 800)
        page.do("Page.navigate", url=f"{served.url}/?{width}#browse/long")
        page.until("document.querySelectorAll('#entries a').length === 120")
        rows = page.run("[...document.querySelectorAll('#entries tr')].map((r) => r.getBoundingClientRect().height)")
        page.run("scrollTo(0, document.body.scrollHeight)")
        page.run(f"document.querySelector('#entries a[href=\"{last}\"]').click()")
        page.until("document.querySelector('#content pre')?.textContent.startsWith('number 119')")
        page.until(seen)
        assert max(rows) < 160 and page.run("document.documentElement.scrollWidth") <= width
        picture(page, f"long-{width}")


@needs_browser
def test_more_entries_come_once_however_often_they_are_asked_for(serve, page):
    served = serve()
    for n in range(1100):
        served.node.volume.write_bytes(f"/many/{n}", b"")
    page.do("Page.navigate", url=f"{served.url}/#browse/many")
    page.until("!document.getElementById('entry').hidden")
    page.type(served.token)
    page.key("Enter")
    for shown in (500, 1000):
        page.until(f"document.querySelectorAll('#entries tr').length >= {shown}")
        page.run("document.getElementById('more').click(), document.getElementById('more').click(), null")
    page.until("document.getElementById('more').hidden")
    page.run("new Promise((done) => setTimeout(done, 500))")
    paths = page.run("[...document.querySelectorAll('#entries a')].map((each) => each.dataset.path)")
    assert len(paths) == len(set(paths)) == 1100
