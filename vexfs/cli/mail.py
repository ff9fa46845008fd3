"""Sending a report through the host's mail system."""

import argparse
import os
import re
import shutil
import smtplib
import socket
import subprocess
import urllib.parse
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from vexfs.errors import Unreachable

SMTP_ENVIRONMENT = "VEXFS_SMTP"
SENDMAIL_S = 60


def address(word: str) -> str:
    """A mail address, for argparse's ``type=``."""
    if not re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", word):
        raise argparse.ArgumentTypeError(f"{word!r} is no mail address")
    return word


def send(to: str, subject: str, text: str) -> None:
    """Send `text` to the address `to`: through ``sendmail``, else by SMTP to ``$VEXFS_SMTP`` or this host.

    Raises
    ------
    Unreachable
        Nobody takes the mail.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = f"vexfs@{socket.getfqdn()}", to, subject
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid(domain=socket.getfqdn())
    message.set_content(text.encode("utf-8", "backslashreplace").decode())
    server = os.environ.get(SMTP_ENVIRONMENT)
    program = shutil.which("sendmail") or shutil.which("sendmail", path="/usr/sbin:/usr/lib")
    if server is None and program is not None:
        words = [program, "-t", "-oi"]
        try:
            done = subprocess.run(words, input=message.as_bytes(), capture_output=True, check=False, timeout=SENDMAIL_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"{program} did not take the mail: {error}") from None
        if done.returncode:
            raise Unreachable(f"{program} did not take the mail: {done.stderr.decode(errors='replace').strip()}")
        return
    try:
        place = urllib.parse.urlsplit(f"//{server or 'localhost'}")
        with smtplib.SMTP(place.hostname or "localhost", place.port or 25, timeout=20) as connection:
            connection.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        where = server or "localhost"
        raise Unreachable(
            f"no mail system takes the report ({where}: {error}); install one, or set ${SMTP_ENVIRONMENT}"
        ) from None
