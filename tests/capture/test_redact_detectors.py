"""Each detector finds what it is for, and leaves alone what nearly looks like it."""

from __future__ import annotations

import base64
import random
import time

import pytest

from kdebug.capture.redact import Redactor, engine, fast, names, pairs, shapes
from kdebug.capture.redact.optional import luhn
from kdebug.capture.redact.tokens import TOKEN
from kdebug.errors import UsageError
from support.ordinary_logs import lines, log
from support.planted import NAMED, encoded, known_secrets, private_key, shaped, word


def kinds(redactor: Redactor) -> set[str]:
    return set(redactor.report()["redacted"])


def test_every_shape_is_found_and_named(seed: int) -> None:
    for kind, token in shaped(random.Random(seed)):
        for text in (token, f"x {token} y", f'"{token}"', f"\\n{token},", f"={token}&"):
            redactor = Redactor()
            output = redactor.text(text)
            assert kind in kinds(redactor), (kind, text)
            assert token.split()[-1][-12:-3] not in output
    assert {shape.kind for shape in shapes.SHAPES} <= {kind for kind, _ in shaped(random.Random(seed))}


@pytest.mark.parametrize("kind", sorted({shape.kind for shape in shapes.SHAPES}))
def test_a_shape_that_is_too_short_or_inside_a_word_is_none(kind: str, seed: int) -> None:
    for found, token in shaped(random.Random(seed)):
        if found == kind and kind not in ("slack-webhook", "basic", "bearer"):
            cut = token[:20] if kind == "jwt" else token[:12]
            for text in (cut, "id" + token if token[0].isalpha() and kind != "jwt" else cut):
                redactor = Redactor()
                redactor.text(text)
                assert kind not in kinds(redactor), (kind, text)


@pytest.mark.parametrize("template", NAMED)
def test_a_name_marks_its_value_and_nothing_else(template: str, seed: int) -> None:
    value = word(random.Random(seed))
    output = Redactor().text(template.format(value))
    assert value not in output
    token = TOKEN.search(output.encode())
    assert token is not None
    before, _, after = template.format("\0").partition("\0")
    if not template.startswith(("Authorization", "Cookie", "Set-Cookie", "{{'Auth")):
        assert output == before + token[0].decode() + after


