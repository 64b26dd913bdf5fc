"""Tokens that were forged, mangled, or meant for something else: none is taken, and none is told back."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.attacks import base64url, forge
from support.reader import Answer, ask
from support.tickets import issue_ticket
from support.tokens import SECRET, bearer, demo_token, make_jwt

RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

AUDIENCE, ISSUER = "yeoul", "https://id.example.com"

pytestmark = pytest.mark.settings(
    jwt_secret=SECRET, jwt_public_key=PEM.decode(), jwt_audience=AUDIENCE, jwt_issuer=ISSUER
)

HS = {"alg": "HS256", "typ": "JWT"}
KEY = SECRET.encode()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"sub": "ann", "iat": now, "exp": now + 600, "aud": AUDIENCE, "iss": ISSUER, "roles": ["admin"]}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def good(**changed: Any) -> str:
    return forge(HS, claims(**changed), KEY)


def by(header: dict[str, Any], key: bytes = KEY) -> str:
    return forge({**HS, **header}, claims(), key)


def unsigned(alg: str, signature: str = "") -> str:
    parts = [base64url(json.dumps(part).encode()) for part in ({**HS, "alg": alg}, claims())]
    return ".".join([*parts, signature])


def swapped() -> str:
    """The signature of an honest token under another payload."""
    header, _, signature = good(roles=["user"]).split(".")
    return ".".join([header, base64url(json.dumps(claims()).encode()), signature])


def twice(member: bytes) -> str:
    return forge(HS, json.dumps(claims()).encode()[:-1] + b", " + member + b"}", KEY)


def own_key() -> dict[str, Any]:
    return jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 2_048).public_key(), as_dict=True)


FORGED = {
    # RFC 8725, 2.1: what the token says of its algorithm is not to be believed.
    "no algorithm": lambda: unsigned("none"),
    "no algorithm in capitals": lambda: unsigned("NONE"),
    "no algorithm and a signature": lambda: unsigned("none", good().rpartition(".")[2]),
    "no signature": lambda: unsigned("HS256"),
    "the public key in PEM as the secret": lambda: by({}, PEM),
    "the public key without its last line end": lambda: by({}, PEM.strip()),
    "the public key in DER as the secret": lambda: by({}, DER),
    "an empty secret": lambda: by({}, b""),
    "another hash": lambda: jwt.encode(claims(), SECRET.ljust(64, "x"), algorithm="HS512"),
    "another hash with the secret": lambda: by({"alg": "HS384"}),
    "the algorithm in small letters": lambda: by({"alg": "hs256"}),
    "an algorithm of another key": lambda: jwt.encode(claims(), EC, algorithm="ES256"),
    "another algorithm of the right key": lambda: jwt.encode(claims(), RSA, algorithm="PS256"),
    "somebody's RSA key": lambda: jwt.encode(claims(), rsa.generate_private_key(65_537, 2_048), algorithm="RS256"),
    "a signature of zeros": lambda: good().rpartition(".")[0] + "." + base64url(bytes(32)),
    # RFC 8725, 3.10: keys that the token brings along, or points to.
    "a key of its own": lambda: by({"alg": "RS256", "jwk": own_key()}),
    "a URL of keys": lambda: by({"jku": "http://127.0.0.1:1/jwks"}, b"x" * 32),
    "a URL of a certificate": lambda: by({"x5u": "http://127.0.0.1:1/cert"}, b"x" * 32),
    "a key id that is a path": lambda: by({"kid": "../../../../dev/null"}, b""),
    "a key id that is SQL": lambda: by({"kid": "x' UNION SELECT 'key"}, b"key"),
    "a key id that is no text": lambda: by({"kid": {"$gt": ""}}),
    "an extension that must be known": lambda: by({"crit": ["exp"], "exp": 0}),
    "an unencoded payload": lambda: by({"b64": False, "crit": ["b64"]}),
    "an encrypted one": lambda: "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVydGV4dA.dGFn",
    # What stands in it was changed.
    "another payload": swapped,
    "cut in the signature": lambda: good()[:-3],
    "cut in the payload": lambda: good().rpartition(".")[0][:-3] + "." + good().rpartition(".")[2],
    "padding": lambda: good() + "=",
    "left-over bits": lambda: good()[:-1] + chr(ord(good()[-1]) + 1),
    "something behind it": lambda: good() + ".x",
    "the other alphabet": lambda: good().replace("-", "+").replace("_", "/") + "+",
    # RFC 8725, 2.6 and 3.9: claims.
    "a duplicate member": lambda: twice(b'"sub": "root"'),
    "expired": lambda: good(exp=int(time.time()) - 60),
    "no end": lambda: good(exp=None),
    "an end that is text": lambda: good(exp="9999999999"),
    "an end beyond all numbers": lambda: twice(b'"x": 1e999'),
    "an end that is no number": lambda: forge(HS, json.dumps(claims(exp=float("nan"))).encode(), KEY),
    "an end that is true": lambda: good(exp=True),
    "too long an end": lambda: good(exp=int(time.time()) + 400 * 86_400),
    "a life that is long but nearly over": lambda: good(iat=int(time.time()) - 400 * 86_400),
    "not yet": lambda: good(nbf=int(time.time()) + 60),
    "issued in the future": lambda: good(iat=int(time.time()) + 60),
    "for somebody else": lambda: good(aud="other"),
    "for nobody": lambda: good(aud=None),
    "for one whose name begins so": lambda: good(aud=AUDIENCE + "x"),
    "for an object": lambda: good(aud={AUDIENCE: 1}),
    "of somebody else": lambda: good(iss="https://id.example.com.evil.example"),
    "of nobody": lambda: good(iss=None),
    "of a list": lambda: good(iss=[ISSUER]),
    "another kind": lambda: by({"typ": "logout+jwt"}),
    "no user": lambda: good(sub=None),
    "an empty user": lambda: good(sub=""),
    "a user that is a number": lambda: good(sub=7),
    "a user with a zero-width space": lambda: good(sub="ro\u200bot"),
    "a user with a line end": lambda: good(sub="ann\nX: y"),
    "a user with NUL": lambda: good(sub="ann\0"),
    "a user turned around": lambda: good(sub="\u202etoor"),
    "half of a surrogate pair": lambda: good(sub="\ud800"),
    "a name with a line end": lambda: good(name="x\r\nSet-Cookie: a=b"),
    "an address with a line end": lambda: good(email="a@b\nc"),
    "a role that is no list": lambda: good(roles="admin"),
    "grants that are text": lambda: good(yeoul="*"),
    "a grant that is misspelled": lambda: good(yeoul={"subscibe": ["*"]}),
    "a pattern of a line end": lambda: good(yeoul={"subscribe": ["a\nb"]}),
    # Sizes.
    "too large": lambda: good(name="n" * 200, more="x" * 8_192),
    "nested too deeply": lambda: forge(HS, b'{"x":' * 700 + b"1" + b"}" * 700, KEY),
    "many dots": lambda: "." * 4_000,
    "something else": lambda: "nonsense",
    "a demo token": lambda: demo_token("root", roles="admin"),
}


async def everywhere(port: int, token: str) -> list[Answer]:
    session = {"Cookie": f"yeoul_token={token}"}
    return [
        await ask(port, "/topics/chat/a", headers=bearer(token)),
        await ask(port, "/topics/chat/a", headers=session),
        await ask(port, f"/topics/chat/a?token={token}"),
        await ask(port, f"/topics/chat/a?ticket={token}"),
        await ask(port, "/topics/chat/a", headers={"Authorization": f"Ticket {token}"}),
    ]


async def test_none_is_taken_by_any_way_in_or_told_back(port: int) -> None:
    for name, make in FORGED.items():
        token = make()
        for answer in await everywhere(port, token):
            assert answer.status == 401, name
            assert answer.headers["www-authenticate"].startswith('Bearer realm="yeoul"'), name
            for part in token.split("."):
                assert len(part) < 20 or part not in answer.text, name
        me = (await ask(port, "/auth/me", headers={"Cookie": f"yeoul_token={token}"})).json()
        assert (me["user"], me["roles"]) == (None, []), name
        assert me["refused"], name


async def test_an_honest_one_is_taken(port: int) -> None:
    """So that the others are refused for what is wrong with them."""
    for token in (good(), good(aud=["other", AUDIENCE]), jwt.encode(claims(), RSA, algorithm="RS256")):
        assert (await ask(port, "/auth/me", headers=bearer(token))).json()["user"] == "ann"
    for header in ({"jku": "http://127.0.0.1:1/"}, {"jwk": {}}, {"kid": "anything"}):
        assert (await ask(port, "/auth/me", headers=bearer(by(header)))).json()["user"] == "ann"


@pytest.mark.settings(jwt_secret=SECRET)
async def test_a_ticket_is_no_token_and_a_token_no_ticket(port: int) -> None:
    token = make_jwt("ann")
    ticket = await issue_ticket(port, token)
    for headers in (bearer(ticket), {"Cookie": f"yeoul_token={ticket}"}):
        assert (await ask(port, "/topics/chat/a", headers=headers)).status == 401
    assert (await ask(port, f"/topics/chat/a?token={ticket}")).status == 401
    assert (await ask(port, f"/topics/chat/a?ticket={token}")).status == 401
    assert (await ask(port, "/topics/chat/a", headers={"Authorization": f"Ticket {token}"})).status == 401


@pytest.mark.settings(jwt_secret=SECRET)
async def test_with_two_credentials_neither_counts(port: int) -> None:
    """They could be of two users, of whom one proxy sees one and this server the other."""
    ann, bob = make_jwt("ann"), make_jwt("bob")
    for path, headers in (
        (f"/auth/me?access_token={ann}", bearer(bob)),
        (f"/auth/me?token={ann}&token={bob}", {}),
        (f"/auth/me?TOKEN={ann}&%74icket={bob}", {}),
    ):
        assert (await ask(port, path, headers=headers)).status == 400


@pytest.mark.settings(jwt_secret=SECRET)
async def test_the_session_keeps_the_token_that_was_checked_and_no_attribute_of_the_clients_own(port: int) -> None:
    token = make_jwt("ann")
    planted = {"authorization": "Other x; Domain=example.com; Secure", "Authorization": f"Bearer {token}"}
    answer = await ask(port, "/auth/session", method="POST", headers=planted)
    assert answer.status == 200
    assert answer.headers["set-cookie"].startswith(f"yeoul_token={token}; Path=/; Max-Age=")
    assert "Domain" not in answer.headers["set-cookie"]
