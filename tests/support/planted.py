"""Secrets drawn from a seed, and the ways in which programs write them down."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import string
import textwrap
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

LETTERS = string.ascii_letters + string.digits
AWKWARD = LETTERS + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


@dataclass(frozen=True)
class Planted:
    """`written` holds the secret; none of `needles` may be in what comes out."""

    name: str
    written: bytes
    needles: tuple[bytes, ...]


def word(chance: random.Random, alphabet: str = LETTERS, least: int = 12, most: int = 40) -> str:
    while True:
        text = "".join(chance.choices(alphabet, k=chance.randrange(least, most + 1)))
        if any(c.isdigit() for c in text) and any(c.isalpha() for c in text) and text == text.strip():
            return text


def known_secrets(chance: random.Random) -> list[str]:
    """Of every sort: short, long, with what must be escaped, not ASCII, base64, hardly a letter."""
    return [
        word(chance, least=8, most=8),
        word(chance),
        word(chance),
        word(chance, AWKWARD),
        word(chance, AWKWARD),
        word(chance, AWKWARD, 9, 10),
        "/+=&?<>\"'" + word(chance, "a/b+c=1&2<3", 6, 9),
        "пароль" + word(chance),
        "ключ-№7-清水🔑" + chance.choice(LETTERS),
        base64.b64encode(chance.randbytes(33)).decode(),
        chance.randbytes(20).hex(),
        word(chance, LETTERS + "-_.", 700, 900),
        "\\\\" + word(chance, "\\a1b2", 8, 12) + '\\"\\',
        word(chance, LETTERS + " ", 20, 30),
    ]


Encoder = Callable[[random.Random, bytes], bytes]


def _text(encode: Callable[[str], str]) -> Encoder:
    return lambda chance, value: encode(value.decode()).encode()


def _base64_at(offset: int, alphabet: bytes | None = None) -> Encoder:
    def encode(chance: random.Random, value: bytes) -> bytes:
        around = chance.randbytes(3 * chance.randrange(3) + offset), chance.randbytes(chance.randrange(5))
        return base64.b64encode(around[0] + value + around[1], alphabet)

    return encode


def _escapes(form: str) -> Callable[[str], str]:
    def encode(text: str) -> str:
        units = text.encode("utf-16-be")
        return "".join(
            form.format(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2)
        )

    return encode


def _go_json(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    return quoted.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _lower_percent(text: str) -> str:
    return re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(text, ""))


ENCODINGS: dict[str, Encoder] = {
    "plain": lambda chance, value: value,
    "json": _text(lambda t: json.dumps(t)[1:-1]),
    "json-utf8": _text(lambda t: json.dumps(t, ensure_ascii=False)[1:-1]),
    "json-slash": _text(lambda t: json.dumps(t)[1:-1].replace("/", "\\/")),
    "json-go": _text(_go_json),
    "json-all": _text(_escapes("\\u{:04x}")),
    "json-all-upper": _text(_escapes("\\u{:04X}")),
    "json-in-json": _text(lambda t: json.dumps(json.dumps(t))[1:-1]),
    "url": _text(lambda t: urllib.parse.quote(t, "")),
    "url-path": _text(urllib.parse.quote),
    "url-form": _text(urllib.parse.quote_plus),
    "url-lower": _text(_lower_percent),
    "url-script": _text(lambda t: urllib.parse.quote(t, "!'()*")),
    "url-all": lambda chance, value: "".join(f"%{byte:02X}" for byte in value).encode(),
    "url-twice": _text(lambda t: urllib.parse.quote(urllib.parse.quote(t, ""), "")),
    "html": _text(html.escape),
    "hex": lambda chance, value: value.hex().encode(),
    "hex-upper": lambda chance, value: value.hex().upper().encode(),
    "hex-escaped": lambda chance, value: "".join(f"\\x{byte:02x}" for byte in value).encode(),
    "base64-0": _base64_at(0),
    "base64-1": _base64_at(1),
    "base64-2": _base64_at(2),
    "base64url-0": _base64_at(0, b"-_"),
    "base64url-1": _base64_at(1, b"-_"),
    "base64url-2": _base64_at(2, b"-_"),
    "base64-in-json": lambda chance, value: _base64_at(1)(chance, value).replace(b"/", b"\\/"),
    "base64-in-url": lambda chance, value: urllib.parse.quote(_base64_at(2)(chance, value), "").encode(),
    "base64-wrapped": lambda chance, value: base64.encodebytes(b"{" + value + b"}" + value),
    "base64-folded": lambda chance, value: "\n".join(
        textwrap.wrap(base64.b64encode(value).decode(), 64, subsequent_indent="    ")
    ).encode(),
}


def base64_needles(value: bytes) -> tuple[bytes, ...]:
    """Each alignment's inside, in both alphabets: what no output may hold."""
    found = []
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + value + bytes(2))
        inside = text[-(-8 * offset // 6) : 8 * (offset + len(value)) // 6]
        pieces = [inside[at : at + 8] for at in range(0, max(1, len(inside) - 7), 2)]
        found += pieces + [piece.translate(bytes.maketrans(b"+/", b"-_")) for piece in pieces]
    return tuple(found)


def encoded(chance: random.Random, value: str) -> list[Planted]:
    data, found = value.encode(), []
    for name, encode in ENCODINGS.items():
        written = encode(chance, data)
        needles = base64_needles(data) if name.startswith("base64") else _pieces(written, data)
        found.append(Planted(name, written, (*needles, *_pieces(data, data))))
    return found


def _pieces(written: bytes, value: bytes) -> tuple[bytes, ...]:
    """Each as much of what was written as stands for eight bytes of the secret."""
    size = min(len(written), -(-8 * len(written) // len(value)))
    return tuple(written[at : at + size] for at in range(len(written) - size + 1))


# What is a secret by its shape or by the name before it


def _draw(chance: random.Random, count: int, alphabet: str = LETTERS) -> str:
    return "".join(chance.choices(alphabet, k=count))


def _b64url(chance: random.Random, count: int) -> str:
    return base64.urlsafe_b64encode(chance.randbytes(count)).rstrip(b"=").decode()


def private_key(chance: random.Random, kind: str = "RSA ", newline: str = "\n") -> tuple[str, list[str]]:
    lines = textwrap.wrap(base64.b64encode(chance.randbytes(chance.randrange(100, 1200))).decode(), 64)
    text = newline.join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])
    return text, [line for line in lines if len(line) >= 16]


def shaped(chance: random.Random) -> list[tuple[str, str]]:
    """(detector, token)."""
    jwt = ".".join(("eyJ" + _b64url(chance, 20), "eyJ" + _b64url(chance, 50), _b64url(chance, 32)))
    return [
        ("jwt", jwt),
        ("aws-key-id", "AKIA" + _draw(chance, 16, string.ascii_uppercase + "234567")),
        ("aws-key-id", "ASIA" + _draw(chance, 16, string.ascii_uppercase + "234567")),
        ("google-api-key", "AIza" + _draw(chance, 35, LETTERS + "-_")),
        ("google-oauth", "ya29." + _draw(chance, 60)),
        ("google-oauth-secret", "GOCSPX-" + _draw(chance, 28)),
        ("github", "ghp_" + _draw(chance, 36)),
        ("github", "ghs_" + _draw(chance, 36)),
        ("github", "github_pat_" + _draw(chance, 22) + "_" + _draw(chance, 59)),
        ("gitlab", "glpat-" + _draw(chance, 20)),
        ("gitlab", "glrt-" + _draw(chance, 20)),
        ("slack", "xoxb-" + _draw(chance, 12, string.digits) + "-" + _draw(chance, 24)),
        ("slack", "xapp-1-" + _draw(chance, 30)),
        ("stripe", "sk_live_" + _draw(chance, 24)),
        ("stripe", "rk_test_" + _draw(chance, 24)),
        ("stripe", "whsec_" + _draw(chance, 32)),
        ("npm", "npm_" + _draw(chance, 36)),
        ("pypi", "pypi-AgEIcHlwaS5vcmc" + _draw(chance, 60)),
        ("openai", "sk-" + _draw(chance, 47) + "7"),
        ("openai", "sk-proj-" + _draw(chance, 47) + "7"),
        ("openai", "sk-ant-api03-" + _draw(chance, 80) + "7"),
        ("hugging-face", "hf_" + _draw(chance, 34, string.ascii_letters)),
        ("digitalocean", "dop_v1_" + chance.randbytes(32).hex()),
        ("docker", "dckr_pat_" + _draw(chance, 27)),
        ("shopify", "shpat_" + chance.randbytes(16).hex()),
        ("tailscale", "tskey-auth-" + _draw(chance, 12) + "-" + _draw(chance, 32)),
        ("linear", "lin_api_" + _draw(chance, 40)),
        ("vault", "hvs." + _draw(chance, 90)),
        ("sendgrid", "SG." + _draw(chance, 22) + "." + _draw(chance, 43)),
        ("atlassian", "ATATT3xFfGF0" + _draw(chance, 100)),
        ("databricks", "dapi" + chance.randbytes(16).hex()),
        ("azure-client-secret", _draw(chance, 3) + "8Q~" + _draw(chance, 34)),
        ("password-hash", "$6$" + _draw(chance, 16) + "$" + _draw(chance, 86)),
        ("password-hash", "$2b$12$" + _draw(chance, 53)),
        ("password-hash", "$argon2id$v=19$m=65536,t=3,p=4$" + _draw(chance, 22) + "$" + _draw(chance, 43)),
        (
            "slack-webhook",
            "https://hooks.slack.com/services/T"
            + _draw(chance, 8)
            + "/B"
            + _draw(chance, 8)
            + "/"
            + _draw(chance, 24),
        ),
        ("basic", "Basic " + base64.b64encode(("user:" + _draw(chance, 14)).encode()).decode()),
        ("bearer", "Bearer " + _draw(chance, 30) + "7"),
    ]


NAMED = (
    "password={}",
    "DB_PASSWORD={}",
    "export API_TOKEN={}",
    '{{"password": "{}"}}',
    '{{"clientSecret":"{}","a":1}}',
    "password: {}",
    "  api_key: {}",
    'secretKey = "{}"',
    "token='{}'",
    'x {{\\"apiKey\\":\\"{}\\",\\"b\\":2}}',
    "GET /cb?access_token={}&state=1 HTTP/1.1",
    "Server=db;User=a;Password={};Pool=5",
    "AccountKey={}",
    "Authorization: Bearer {}",
    "curl -H 'X-Api-Key: {}' http://x",
    "Cookie: sid={}; theme=dark",
    "Set-Cookie: id={}; HttpOnly",
    "<password>{}</password>",
    "--password {} --verbose",
    "--auth-token={} run",
    "- name: DB_PASSWORD\n  value: {}",
    '{{"name":"API_KEY","value":"{}"}}',
    "client-key-data: {}",
    "aws_secret_access_key = {}",
    "postgres://app:{}@db:5432/app",
    "redis://:{}@cache",
    "sessionid={}",
    'config["password"] = "{}"',
    "PASSWORD := {}",
    "password => '{}'",
    'passphrase="{}"',
    "session_key={}",
    'msg="login" pwd={} user=bob',
    "login failed (password={}) for bob",
    "{{'Authorization': 'Token {}'}}",
    "Authorization:[Bearer {}]",
    "spring.datasource.password={}",
    "?sig={}&se=2026",
    "x-auth-token: {}",
)
"""Where a value is a secret for the name before it."""
