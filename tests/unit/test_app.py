"""What the application makes of its settings."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.settings import make_settings
from support.tokens import SECRET
from yeoul.app import create_app
from yeoul.factories import make_authenticator

ED = ed25519.Ed25519PrivateKey.generate()
PUBLIC = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
P384_PEM = P384.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_without_a_key_it_is_in_demo_mode_on_loopback(host: str) -> None:
    assert make_authenticator(make_settings(host=host)).demo


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com", "localhost.example.com"])
def test_without_a_key_it_is_not_for_others(host: str) -> None:
    with pytest.raises(ValueError, match=f"on {host} other machines can reach this server") as caught:
        create_app(make_settings(host=host))
    assert "set YEOUL_JWT_SECRET (`openssl rand -base64 48`)" in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"jwt_secret": SECRET},
        {"jwt_previous_secret": SECRET},
        {"jwt_public_key": PUBLIC},
        {"jwt_jwks_url": "https://id.example/keys"},
        {"jwt_secret": SECRET, "jwt_public_key": PUBLIC, "jwt_jwks_url": "https://id.example/keys"},
    ],
)
def test_any_key_ends_demo_mode(keys: dict[str, str]) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        assert not make_authenticator(make_settings(host=host, **keys)).demo


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"jwt_secret": "hunter2"}, "setting jwt_secret: it has 7 bytes: an HS256 secret has at least 32"),
        ({"jwt_secret": ""}, "setting jwt_secret: it has 0 bytes"),
        ({"jwt_secret": SECRET, "jwt_previous_secret": "hunter2"}, "setting jwt_previous_secret: it has 7 bytes"),
        ({"jwt_secret": PUBLIC}, "setting jwt_secret: it is a key of another kind"),
        ({"jwt_public_key": PRIVATE}, "setting jwt_public_key: it is a private key"),
        ({"jwt_public_key": "no/such.pem"}, "setting jwt_public_key: it is neither PEM text nor a readable PEM file"),
        ({"jwt_public_key": PUBLIC[:60] + "!!" + PUBLIC[62:]}, "setting jwt_public_key: .*the PEM text is damaged"),
        (
            {"jwt_public_key": P384_PEM},
            "setting jwt_public_key: an EC key on secp384r1 is not supported: use an RSA key",
        ),
        ({"jwt_jwks_url": "http://id.example/keys"}, "setting jwt_jwks_url: it must begin with https://"),
    ],
)
def test_a_weak_key_is_refused_and_not_shown(keys: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        create_app(make_settings(**keys))
    lines = [line for value in keys.values() for line in value.splitlines() if line]
    assert not any(line in str(caught.value) for line in lines)
