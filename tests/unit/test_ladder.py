"""The access ladder: from what a pod says to the least security contexts that may do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdebug.errors import UsageError
from kdebug.kube import ladder
from kdebug.kube.ladder import Identity, plan

Object = dict[str, Any]

MATCH: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "capabilities": {"drop": ["ALL"]},
}


def pod(context: Object | None = None, whole: Object | None = None, user: Object | None = None) -> Object:
    """A pod of one container `app`, with its and the pod's security context and the kubelet's word."""
    status: Object = {"name": "app", "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}}}
    if user is not None:
        status["user"] = {"linux": user}
    app: Object = {"name": "app", "image": "i:1"}
    if context is not None:
        app["securityContext"] = context
    spec: Object = {"containers": [app]}
    if whole is not None:
        spec["securityContext"] = whole
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def user(uid: int, gid: int) -> Object:
    return {"uid": uid, "gid": gid, "supplementalGroups": [gid]}


def names(*arguments: Any) -> list[str]:
    return [rung.name for rung in plan(*arguments)]


def test_a_user_that_the_kubelet_tells() -> None:
    first, second = plan(pod(user=user(65532, 0)), "app", "auto")
    assert (first.name, first.guess) == ("match", False)
    assert first.context == MATCH | {"runAsUser": 65532, "runAsGroup": 0, "runAsNonRoot": True}
    assert second.name == "ptrace"
    assert second.context["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE", "DAC_READ_SEARCH"]}
    assert (second.context["runAsUser"], second.context["runAsNonRoot"]) == (0, False)


@pytest.mark.parametrize(
    ("context", "whole", "expected"),
    [
        ({"runAsUser": 7, "runAsGroup": 8}, None, Identity(7, 8, "spec")),
        (None, {"runAsUser": 7, "runAsGroup": 8}, Identity(7, 8, "spec")),
        ({"runAsUser": 9}, {"runAsUser": 7, "runAsGroup": 8}, Identity(9, 8, "spec")),
        ({"runAsUser": 0}, {"runAsUser": 7}, Identity(0, 0, "spec")),
        ({"runAsUser": 7}, None, Identity(7, 0, "spec")),
        ({"runAsGroup": 8}, None, Identity(None, None, "")),
        (None, None, Identity(None, None, "")),
    ],
)
def test_who_it_is_by_the_spec(context: Object, whole: Object, expected: Identity) -> None:
    assert ladder.identity_of(pod(context, whole), "app") == expected


def test_the_kubelet_knows_better_than_the_spec() -> None:
    found = ladder.identity_of(pod({"runAsUser": 7, "runAsGroup": 8}, user=user(7, 9)), "app")
    assert found == Identity(7, 9, "status")


def test_an_unknown_user_is_guessed_and_said_to_be() -> None:
    first, _ = plan(pod(), "app", "auto")
    assert first.guess and first.context["runAsUser"] == 65532 and first.context["runAsNonRoot"]
    assert first.why == "the target's user is not known yet"


@pytest.mark.parametrize(
    ("capabilities", "name", "expected"),
    [
        (None, "match+caps", None),
        ({"add": ["NET_ADMIN"]}, "match+caps", {"add": ["NET_ADMIN"]}),
        ({"drop": ["NET_RAW"]}, "match+caps", {"drop": ["NET_RAW"]}),
        ({"drop": ["ALL"], "add": ["CHOWN"]}, "match+caps", {"drop": ["ALL"], "add": ["CHOWN"]}),
        ({"drop": ["ALL"]}, "match", {"drop": ["ALL"]}),
        ({"drop": ["all"]}, "match", {"drop": ["ALL"]}),
        ({"drop": ["ALL"], "add": []}, "match", {"drop": ["ALL"]}),
    ],
)
def test_a_root_target_keeps_its_capabilities(
    capabilities: Object | None, name: str, expected: Object | None
) -> None:
    """A reader needs a superset of the target's permitted set, and no more."""
    context = {"capabilities": capabilities} if capabilities else {}
    rung = plan(pod(context, user=user(0, 0)), "app", "auto")[0]
    assert (rung.name, rung.context.get("capabilities")) == (name, expected)
    assert rung.context["runAsNonRoot"] is False


def test_capabilities_of_a_user_that_is_not_root_are_lost_at_exec() -> None:
    context = {"runAsUser": 7, "capabilities": {"add": ["NET_ADMIN"]}}
    assert plan(pod(context), "app", "auto")[0].context["capabilities"] == {"drop": ["ALL"]}


def test_a_privileged_target_is_reached_by_ptrace_only() -> None:
    assert names(pod({"privileged": True}, user=user(0, 0)), "app", "auto") == ["ptrace"]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("match", ["match+caps"]),
        ("ptrace", ["ptrace"]),
        ("netadmin", ["netadmin"]),
        ("sysadmin", ["sysadmin"]),
        ("auto", ["match+caps", "ptrace"]),
    ],
)
def test_profiles(profile: str, expected: list[str]) -> None:
    """A named one is one rung: nothing climbs that was not asked to."""
    assert names(pod(user=user(0, 0)), "app", profile) == expected


