"""Where pictures may go: an address inside this network, a host that the connection lists, or what the policy allows.

Names lie and change (DNS rebinding), so the *address* decides: all of a name's addresses before connecting, and the
socket's own peer after it, before a byte is sent.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_facefog.core.errors import ConfigurationError, PolicyError, TransientError
from airflow_facefog.detectors.roboflow.access import Access, host_name

_INSIDE = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""Loopback, RFC 1918 and RFC 4193. Link-local and shared (100.64/10) addresses are not here: list such a host by name."""


class UnresolvedError(TransientError):
    """The server's name has no address now. A retry may help."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What one server's pictures may be sent to. ``plain``: its URL is http, so nothing is encrypted on the way."""

    host: str
    plain: bool
    allow_remote: bool
    listed: tuple[str, ...]
    proxied: bool

    @classmethod
    def of(cls, access: Access, *, allow_remote: bool, url: str | None = None) -> Gate:
        """The gate of ``url`` (default: the inference URL)."""
        parts = urlsplit(url or access.inference_url)
        host = host_name(parts.hostname or "")
        return cls(host, parts.scheme == "http", allow_remote, access.allowed_hosts, access.proxy is not None)

    def addresses(self, host: str, port: int) -> list[str]:
        """Numeric addresses of ``host``, each checked, in the resolver's order.

        Raises UnresolvedError, and as ``check`` does when any one of them is not allowed.
        """
        found = list(dict.fromkeys(resolve(host, port)))
        for address in found:
            self.check(host, address)
        return found

    def check(self, host: str, address: str) -> None:
        """Raise PolicyError when pictures may not go to ``address``, ConfigurationError when they would go in clear."""
        name = host_name(host)
        if is_inside(address) or name in self.listed:
            return
        if not self.allow_remote:
            raise _refused(name)
        if self.plain and name == self.host:
            raise _in_clear(name)

    def check_proxied(self) -> None:
        """Behind a proxy only the name is known: it must be allowed, whatever address the proxy finds for it."""
        if not self.proxied or self.host in self.listed:
            return
        if not self.allow_remote:
            raise _refused(self.host)
        if self.plain:
            raise _in_clear(self.host)

    def remote_host(self) -> str | None:
        """The host when pictures leave this network; None when all its addresses are inside, or it is listed.

        Raises UnresolvedError.
        """
        if self.host in self.listed:
            return None
        if self.proxied:
            return self.host
        return None if all(is_inside(address) for address in resolve(self.host, 0)) else self.host


def resolve(host: str, port: int) -> list[str]:
    """All numeric addresses of a name. Raises UnresolvedError when there is none."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise UnresolvedError(f"the Roboflow server's name {host!r} cannot be resolved; check its URL and the network")
    return found


def is_inside(address: str) -> bool:
    """Whether a numeric address is loopback or private. What cannot be read is not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return any(ip.version == network.version and ip in network for network in _INSIDE)


def _refused(host: str) -> PolicyError:
    return PolicyError(
        f"the Roboflow server {host} is outside this network: every raw picture would be sent to it, with the faces of "
        "people in it who were never asked, before anything is fogged, and its operator could see and keep them. If they "
        "may be shown to that host, write `allow_remote_inference: true` in the policy; else give the URL of your own "
        "inference server, or list a host that you run in the connection's allowed hosts"
    )


def _in_clear(host: str) -> ConfigurationError:
    return ConfigurationError(
        f"the Roboflow server {host} is outside this network and its URL is http: pictures and key would travel readable "
        "for anyone on the way; give an https URL"
    )
