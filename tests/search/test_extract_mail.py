"""What is read out of mail."""

import random
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from vexfs.search.extract import Skipped, extract, hides_text, kind_of


def letter(subject="Grüße: der Kaffee", text="Der Kaffee kommt morgen früh an."):
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, "Zoë <zoe@example.org>", "bob@example.org"
    made["Message-ID"] = "<1@example.org>"
    made.set_content(text)
    return made


def said(data, name="a.eml"):
    return [(block.text, block.level, block.label) for block in extract(data, name).blocks]


WHO = ("From: Zoë <zoe@example.org>\nTo: bob@example.org", 0, "")


def test_a_letter_is_what_its_reader_sees():
    made = letter()
    made.add_alternative("<h1>Der Kaffee</h1><p>kommt <b>doch</b></p>", subtype="html")
    made.add_attachment(b"\0\1" * 999, maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    made.add_attachment("words of a file", filename="more.txt")
    made.add_attachment(letter("Inside", "forwarded"))
    for data in (made.as_bytes(), made.as_bytes(policy=SMTP)):
        assert said(data) == [
            ("Grüße: der Kaffee", 1, ""), WHO, ("Der Kaffee kommt morgen früh an.", 0, ""),
            ("Attachment: Rechnung März.pdf", 0, ""), ("Attachment: more.txt", 0, ""),
            ("Inside", 2, ""), WHO, ("forwarded", 0, ""),
        ]  # fmt: skip


def test_html_is_read_where_there_is_no_plain_text():
    made = letter(text=" ")
    made.add_alternative("<h1>Der Kaffee</h1><p>kommt <b>doch</b></p>", subtype="html")
    assert said(made.as_bytes())[2:] == [("Der Kaffee", 2, ""), ("kommt doch", 0, "")]


def test_many_messages_behind_one_another():
    line = b"From zoe@example.org Thu Jan  1 00:00:00 2020\n"
    data = b"\n".join(line + letter(f"No. {n}", "From here on\n\nFrom there on").as_bytes() for n in (1, 2))
    assert [(text, label) for text, level, label in said(data, "a.mbox") if level] == [
        ("No. 1", "message 1"), ("No. 2", "message 2"),
    ]  # fmt: skip
    assert said(data, "a.mbox")[2:4] == [("From here on", 0, "message 1"), ("From there on", 0, "message 1")]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_letters_that_are_not_encoded_as_they_should_be(encoding):
    head = "Subject: café\nContent-Type: text/plain; charset=no-such\n\n"
    assert [text for text, *_ in said(f"{head}crème brûlée\n".encode(encoding))] == ["café", "crème brûlée"]


def test_a_maildir_has_no_suffixes():
    data = b"Received: by here\n\tfor you\n" + letter().as_bytes()
    assert kind_of("1234.M5P6.host:2,S", data) == kind_of("1", data) == "mail"
    assert kind_of("1", b"Package: a\nVersion: 1\n\nmessage-id: no head\n") == "text"
    assert kind_of("a.patch", data) == "text"
    assert hides_text("a.eml", data)


def test_damaged_mail_is_read_as_far_as_it_goes_or_refused():
    made = letter()
    made.add_alternative("<p>html</p>", subtype="html")
    made.add_attachment(b"\0\1" * 99, maintype="application", subtype="pdf", filename="März.pdf")
    data, chance = made.as_bytes(), random.Random(5)
    for _ in range(500):
        broken = bytearray(data[: chance.randrange(len(data))])
        for _ in range(9):
            if broken:
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        extract(bytes(broken), "a.eml")
    for head in ("=?no?q?a?=", "=?utf-8?b?%%%?=", "=?utf-8?q?=ff?=", "=?\0?q?x?=", "a" * 100_000):
        extract(f"Subject: {head}\nContent-Type: text/plain; charset=hex; name*0*=x'y'%ff\n\nwords".encode(), "a.eml")


def test_mail_in_mail_without_end():
    part = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n"
    with pytest.raises(Skipped, match="without end"):
        extract(b"".join(part % (n, n) for n in range(3000)), "a.eml")
