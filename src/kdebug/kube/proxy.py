"""Which proxy stands between us and the API server, by kubectl's rules: the kubeconfig's, else that of
the environment, from which NO_PROXY and this machine itself are exempt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from kdebug.errors import UsageError

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """Where it is, and what it asks for."""

    host: str
    port: int
    secure: bool
    """Whether it is spoken to over TLS."""
    authorization: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def headers(self) -> list[tuple[str, str]]:
        return [("Proxy-Authorization", self.authorization)] if self.authorization else []


def proxy_for(server: str, configured: str) -> Proxy | None:
    """Raises `UsageError` for one that we cannot speak to."""
    url = urlsplit(server)
    if configured:
        return _parsed(configured)
    text = _variable(f"{url.scheme}_proxy")
    return _parsed(text) if text and not _exempt(url) else None


def _variable(name: str) -> str:
    return os.environ.get(name.upper()) or os.environ.get(name) or ""


def _parsed(text: str) -> Proxy:
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise UsageError("the proxy's URL cannot be read", why=str(error)) from error
    if url.scheme not in PORTS or not host:
        raise UsageError(
            f"the proxy {url.scheme}://{url.netloc.rpartition('@')[2]} cannot be used",
            why="kdebug speaks to proxies of http:// and https://",
            next_step="look at proxy-url in the kubeconfig, and at HTTPS_PROXY",
        )
    return Proxy(host, port or PORTS[url.scheme], url.scheme == "https", _authorization(url))


def _authorization(url: SplitResult) -> str:
    if url.username is None:
        return ""
    from base64 import b64encode

    return "Basic " + b64encode(f"{unquote(url.username)}:{unquote(url.password or '')}".encode()).decode()


def _exempt(url: SplitResult) -> bool:
    host, port = (url.hostname or "").rstrip("."), url.port or PORTS.get(url.scheme)
    if host == "localhost" or _within(host, "127.0.0.0/8") or host == "::1":
        return True
    rules = [rule.strip().lower() for rule in _variable("no_proxy").split(",")]
    return any(_matches(rule, host, port) for rule in rules if rule)


def _matches(rule: str, host: str, port: int | None) -> bool:
    """Everything (`*`), a network, an address, or a domain with what is below it (`.domain`: only that);
    the last two perhaps with a port."""
    if rule == "*" or _within(host, rule):
        return True
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and not name.endswith(":"):
        if int(number) != port:
            return False
        rule = name
    rule = rule.strip("[]").removeprefix("*")
    return host == rule or host.endswith(rule if rule.startswith(".") else f".{rule}")


def _within(host: str, network: str) -> bool:
    if "/" not in network or not (host[:1].isdigit() or ":" in host):
        return False
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
