"""Where pictures may go: the address decides, on the socket itself, and nothing talks the client into another one."""

from __future__ import annotations

import datetime
import ipaddress
import ssl

import numpy as np
import pytest
from tiny_server import Answer, TinyServer, predictions

from airflow_facefog.core.errors import ConfigurationError, PolicyError, TransientError
from airflow_facefog.detectors.roboflow import guard, http, transport
from airflow_facefog.detectors.roboflow.access import Access, Secret
from airflow_facefog.detectors.roboflow.detector import RoboflowDetector
from airflow_facefog.detectors.roboflow.guard import Gate, is_inside

PUBLIC = "93.184.216.34"
PICTURE = np.full((40, 60, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def names(monkeypatch):
    """A name service of our own: name → addresses; other names do not exist."""
    book = {}

    def resolve(host, port):
        if host not in book:
            raise guard.UnresolvedError(f"{host!r} cannot be resolved")
        return list(book[host])

    monkeypatch.setattr(guard, "resolve", resolve)
    return book


@pytest.fixture
def server():
    """Answers "nothing found"."""
    with TinyServer(predictions).run() as running:
        yield running


def port_of(server):
    """The port in its URL."""
    return server.url.rpartition(":")[2]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_addresses_of_this_network(address):
    """Loopback, RFC 1918 and RFC 4193, also when IPv4 is written as IPv6."""
    assert is_inside(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "8.8.8.8", "172.32.0.1", "11.0.0.1", "192.169.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::",
     "2606:2800::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "fe80::1%eth0", "2002:7f00:1::", "10.0.0.1.evil", "", "localhost"],
)  # fmt: skip
def test_addresses_outside(address):
    """Public, link-local (cloud metadata), shared, mapped, translated and unreadable addresses are not of this network."""
    assert not is_inside(address)


@pytest.mark.parametrize("found", [[PUBLIC], ["10.0.0.5", PUBLIC], [PUBLIC, "127.0.0.1"]])
def test_a_public_address_is_refused_before_a_byte_is_sent(names, found):
    """One public address among private ones is enough; the message names the one line and what it means."""
    names["rf.example"] = found
    detector = RoboflowDetector("faces/3", Access(Secret("k"), "https://rf.example"))
    with pytest.raises(PolicyError, match="`allow_remote_inference: true`") as caught:
        detector.detect(PICTURE, 0.1)
    assert "people" in str(caught.value)
    assert "rf.example" in str(caught.value)
    assert detector.egress() == {}
    assert detector.info.remote_host == "rf.example"


def test_listed_hosts_and_private_addresses_are_no_remote_hosts(names):
    """What the connection lists, and what lies in this network, needs no line in the policy."""
    names.update({"inside.example": ["10.0.0.5", "fd00::5"], "listed.example": [PUBLIC]})
    listed = Access(Secret("k"), "https://LISTED.example.", allowed_hosts=("listed.example",))
    assert RoboflowDetector("faces/3", listed).info.remote_host is None
    assert RoboflowDetector("faces/3", Access(Secret("k"), "http://inside.example")).info.remote_host is None
    Gate.of(listed, allow_remote=False).check("listed.example", PUBLIC)


def test_plain_http_to_a_public_address_is_refused_even_when_allowed(names):
    """The policy allows a host to see the pictures, not everybody on the way."""
    names["rf.example"] = [PUBLIC]
    detector = RoboflowDetector("faces/3", Access(Secret("k"), "http://rf.example"), allow_remote=True)
    with pytest.raises(ConfigurationError, match="https"):
        detector.detect(PICTURE, 0.1)


def test_a_name_without_address_is_worth_a_retry(names):
    """Name services fail for a minute: transient, for identity and for pictures."""
    detector = RoboflowDetector("faces/3", Access(Secret("k"), "http://gone.example"))
    with pytest.raises(TransientError, match="resolved"):
        _ = detector.info
    with pytest.raises(TransientError, match="connection"):
        detector.detect(PICTURE, 0.1)
    assert detector.egress() == {}


def test_a_name_that_moves_is_caught_at_the_socket(names, server, monkeypatch):
    """DNS rebinding: the name was private when asked, the socket's peer is public: closed before anything is sent."""
    names["rf.example"] = ["127.0.0.1"]
    closed = []
    plain = transport.httpcore.SyncBackend.connect_tcp

    class Moved:
        def __init__(self, stream):
            self._stream = stream

        def get_extra_info(self, info):
            return (PUBLIC, 443) if info == "server_addr" else self._stream.get_extra_info(info)

        def close(self):
            closed.append(True)
            self._stream.close()

    monkeypatch.setattr(transport.httpcore.SyncBackend, "connect_tcp", lambda *a, **k: Moved(plain(*a, **k)))
    detector = RoboflowDetector("faces/3", Access(Secret("k"), f"http://rf.example:{port_of(server)}"))
    with pytest.raises(PolicyError, match="allow_remote_inference"):
        detector.detect(PICTURE, 0.1)
    assert closed == [True]
    assert server.count == 0


def test_the_checked_address_is_the_one_connected_to(names, server, monkeypatch):
    """The socket gets the number that was checked, so no second look-up can answer differently."""
    names["rf.example"] = ["127.0.0.1"]
    plain, hosts = transport.httpcore.SyncBackend.connect_tcp, []

    def connect(self, host, *args, **kwargs):
        hosts.append(host)
        return plain(self, host, *args, **kwargs)

    monkeypatch.setattr(transport.httpcore.SyncBackend, "connect_tcp", connect)
    access = Access(Secret("k"), f"http://rf.example:{port_of(server)}")
    assert RoboflowDetector("faces/3", access).detect(PICTURE, 0.1) == ()
    assert hosts == ["127.0.0.1"]
    assert server.asked[0].headers["host"] == f"rf.example:{port_of(server)}"


def test_a_dead_address_is_followed_by_the_next(names, server):
    """A name with a dead address first still answers."""
    names["rf.example"] = ["127.255.255.254", "127.0.0.1"]
    access = Access(Secret("k"), f"http://rf.example:{port_of(server)}")
    assert RoboflowDetector("faces/3", access).detect(PICTURE, 0.1) == ()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
def test_redirects_are_errors(server, status):
    """Another host gets neither picture nor key; the error says what it was and does not quote where to."""

    def elsewhere(asked):
        return Answer(b"", status, {"Location": f"{server.url}/stolen?api_key=k3yk3yk3y"})

    with TinyServer(elsewhere).run() as first:
        with pytest.raises(ConfigurationError, match=f"{status}, a redirect") as caught:
            RoboflowDetector("faces/3", Access(Secret("k3yk3yk3y"), first.url)).detect(PICTURE, 0.1)
        assert first.count == 1
    assert server.count == 0
    assert "stolen" not in str(caught.value)


def test_the_environment_names_no_proxy(server, monkeypatch):
    """HTTP_PROXY and friends are for other programs."""
    with TinyServer(lambda asked: Answer(b"", 500)).run() as spy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, spy.url)
        monkeypatch.setenv("NO_PROXY", "")
        assert RoboflowDetector("faces/3", Access(Secret("k"), server.url)).detect(PICTURE, 0.1) == ()
        assert spy.count == 0


def test_a_named_proxy_is_used_for_names_that_are_allowed(server):
    """The proxy decides the address, so the name must be listed (or the policy allow it)."""
    access = {"inference_url": "http://models.internal", "proxy": server.url}
    with pytest.raises(PolicyError, match=r"models\.internal"):
        RoboflowDetector("faces/3", Access(Secret("k"), **access)).detect(PICTURE, 0.1)
    assert server.count == 0
    listed = RoboflowDetector("faces/3", Access(Secret("k"), allowed_hosts=("models.internal",), **access))
    assert listed.detect(PICTURE, 0.1) == ()
    assert server.asked[0].raw_path.startswith("http://models.internal/faces/3?")
    assert list(listed.egress()) == ["models.internal"]


def test_behind_a_proxy_pictures_count_as_leaving():
    """Without a list the host is remote, whatever the proxy would make of it, and plain http is refused."""
    access = Access(Secret("k"), "http://models.internal", proxy="http://127.0.0.1:1")
    assert RoboflowDetector("faces/3", access).info.remote_host == "models.internal"
    with pytest.raises(ConfigurationError, match="https"):
        RoboflowDetector("faces/3", access, allow_remote=True).detect(PICTURE, 0.1)


def test_certificates_are_always_verified(tmp_path):
    """A server that nobody vouches for gets nothing; with the authority's file it is trusted; for a wrong name not."""
    files = _certificate(tmp_path)
    with TinyServer(predictions, tls=files).run() as server:
        with pytest.raises(ConfigurationError, match="certificate"):
            RoboflowDetector("faces/3", Access(Secret("k"), server.url)).detect(PICTURE, 0.1)
        trusted = {"ca_file": str(files[0]), "allowed_hosts": ("localhost",)}
        assert RoboflowDetector("faces/3", Access(Secret("k"), server.url, **trusted)).detect(PICTURE, 0.1) == ()
        wrong = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ConfigurationError, match="certificate"):
            RoboflowDetector("faces/3", Access(Secret("k"), wrong, **trusted)).detect(PICTURE, 0.1)
        assert server.count == 1


def test_https_to_a_plain_server_says_so(server):
    """A wrong scheme is a setting, not a fault to retry."""
    with pytest.raises(ConfigurationError, match="speaks no TLS"):
        RoboflowDetector("faces/3", Access(Secret("k"), server.url.replace("http", "https"))).detect(PICTURE, 0.1)


def test_a_missing_authority_file_is_a_setting():
    """Named before anything is sent."""
    with pytest.raises(ConfigurationError, match="ca_file"):
        RoboflowDetector("faces/3", Access(Secret("k"), "https://127.0.0.1:1", ca_file="/no/such")).detect(PICTURE, 0.1)


def _certificate(folder):
    """(certificate, key) files of a self-signed server for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tiny")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files[1].write_bytes(private)
    assert ssl.create_default_context(cafile=files[0])
    return files
