"""Documents: what a place says is a secret, everywhere; structure, numbers and names stay."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from kdebug.capture.redact import Redactor
from kdebug.capture.redact.remembered import MAX_CHARACTERS, MAX_EACH, Remembered
from kdebug.capture.redact.tokens import is_token
from kdebug.expression import parse
from kdebug.open import OpenOptions, open_target
from kdebug.protocol import codec
from kdebug.protocol.processes import EnvPage, EnvVar, Process, ProcessPage
from support.planted import ENCODINGS, NAMED, shaped, word


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_an_environment_teaches_what_it_hides(seed: int) -> None:
    secret = word(random.Random(seed))
    page = EnvPage(7, (EnvVar("DB_PASSWORD", secret), EnvVar("HOME", "/root"), EnvVar("EMPTY", None)))
    redactor = Redactor()
    plain = redactor.document(codec.to_plain(page))
    found = codec.from_plain(EnvPage, plain)
    assert found.pid == 7 and [item.name for item in found.items] == ["DB_PASSWORD", "HOME", "EMPTY"]
    assert (
        is_token(found.items[0].value or "")
        and found.items[1].value == "/root"
        and found.items[2].value is None
    )
    assert secret not in redactor.text(f"connecting with {secret}")
    assert redactor.text(b64(secret)).startswith("[REDACTED:env:" + (found.items[0].value or "")[-9:-1])


def test_command_lines(seed: int) -> None:
    secret = word(random.Random(seed))
    lines = [
        ["app", "--password", secret],
        ["app", f"--password={secret}"],
        ["app", "-p", secret],
        ["mysql", f"-p{secret}"],
        ["env", f"DB_PASSWORD={secret}", "app"],
        ["sh", "-c", f"PASSWORD={secret} app"],
        ["curl", "-u", f"me:{secret}"],
        ["sh", "-c", f"mysql -p{secret} db"],
        ["sh", "-c", f"app --token {secret} x"],
        ["redis-cli", "-a", secret],
        ["app", "--auth-token", secret],
        ["app", f"postgres://u:{secret}@h/db"],
        ["java", f"-Djavax.net.ssl.keyStorePassword={secret}"],
    ]
    for line in lines:
        output = Redactor().document({"cmdline": line, "pid": 1})
        assert secret not in json.dumps(output), line
        assert len(output["cmdline"]) == len(line) and output["cmdline"][0] == line[0]
    for line in (
        ["ssh", "-p", "2222"],
        ["mkdir", "-p", "/a/b"],
        ["app", "--password-file", "/x"],
        ["app", "--port", "80"],
    ):
        assert Redactor().document({"cmdline": line}) == {"cmdline": line}


def pod(secret: str) -> dict[str, Any]:
    env = [
        {"name": "API_TOKEN", "value": secret},
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
    ]
    applied = json.dumps({"kind": "Pod", "spec": {"containers": [{"env": env}]}})
    return {
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
        },
        "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "automountServiceAccountToken": True,
            "containers": [
                {
                    "name": "app",
                    "env": env,
                    "args": ["--password", secret],
                    "ports": [{"containerPort": 80}],
                    "livenessProbe": {
                        "httpGet": {"httpHeaders": [{"name": "Authorization", "value": "Bearer " + secret}]}
                    },
                }
            ],
        },
        "status": {
            "containerStatuses": [
                {"state": {"terminated": {"message": f"bad login with {secret}", "exitCode": 1}}}
            ]
        },
    }


def test_a_pod(seed: int) -> None:
    secret = word(random.Random(seed))
    redacted = Redactor().document(pod(secret))
    assert secret not in json.dumps(redacted)
    assert shape_of(redacted) == shape_of(pod(secret))
    assert redacted["spec"]["containers"][0]["env"][1] == pod(secret)["spec"]["containers"][0]["env"][1]
    applied = json.loads(
        redacted["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    )
    assert applied["spec"]["containers"][0]["env"][0] == redacted["spec"]["containers"][0]["env"][0]


def shape_of(value: Any) -> Any:
    """Everything but the contents of strings."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    return "" if isinstance(value, str) else value


def secrets(values: dict[str, str]) -> dict[str, Any]:
    data = {name: b64(value) for name, value in values.items()}
    return {
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": "s"},
        "data": data,
        "stringData": dict(values),
    }


