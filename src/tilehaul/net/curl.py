"""libcurl, one transfer: its options, its guard, its figures, its errors in our words.

This file and `curl_loop.py` are the only ones that import pycurl. Why libcurl:
docs/decisions/0002-http-client.md.
"""

import asyncio
import errno
import socket
import ssl
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pycurl

from tilehaul.codec.safe_url import redact
from tilehaul.errors import RefusedError, TimedOutError, TransferError, UnreachableError
from tilehaul.net.addresses import PORTS_DEFAULT, AddressGuard, host_port
from tilehaul.ports.wire import TIMEOUTS_DEFAULT, Signing, Timeouts

# Room for one tile: libcurl's 16 KiB default cuts many tiles in two, and each piece is a call.
_BUFFER_BYTES = 64 * 1024

# Codes that pycurl does not name (curl/curl.h).
_E_HTTP2_STREAM, _E_TOO_LARGE = 92, 100

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_CERTIFICATE = {
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_ISSUER_ERROR,
    pycurl.E_SSL_INVALIDCERTSTATUS,
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH,
}
_REFUSED = {
    pycurl.E_FILESIZE_EXCEEDED: ("too_large", "the body is over the limit"),
    _E_TOO_LARGE: ("headers_too_large", "the answer's headers are over the limit"),
    pycurl.E_URL_MALFORMAT: ("bad_url", "the address is malformed"),
    pycurl.E_SSL_CACERT_BADFILE: ("tls_roots", "the trusted roots cannot be read"),
}
_UNREACHABLE = {
    pycurl.E_COULDNT_RESOLVE_HOST: ("dns", "the name cannot be resolved"),
    pycurl.E_COULDNT_CONNECT: ("connect", "no connection"),
    pycurl.E_SSL_CONNECT_ERROR: ("tls", "the TLS handshake failed"),
    pycurl.E_PARTIAL_FILE: ("cut", "the answer ended early"),
    pycurl.E_GOT_NOTHING: ("cut", "the connection closed without an answer"),
    pycurl.E_SEND_ERROR: ("reset", "the connection was reset while sending"),
    pycurl.E_HTTP2: ("reset", "the HTTP/2 connection broke"),
    _E_HTTP2_STREAM: ("reset", "the HTTP/2 stream was reset"),
    pycurl.E_FTP_WEIRD_SERVER_REPLY: ("bad_reply", "the answer is not HTTP"),
    # The scheme was checked before: here libcurl means "HTTP/0.9", that is, no status line.
    pycurl.E_UNSUPPORTED_PROTOCOL: ("bad_reply", "the answer is not HTTP"),
}


@dataclass(frozen=True, slots=True)
class CurlSettings:
    """What all handles of one wire share. `tls_roots` None: the system's; `signing` None: unsigned."""

    user_agent: str
    guard: AddressGuard
    connect_s: float
    connections_max: int
    tls_roots: Path | str | None = None
    signing: Signing | None = None


