"""Sending a report through the host's mail system."""

import argparse
import os
import re
import shutil
import smtplib
import socket
import subprocess
from email.message import EmailMessage

from vexfs.errors import Unreachable

SMTP_ENVIRONMENT = "VEXFS_SMTP"


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
    message.set_content(text)
    server = os.environ.get(SMTP_ENVIRONMENT)
    program = shutil.which("sendmail") or shutil.which("sendmail", path="/usr/sbin:/usr/lib")
    if server is None and program is not None:
        done = subprocess.run([program, "-t", "-oi"], input=message.as_bytes(), capture_output=True, check=False)
        if done.returncode:
            raise Unreachable(f"{program} did not take the mail: {done.stderr.decode(errors='replace').strip()}")
        return
    host, _, port = (server or "localhost").partition(":")
    try:
        with smtplib.SMTP(host, int(port or 25), timeout=20) as connection:
            connection.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise Unreachable(
            f"no mail system takes the report ({host}: {error}); install one, or set ${SMTP_ENVIRONMENT}"
        ) from None
