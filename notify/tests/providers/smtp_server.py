"""A mail server on this machine: prints its port, then one JSON line for each mail that it takes.

    smtp_server.py implicit|starttls|plain <certificate.pem> <key.pem>

What a recipient's name says happens: gone, full, refused, closing, hang, cut; lost takes a mail and cuts before it says so, once for
each `Message-ID`. Whoever signs in is chat / secret.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

REPLIES = {
    "gone": "550 5.1.1 <gone@mail.example> no such user",
    "full": "452 4.2.2 mailbox of <full@mail.example> is full",
    "refused": "554 5.7.1 not wanted here",
    "closing": "421 4.3.2 closing down",
}


# Mails that were taken without an answer.
LOST = set()


class Handler:
    def __init__(self):
        self.server = None

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        if name in REPLIES:
            return REPLIES[name]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        name = envelope.rcpt_tos[0].split("@")[0]
        if name == "hang":
            await asyncio.Event().wait()
        if name == "cut":
            server.transport.abort()
            return "451 4.0.0 cut"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        text, html = mail.get_body(("plain",)), mail.get_body(("html",))
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "is_tls": session.ssl is not None or MODE == "implicit",
            "is_authenticated": bool(session.authenticated),
            "fields": {name: str(value) for name, value in mail.items()},
            "text": text.get_content(),
            "html": html.get_content(),
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }), flush=True)
        if name == "lost" and mail["Message-ID"] not in LOST:
            LOST.add(str(mail["Message-ID"]))
            server.transport.abort()
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    is_right = data.login == b"chat" and data.password == b"secret"
    # `handled` says that a refusal was answered here; it wasn't.
    return AuthResult(success=is_right, handled=False)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    needs_auth = MODE != "plain"

    def session():
        return SMTP(
            Handler(),
            hostname="mail.example",
            enable_SMTPUTF8=True,
            tls_context=context if MODE == "starttls" else None,
            require_starttls=MODE == "starttls",
            auth_required=needs_auth,
            auth_require_tls=MODE == "starttls",
            authenticator=authenticate,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if MODE == "implicit" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with its parent.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


MODE = sys.argv[1]
asyncio.run(main())