def test_netadmin_adds_to_ptrace() -> None:
    (rung,) = plan(pod(), "app", "netadmin")
    wanted = ["SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN", "NET_RAW"]
    assert rung.context["capabilities"] == {"drop": ["ALL"], "add": wanted}


def test_no_such_profile() -> None:
    with pytest.raises(UsageError, match="there is no profile superuser; use auto, match, ptrace"):
        plan(pod(), "app", "superuser")


@pytest.mark.parametrize("profile", ["auto", "match", "ptrace", "netadmin"])
def test_labels_of_the_target_go_along(profile: str) -> None:
    armour, label = {"type": "Localhost", "localhostProfile": "web"}, {"level": "s0:c1,c2"}
    target = pod({"appArmorProfile": armour}, {"seLinuxOptions": label, "appArmorProfile": {"type": "x"}})
    for rung in plan(target, "app", profile):
        assert (rung.context["appArmorProfile"], rung.context["seLinuxOptions"]) == (armour, label)


def test_a_custom_profile_is_merged_field_by_field() -> None:
    custom = {"runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}, "readOnlyRootFilesystem": None}
    (rung,) = plan(pod(user=user(7, 8)), "app", "custom", custom)
    assert rung.name == "custom"
    assert rung.context == {
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 0,
        "runAsGroup": 8,
        "runAsNonRoot": False,
        "capabilities": {"add": ["SYS_ADMIN"]},
    }


def test_a_custom_profile_may_be_a_whole_container() -> None:
    (rung,) = plan(pod(), "app", "custom", {"securityContext": {"runAsUser": 5}})
    assert rung.context["runAsUser"] == 5


@pytest.mark.parametrize(
    "custom", [{"env": []}, {"securityContext": {"volumeMounts": []}}, {"securityContext": []}, {"x": 1}]
)
def test_a_custom_profile_holds_nothing_else(custom: Object) -> None:
    with pytest.raises(UsageError, match="a profile is a securityContext: "):
        plan(pod(), "app", "custom", custom)


def test_the_named_container_is_meant() -> None:
    both = pod({"runAsUser": 1, "runAsGroup": 1})
    both["spec"]["initContainers"] = [{"name": "side", "securityContext": {"runAsUser": 2}}]
    assert plan(both, "app", "auto")[0].context["runAsUser"] == 1
    assert plan(both, "side", "auto")[0].context["runAsUser"] == 2


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"privileged": True}, "privileged"),
        (MATCH | {"runAsUser": 1, "runAsGroup": 2}, "uid 1 gid 2, no capabilities"),
        ({"runAsUser": 0, "runAsGroup": 0}, "uid 0 gid 0, the runtime's default capabilities"),
        (
            {"runAsUser": 0, "runAsGroup": 0, "capabilities": {"add": ["A", "B"]}},
            "uid 0 gid 0, the runtime's default capabilities and A B",
        ),
        (
            {"runAsUser": 0, "runAsGroup": 0, "capabilities": {"drop": ["ALL"], "add": ["A"]}},
            "uid 0 gid 0, A",
        ),
    ],
)
def test_rights_in_a_few_words(context: Object, expected: str) -> None:
    assert ladder.Rung("x", context, "").rights == expected


IDS = st.integers(0, 2**31 - 1)
CAPABILITIES = st.lists(st.sampled_from(["ALL", "all", "CHOWN", "NET_ADMIN", "SYS_ADMIN"]), max_size=3)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "runAsUser": IDS,
        "runAsGroup": IDS,
        "privileged": st.booleans(),
        "runAsNonRoot": st.booleans(),
        "capabilities": st.fixed_dictionaries({}, optional={"add": CAPABILITIES, "drop": CAPABILITIES}),
    },
)
USERS = st.none() | st.builds(user, IDS, IDS)


@given(CONTEXTS | st.none(), CONTEXTS | st.none(), USERS)
def test_whatever_a_pod_says(context: Object | None, whole: Object | None, told: Object | None) -> None:
    """auto never asks for privileged, climbs at most once, and ends at ptrace; match never adds a right
    that the target has not."""
    rungs = plan(pod(context, whole, told), "app", "auto")
    assert len(rungs) in (1, 2) and rungs[-1].name == "ptrace"
    asked = set(((context or {}).get("capabilities") or {}).get("add") or [])
    for rung in rungs:
        assert "privileged" not in rung.context and rung.context["seccompProfile"]
        assert rung.context["runAsNonRoot"] is (rung.context["runAsUser"] != 0)
    for rung in rungs[:-1]:
        assert set((rung.context.get("capabilities") or {}).get("add") or []) <= asked
        if rung.name == "match":
            assert rung.context["capabilities"] == {"drop": ["ALL"]}