def test_secrets_of_kubernetes_and_what_they_teach(seed: int) -> None:
    chance = random.Random(seed)
    values = {"anything": word(chance), "short": "ab1", "word": "admin"}
    single, several = secrets(values), {"kind": "SecretList", "items": [secrets(values) | {"kind": None}]}
    redactor = Redactor()
    for document in (single, several):
        redacted = redactor.document(document)
        inner = redacted.get("items", [redacted])[0]
        assert all(is_token(value) for part in ("data", "stringData") for value in inner[part].values())
        assert inner["data"] == inner["stringData"]  # the token is that of the plain value
    text = f"{values['anything']} ab1 admin"
    assert redactor.text(text).endswith(" ab1 admin") and values["anything"] not in redactor.text(text)


def test_pull_secrets_and_their_parts(seed: int) -> None:
    password = word(random.Random(seed))
    config = json.dumps(
        {
            "auths": {
                "r.example.com": {
                    "username": "robot",
                    "password": password,
                    "auth": b64(f"robot:{password}"),
                }
            }
        }
    )
    redactor = Redactor()
    document = {
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": b64(config)},
    }
    assert is_token(redactor.document(document)["data"][".dockerconfigjson"])
    for written in (password, b64(f"robot:{password}"), config, b64(config)):
        output = redactor.text(f"x {written} y")
        assert (
            password not in output
            and b64(f"robot:{password}") not in output
            and b64(config)[8:40] not in output
        )


def test_config_maps_keep_what_no_detector_finds(seed: int) -> None:
    secret = word(random.Random(seed))
    data = {
        "app.properties": f"db.host=db\ndb.password={secret}\n",
        "greeting": "hello world",
        "mode": "fast",
    }
    redacted = Redactor().document({"kind": "ConfigMap", "data": data})
    assert redacted["data"]["greeting"] == "hello world" and redacted["data"]["mode"] == "fast"
    assert redacted["data"]["app.properties"].startswith("db.host=db\ndb.password=[REDACTED:")


@pytest.mark.parametrize("template", [t for t in NAMED if "\n" not in t])
def test_text_anywhere_in_a_document(template: str, seed: int) -> None:
    secret = word(random.Random(seed))
    document = {
        "message": template.format(secret),
        "list": [1, None, {"deep": template.format(secret)}],
        secret: 1,
    }
    redactor = Redactor()
    redactor.learn(secret)
    assert secret not in json.dumps(redactor.document(document))


def test_shapes_and_encodings_in_documents(seed: int) -> None:
    chance = random.Random(seed)
    secret, redactor = word(chance, least=16), Redactor()
    redactor.learn(secret)
    document = {name: encode(chance, secret.encode()).decode() for name, encode in ENCODINGS.items()}
    document |= {f"shape {number}": token for number, (_, token) in enumerate(shaped(chance))}
    redacted = redactor.document(document)
    assert all("[REDACTED:" in value for value in redacted.values()), redacted


def test_numbers_names_and_surrogates_stay() -> None:
    page = ProcessPage(
        (
            Process(
                1,
                2,
                0,
                "tok\udcffen",
                "S",
                5,
                6,
                0.5,
                1,
                1.5,
                cmdline=("a\udcff", "--x=1"),
                reasons={"exe": "denied"},
            ),
        ),
        3,
        True,
        gone=((4, 5),),
    )
    plain = codec.to_plain(page)
    redacted = Redactor().document(plain)
    assert redacted == plain and redacted is not plain
    assert codec.from_plain(ProcessPage, redacted).items[0].name == "tok\udcffen"


def test_documents_nested_too_deep_are_cut_closed() -> None:
    document: Any = {"x": "s3cretInside"}
    for _ in range(200):
        document = [document]
    output = json.dumps(Redactor().document(document))
    assert "s3cretInside" not in output and "too-deep" in output


def test_every_answer_of_a_real_target_decodes_as_before() -> None:
    async def look() -> None:
        async with open_target(parse("demo:"), OpenOptions()) as target:
            pid = target.info.pid
            answers = [
                await target.processes(),
                await target.sockets(),
                await target.network(),
                await target.cgroup(),
                await target.access(),
                await target.mounts(),
                await target.process(pid),
                await target.fds(pid),
                await target.maps(pid),
                await target.list_dir("/"),
            ]
            redactor = Redactor()
            for answer in answers:
                plain = codec.to_plain(answer)
                redacted = redactor.document(plain)
                assert shape_of(redacted) == shape_of(plain)
                assert codec.to_plain(codec.from_plain(type(answer), redacted)) == redacted

    asyncio.run(look())


# One walk learns and replaces