class CurlHandle:
    """One libcurl handle and the transfer it is busy with. Kept and used again.

    `head` and `body` grow while the transfer runs: header lines and pieces of the raw body.
    `done` is set to None or the error. `timeouts`, `seen`, `sent` and `progress_s` belong to who watches
    the time.
    """

    __slots__ = (
        "_asked",
        "_body_bytes_max",
        "_connect_s",
        "_guard",
        "_header_list",
        "_method",
        "_opened",
        "_permitted",
        "_refused",
        "_secure",
        "body",
        "curl",
        "done",
        "head",
        "progress_s",
        "seen",
        "sent",
        "start_s",
        "timeouts",
        "upload",
        "url",
    )

    def __init__(self, settings: CurlSettings, opened: list[socket.socket]) -> None:
        self.curl: Any = pycurl.Curl()
        self.url = ""
        self.head: list[bytes] = []
        self.body: list[bytes] = []
        self.done: asyncio.Future[TransferError | None]
        self.seen = self.sent = 0
        self.start_s = self.progress_s = 0.0
        self.timeouts = TIMEOUTS_DEFAULT
        self.upload: BytesIO | None = None
        self._connect_s = settings.connect_s
        self._guard = settings.guard
        self._opened = opened
        self._asked = self._refused = ""
        self._permitted = False
        self._method = "GET"
        self._secure = False
        self._header_list: list[bytes] | None = None
        self._body_bytes_max = 0
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.USERAGENT, settings.user_agent),
            (pycurl.BUFFERSIZE, _BUFFER_BYTES),
            (pycurl.CONNECTTIMEOUT_MS, _milliseconds(settings.connect_s)),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.OPENSOCKETFUNCTION, self._open_socket),
            # Appending to a list is done in C: no Python runs for a line or a piece of the body.
            (pycurl.HEADERFUNCTION, self.head.append),
            (pycurl.WRITEFUNCTION, self.body.append),
        ):
            self.curl.setopt(option, value)
        self._trust(settings.tls_roots)
        if settings.signing is not None:
            self._sign(settings.signing)

    def prepare(
        self,
        url: str,
        method: str,
        header_list: list[bytes],
        body_bytes_max: int,
        timeouts: Timeouts,
        upload: bytes = b"",
    ) -> None:
        """Make ready for one transfer. Options that stay as they were are not set again.

        Args:
            url: Begins with http:// or https://.
            method: GET, HEAD, PUT or DELETE.
            header_list: Lines as `name: value`, compared by identity with the one before.
            body_bytes_max: >= 1; bytes of the body as it crosses the wire.
            timeouts: `connect_s` is kept here, the rest is for who watches the time.
            upload: The body of a PUT.
        """
        setopt = self.curl.setopt
        self.url = url
        setopt(pycurl.URL, url if url.isascii() else _encoded(url))
        secure = url[4] in "sS"
        if secure != self._secure:
            # Over TLS, wait for the first connection's ALPN: one HTTP/2 connection instead of
            # fifty. Over plain HTTP that would hold 49 requests until the first is answered.
            setopt(pycurl.PIPEWAIT, int(secure))
            self._secure = secure
        if method != self._method or method == "PUT":
            self._set_method(method, upload)
        if header_list is not self._header_list:
            setopt(pycurl.HTTPHEADER, header_list)
            self._header_list = header_list
        if body_bytes_max != self._body_bytes_max:
            setopt(pycurl.MAXFILESIZE_LARGE, body_bytes_max)
            self._body_bytes_max = body_bytes_max
        if timeouts.connect_s != self._connect_s:
            setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(timeouts.connect_s))
            self._connect_s = timeouts.connect_s
        self.timeouts = timeouts
        self._asked = self._refused = ""
        self._permitted = False
        self.seen = self.sent = 0

    def _set_method(self, method: str, upload: bytes) -> None:
        curl = self.curl
        if self._method == "DELETE":
            curl.unsetopt(pycurl.CUSTOMREQUEST)
        # Setting HTTPGET also undoes NOBODY and UPLOAD.
        curl.setopt(pycurl.NOBODY if method == "HEAD" else pycurl.HTTPGET, 1)
        self.upload = None
        if method == "DELETE":
            curl.setopt(pycurl.CUSTOMREQUEST, method)
        elif method == "PUT":
            self.upload = BytesIO(upload)
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, len(upload))
            curl.setopt(pycurl.READFUNCTION, self.upload.read)
            # libcurl sends again by itself on a kept-alive connection that died before the answer.
            curl.setopt(pycurl.SEEKFUNCTION, self._rewind)
        self._method = method

    def _rewind(self, offset: int, origin: int) -> int:
        if self.upload is None:
            return int(pycurl.SEEKFUNC_FAIL)
        self.upload.seek(offset, origin)
        return int(pycurl.SEEKFUNC_OK)

    def figures(self) -> tuple[int, float, float]:
        """Status, seconds from sending to the headers, seconds in all."""
        info = self.curl.getinfo
        ttfb_s = info(pycurl.STARTTRANSFER_TIME) - info(pycurl.PRETRANSFER_TIME)
        return info(pycurl.RESPONSE_CODE), max(0.0, ttfb_s), info(pycurl.TOTAL_TIME)

    def connected_s(self) -> float:
        """Seconds from the start until the request could be sent; 0 while connecting."""
        return float(self.curl.getinfo(pycurl.PRETRANSFER_TIME))

    def error(self, code: int, message: str) -> TransferError:
        """Translate libcurl's verdict on the transfer."""
        url = redact(self.url)
        if self._refused and not self._permitted:
            return self._guard.refusal(self._asked, self._refused, url=url)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            # The only limit libcurl keeps for us; the others are the wire's.
            return TimedOutError(f"no connection in time: {message}", phase="connect", url=url)
        if code in _CERTIFICATE:
            text = f"the certificate is not trusted: {message}"
            return RefusedError(text, url=url, cause="tls_certificate")
        if code == pycurl.E_RECV_ERROR and "response headers" in message:
            # Over 300 KB in all; libcurl has a code of its own only for one header of that size.
            code = _E_TOO_LARGE
        if code in _REFUSED:
            cause, text = _REFUSED[code]
            return RefusedError(f"{text}: {message}", url=url, cause=cause)
        if code == pycurl.E_RECV_ERROR and self.curl.getinfo(pycurl.OS_ERRNO) == errno.ECONNRESET:
            cause, text = "reset", "the connection was reset"
        elif code == pycurl.E_RECV_ERROR:
            cause, text = "cut", "the answer ended early"
        else:
            cause, text = _UNREACHABLE.get(code, (f"curl_{code}", "the transfer failed"))
        return UnreachableError(f"{text}: {message}", url=url, cause=cause)

    def _open_socket(self, _purpose: int, address: tuple[int, int, int, Any]) -> socket.socket | int:
        """Make the socket for one address of the host, unless the guard forbids that address.

        libcurl calls this before each connect, with the address it is about to connect to.
        """
        family, kind, protocol, where = address
        ip = where[0] if isinstance(where, tuple) else ""
        if not self._asked:
            # Parsed by libcurl itself: two parsers could disagree on what the host is.
            parts = pycurl.CurlUrl(_encoded(self.url).decode())
            self._asked = host_port(parts.host, int(parts.port or PORTS_DEFAULT[parts.scheme]))
        if not self._guard.permits(self._asked, ip):
            self._refused = ip
            return int(pycurl.SOCKET_BAD)
        self._permitted = True
        try:
            opened = socket.socket(family, kind, protocol)
        except OSError:
            return int(pycurl.SOCKET_BAD)
        self._opened.append(opened)
        return opened

    def _sign(self, signing: Signing) -> None:
        """Every request is signed by libcurl, with AWS Signature Version 4."""
        self.curl.setopt(pycurl.AWS_SIGV4, f"aws:amz:{signing.region}:s3")
        self.curl.setopt(pycurl.USERNAME, signing.access_key)
        self.curl.setopt(pycurl.PASSWORD, signing.secret_key)

    def _trust(self, roots: Path | str | None) -> None:
        """Name the roots: a wheel's libcurl carries the path of the machine that built it."""
        if roots is None:
            found = ssl.get_default_verify_paths()
            roots = found.cafile or found.capath
            if sys.platform in ("win32", "darwin"):
                self.curl.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        if roots is not None:
            self.curl.setopt(pycurl.CAPATH if Path(roots).is_dir() else pycurl.CAINFO, str(roots))


def _milliseconds(seconds: float) -> int:
    """At least 1: libcurl takes 0 for its own default of 300 s."""
    return max(1, round(seconds * 1000))


def _encoded(url: str) -> bytes:
    """Percent-encode what is not ASCII behind the host; a host is libcurl's to encode (IDNA)."""
    scheme, separator, rest = url.partition("://")
    cut = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    return (scheme + separator + rest[:cut] + quote(rest[cut:], safe=_PRINTABLE)).encode()