ORDINARY = (
    "session opened for bob",
    "key not found",
    "token expired",
    "password policy: none",
    "author=bob",
    "authentication succeeded",
    "public_key=abc123def456",
    "monkey=banana99",
    "total_tokens: 512",
    "tokens=1024",
    "password_min_length=12",
    "token_url=https://login.example.com/oauth",
    "secretName: web-tls-2024",
    "password=",
    "password: null",
    "token: ${TOKEN}",
    "PASSWORD=$DB_PASSWORD",
    "PASSWORD=$S3_KEY_2",
    "secret: <none>",
    "token: {{ .Values.t }}",
    "token_count=5",
    "keyboard=us101key",
    "sessionAffinity: None",
    "session=12345678",
    "auth: none",
    "cookies rejected",
    "Basic authentication failed",
    "bearer of bad news",
    "Bearer authentication",
    "basic dGVzdA==",
    "http://host:8080/path@x",
    "mail bob@example.com",
    "https://user@host/x",
    "ssh://git@github.com:22/x",
    "$5 for lunch",
    "price $1$ and more",
    "sk-learn",
    "sk-loading-indicator-for-the-page",
    "hf_hub",
    "npm_config_cache=/root",
    "-----BEGIN PRIVATE KEY----- was expected",
    "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END CERTIFICATE-----",
    "eyJub3QiOiJhIHRva2VuIn0",
    "token = token",
    "signature=invalid",
    "salt=true",
    "<password/> <b>x</b>",
    "--password-file /x/y",
    "--token-ttl 5m",
    "passed=3 failed=0",
    "compass=north12",
    "api_keys_total 7",
    "design=a1b2c3d4",
    "assign=a1b2c3d4",
    "accredited: by 2 boards",
    "9a3f-8Q~short",
    "secret_key_base_set: true",
    "AKIA1234",
    "the jwt was a2",
    "dsn lookup",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_what_nearly_looks_like_a_secret_is_left_alone(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("quick", sorted(pairs.QUICK))
def test_the_quick_look_lets_through_all_that_the_slow_one_finds(quick: bytes, seed: int) -> None:
    """The prefilter may only save time: names with each word, in every template that names may stand in."""
    chance, marks = (
        random.Random(seed),
        ("={}", ": {}", '": "{}"', "':'{}'", '\\":\\"{}\\"', " := {}", "=>{}", "%3D{}"),
    )
    for mark in marks:
        name, value = f"my_{quick.decode()}", word(chance)
        data = (name + mark.format(value)).encode()
        if pairs.pair_at(data, 3) is not None:
            assert pairs.QUICK[quick].match(data.lower(), 3), data


def test_values_end_where_they_should() -> None:
    cases = {
        "x password=a1b,c2d;e3f&g4h, user=bob": ", user=bob",
        "password='a b \\' c' x": "' x",
        '{"password":"a\\"b\\\\","x":1}': '","x":1}',
        '{\\"password\\":\\"a\\\\\\"b\\",\\"x\\":1}': '\\",\\"x\\":1}',
        "PASSWORD=a b c\nnext": "\nnext",
        "password: two words # why": " # why",
        "PASSWORD=a b\0NEXT=1": "\0NEXT=1",
        "f(password=abc)": ")",
        '<password a="1">x y</password>': "</password>",
        'curl -H "Authorization: Basic a b" http://x': '" http://x',
        "?token=abc&x=1#y": "&x=1#y",
        'password="never closed\nnext': "\nnext",
    }
    for text, rest in cases.items():
        output = Redactor().text(text)
        token = TOKEN.search(output.encode())
        assert token is not None and output.encode()[token.end() :].decode() == rest, (text, output)


def test_private_keys_whole_cut_and_within_prefixes(seed: int) -> None:
    chance = random.Random(seed)
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        text, body = private_key(chance, kind)
        for written in (text, text[: len(text) // 2], text.split("\n", 1)[1], text.replace("\n", "\n  > ")):
            output = Redactor().text(f"before\n{written}\n{{after: 1}}")
            assert not any(line in output for line in body)
            assert output.startswith("before\n[REDACTED:private-key:") and output.endswith("{after: 1}")
    armour = (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n"
        + "\n".join(body)
        + "\n-----END PGP PRIVATE KEY BLOCK-----"
    )
    assert TOKEN.fullmatch(Redactor().text(armour).encode())


def test_the_token_says_neither_length_nor_value(seed: int) -> None:
    chance = random.Random(seed)
    redactor = Redactor()
    short, long = (redactor.text(f"password={word(chance, least=n, most=n)}") for n in (8, 300))
    assert len(short) == len(long) and short != long
    key, _ = private_key(chance)
    assert len(redactor.text(key)) == len("[REDACTED:private-key:12345678]")


def test_equal_secrets_are_equal_within_a_key_only() -> None:
    one, other, same = Redactor(b"a" * 16), Redactor(b"b" * 16), Redactor(b"a" * 16)
    text = "password=hunter2"
    assert one.text(text) == same.text(text) != other.text(text)
    assert Redactor().text(text) != Redactor().text(text)
    assert one.text(text)[-9:] == one.text("token: hunter2")[-9:]
    with pytest.raises(UsageError, match="guessed"):
        Redactor(b"short")


def test_redacting_twice_changes_nothing(seed: int) -> None:
    redactor = Redactor()
    for template in NAMED:
        once = redactor.text(template.format(word(random.Random(seed))))
        assert redactor.text(once) == once


def test_a_forged_token_protects_nothing() -> None:
    for text in ("password=[REDACTED:x", "[REDACTED:secret: hunter2zz", "[REDACTED:password=hunter2zz]"):
        assert "hunter2" not in Redactor().text(text)


def test_cards_and_mail_only_when_asked() -> None:
    text = "paid with 4111 1111 1111 1111 by bob.x@example.com"
    assert Redactor().text(text) == text
    output = Redactor(extra=("card", "email")).text(text)
    assert "4111" not in output and "bob" not in output and output.startswith("paid with [REDACTED:card:")
    near = "4111 1111 1111 1112 and 1234567890123456 and bob@host and @example.com"
    assert Redactor(extra=("card", "email")).text(near) == near
    assert luhn([7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3]) and not luhn([7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 4])
    with pytest.raises(UsageError, match="phone"):
        Redactor(extra=("phone",))


def test_a_detector_that_raises_hides_the_line_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: bytes) -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(names, "harmless", broken)
    redactor = Redactor()
    output = redactor.text("first line\nuser=bob password=hunter2 x\nlast line")
    assert TOKEN.sub(b"*", output.encode()) == b"first line\n*\nlast line"
    assert redactor.report()["detector_failures"] == {"value": 1}
    monkeypatch.setattr(engine.KnownSecrets, "spans", broken)
    assert TOKEN.fullmatch(redactor.text("anything at all").encode())


def test_ordinary_words_are_masked_in_their_place_only() -> None:
    redactor = Redactor()
    for value in (
        "admin",
        "postgres",
        "12345",
        "/var/run/x",
        "db.example.com:5432",
        "https://idp.example.com/a",
        "true",
    ):
        redactor.learn(value)
    text = "admin postgres 12345 /var/run/x db.example.com:5432 https://idp.example.com/a true"
    assert redactor.text(text) == text
    assert redactor.report()["masked_in_place_only"] == 7 and redactor.report()["known_secrets"] == 0


def test_secrets_that_look_like_places_are_no_ordinary_words() -> None:
    for value in (
        "/0ZAVOa30VJyYgQWAIxfvynUKRI/GBS8dCbJTlYNzpDS", "/aB3.xY9", "https://x.example.com/aB3dE6gH9jK2mN5pQ8sT1v",
        "aB3dE6.gH9jK2", "abcdefghijklmnopqrstuvwxyz.example",
    ):  # fmt: skip
        redactor = Redactor()
        redactor.learn(value)
        assert redactor.report()["known_secrets"] >= 1, value
        assert value not in redactor.text(f"x {value} y")


def test_secrets_inside_of_learned_values_are_known_too() -> None:
    pull = {
        "auths": {
            "r.example.com": {"username": "robot", "auth": base64.b64encode(b"robot:p4llS3cret!").decode()}
        }
    }
    import json

    redactor = Redactor()
    redactor.learn("postgres://app:d8%24Secret1@db/x")
    redactor.learn(json.dumps(pull))
    redactor.learn("Server=a;Password=c0nnSecret;X=1")
    redactor.learn("Bearer be4rerSecret")
    redactor.learn(base64.b64encode(b"wr4ppedSecret").decode())
    redactor.learn("# comment\nuser=bob\napi.key = l1neSecret\n")
    output = redactor.text(
        "d8%24Secret1 d8$Secret1 p4llS3cret! c0nnSecret be4rerSecret wr4ppedSecret l1neSecret bob robot"
    )
    assert TOKEN.sub(b"*", output.encode()) == b"* * * * * * * bob robot"


def test_files_of_a_secret_mount(seed: int) -> None:
    chance, redactor = random.Random(seed), Redactor()
    key, body = private_key(chance)
    redactor.learn_file("/var/run/secrets/kubernetes.io/serviceaccount/namespace", b"payments-prod-7")
    redactor.learn_file(
        "/etc/tls/tls.crt",
        b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQabcdef\n-----END CERTIFICATE-----",
    )
    assert redactor.report()["known_secrets"] == 0
    redactor.learn_file("/etc/tls/tls.key", key.encode())
    redactor.learn_file("/var/run/secrets/db", b"m0untedSecret\n")
    output = redactor.text(f"payments-prod-7 m0untedSecret {body[0]}")
    assert TOKEN.sub(b"*", output.encode()) == b"payments-prod-7 * *"


def test_more_secrets_than_the_bound_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdebug.capture.redact import known

    monkeypatch.setattr(known, "MAX_SECRETS", 3)
    redactor = Redactor()
    for number in range(5):
        redactor.learn(f"v4lueNumber{number}")
    assert redactor.report()["known_secrets"] == 3 and redactor.report()["masked_in_place_only"] == 2
    assert "more than 3" in redactor.report()["notes"][0]


def test_what_is_learned_after_the_first_output_is_told() -> None:
    redactor = Redactor()
    redactor.learn("f1rstSecret", place="env of 1")
    redactor.text("x")
    redactor.learn("f1rstSecret", place="env of 1 again")
    redactor.learn("s3condSecret", place="env of 2")
    assert redactor.report()["learned_late"] == ["env of 2"]


ATTACKS = [
    (b"", b"password=", b""),
    (b"", b"token:", b""),
    (b"", b"eyJ", b""),
    (b"", b"eyJhbGciOiJ.", b""),
    (b"", b"-----BEGIN PRIVATE KEY-----", b""),
    (b"", b"-----END PRIVATE KEY-----\n", b""),
    (b"", b"://a:b", b""),
    (b"://a:", b"@", b""),
    (b"", b"$6$", b""),
    (b"", b"auth:", b""),
    (b"", b'password="', b""),
    (b"", b'"password":\\"', b""),
    (b"", b"<password ", b""),
    (b"", b"ghp_", b""),
    (b"", b"\\", b""),
    (b"password", b" ", b""),
    (b"", b"--token ", b""),
    (b"", b"a", b"@"),
    (b"password=", b"x", b""),
    (b"", b"pass", b"="),
]
"""How it begins, what it repeats, how it ends."""
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: repr(attack[0] + attack[1]))


def written(attack: tuple[bytes, bytes, bytes], size: int) -> bytes:
    begin, again, end = attack
    return begin + again * (size // len(again)) + end


@each_attack
def test_hostile_text_takes_bounded_time(attack: tuple[bytes, bytes, bytes]) -> None:
    redact_in_bounded_time(written(attack, 170_000))


@pytest.mark.soak
@each_attack
def test_half_a_megabyte_of_hostile_text_takes_bounded_time(attack: tuple[bytes, bytes, bytes]) -> None:
    redact_in_bounded_time(written(attack, 540_000))


def redact_in_bounded_time(text: bytes) -> None:
    """At least 50 KB/s, on a machine that others use too; measured in processor time."""
    redactor = Redactor(extra=("card", "email"))
    redactor.learn("\\\\\\\\\\\\aB3\\\\\\\\\\")
    started = time.process_time()
    stream = redactor.stream()
    stream.feed(text)
    stream.finish()
    assert time.process_time() - started < len(text) / 50_000


def test_a_value_longer_than_any_bound_never_comes_out(seed: int) -> None:
    """Longer than blocks and what is looked ahead of them."""
    data = log(random.Random(seed), 300_000)
    for value in (b"aB3" * 500_000, b'"' + b"aB3" * 500_000 + b'"', b"'" + b"aB3 " * 400_000 + b"'"):
        redactor = Redactor()
        stream = redactor.stream()
        output = stream.feed(data + b"x password=" + value + b"\n" + data) + stream.finish()
        assert b"aB3" not in output and output.endswith(data) and output.startswith(data)


@pytest.fixture
def without_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "engine", lambda: None)


def redacted(data: bytes, values: list[str]) -> bytes:
    redactor = Redactor(b"k" * 16)
    for value in values:
        redactor.learn(value)
    stream = redactor.stream()
    return stream.feed(data) + stream.finish()


def test_the_output_is_the_same_with_and_without_re2(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs, everything planted, and everything hostile; RE2 may only save time."""
    assert fast.engine() is not None
    chance = random.Random(seed)
    values = known_secrets(chance)
    planted = [p.written for value in values for p in encoded(chance, value)]
    planted += [token.encode() for _, token in shaped(chance)]
    planted += [t.format(word(chance)).encode() for t in NAMED] + [t.encode() for t in ORDINARY]
    made = lines(chance)
    texts = [written(attack, 20_000) for attack in ATTACKS] + [log(chance, 500_000)]
    texts += [b"".join(next(made)[:-1] + b" " + p + b"\n" for p in chance.sample(planted, len(planted)))]
    texts += [b"".join(chance.choices(planted, k=200)) for _ in range(5)]
    fast_ones = [redacted(text, values) for text in texts]
    monkeypatch.setattr(fast, "engine", lambda: None)
    for text, expected in zip(texts, fast_ones):
        assert redacted(text, values) == expected


@pytest.mark.usefixtures("without_re2")
@each_attack
def test_hostile_text_takes_bounded_time_without_re2(attack: tuple[bytes, bytes, bytes]) -> None:
    redact_in_bounded_time(written(attack, 170_000))


@pytest.mark.soak
@pytest.mark.usefixtures("without_re2")
@each_attack
def test_half_a_megabyte_of_hostile_text_takes_bounded_time_without_re2(
    attack: tuple[bytes, bytes, bytes],
) -> None:
    redact_in_bounded_time(written(attack, 540_000))