def test_what_stands_before_its_place_is_found_and_counted_once(seed: int) -> None:
    secret = word(random.Random(seed))
    redactor = Redactor()
    redacted = redactor.document(
        {"message": f"login with {secret}", "env": [{"name": "DB_PASSWORD", "value": secret}]}, "pod.json"
    )
    assert secret not in json.dumps(redacted)
    report = redactor.report()
    assert report["redacted"] == {"env": {"pod.json": 2}} and report["learned_late"] == []
    assert report["scanned_bytes"] == len(
        "message" + f"login with {secret}" + "env" + "DB_PASSWORD" + "namevalue"
    )


def some(chance: random.Random, values: list[str], depth: int = 0) -> Any:
    """Of a document: secrets in their places, in running text, and inside of JSON."""
    value = chance.choice(values)
    kinds: list[Any] = [
        f"using {value} now", "HOME=/root", "[heap]", 7, None, {"name": "DB_PASSWORD", "value": value},
        {"name": "HOME", "value": "/root"}, {"password": value, "host": "db"}, {value: "x", "a": [1, 2]},
        {"cmdline": ["app", "--token", value]}, {"cmdline": ["sh", "-c", f"mysql -p{value} db"]},
        {"cmdline": ["app", "--verbose", "now"]}, secrets({"k": value}),
        json.dumps({"env": [{"name": "API_KEY", "value": value}]}),
    ]  # fmt: skip
    if depth < 3:
        inner = [some(chance, values, depth + 1) for _ in range(4)]
        kinds += [inner, {f"f{number}": item for number, item in enumerate(inner)}] * 6
    return chance.choice(kinds)


def test_one_walk_does_what_learning_first_does(seed: int) -> None:
    chance = random.Random(seed)
    values = [word(chance) for _ in range(6)]
    once, first = Redactor(b"k" * 16), Redactor(b"k" * 16)
    for number in range(60):
        document = [some(chance, values) for _ in range(5)]
        first.learn_document(document, f"d{number}")
        assert once.document(document, f"d{number}") == first.document(document, f"d{number}")
    counted = ("redacted", "scanned_bytes", "known_secrets")
    assert [once.report()[name] for name in counted] == [first.report()[name] for name in counted]
    assert once.report()["known_secrets"] >= 3


def test_what_a_secret_holds_is_known_from_the_same_walk(seed: int) -> None:
    secret = word(random.Random(seed))
    inside = json.dumps({"env": [{"name": "DB_PASSWORD", "value": secret}]})
    redactor = Redactor()
    redactor.document(secrets({"config": inside}))
    assert secret not in redactor.text(f"connecting with {secret}")


def test_what_was_harmless_is_looked_at_again_once_more_is_known(seed: int) -> None:
    secret = word(random.Random(seed), least=12)
    document = {"cmdline": ["app", secret, "now"], "rows": [{secret: 1, "at": 2}], "text": secret}
    redactor = Redactor()
    assert redactor.document(document) == document == redactor.document(document)
    redactor.learn(secret)
    assert secret not in json.dumps(redactor.document(document))


def test_what_is_remembered_is_bounded(seed: int) -> None:
    chance, held = random.Random(seed), Remembered()
    for _ in range(5000):
        text = "x" * chance.randrange(MAX_EACH + 1) + str(chance.random())
        held.keep(text, True, len(text))
        assert text not in held or len(text) <= MAX_EACH
    assert 0 < sum(len(str(key)) for key in held) <= MAX_CHARACTERS


ODD = st.text(st.sampled_from('\ud800\udcff\udfffä\0{["\\a1'), max_size=12)
NAMES = st.sampled_from(["password", "name", "value", "kind", "type", "data", "cmdline", "env"])
DOCUMENTS = st.recursive(
    ODD | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | ODD, inner, max_size=4)
        | inner.map(json.dumps)
        | st.fixed_dictionaries({"name": NAMES, "value": inner})
    ),
    max_leaves=12,
)


@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(DOCUMENTS)
@hypothesis.example([{"name": "X", "value": '{"password": "\\ud800abc123xyz"}'}])
def test_no_document_of_a_hostile_target_ends_it(document: Any) -> None:
    redactor = Redactor()
    redactor.learn_document(document)
    assert "abc123xyz" not in json.dumps(redactor.document(document))


@pytest.mark.parametrize("depth", [60, 70, 500, 900, 980, 1500, 50_000])
def test_json_of_any_depth_inside_of_a_variable_ends_nothing(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"password":' * depth + '"abc123xyz"' + "}" * depth):
        redactor = Redactor()
        redactor.learn_document([{"name": "X", "value": text}])
        assert "abc123xyz" not in json.dumps(redactor.document([{"name": "X", "value": text}]))
