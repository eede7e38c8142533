"""Names as a person may see them: on one line, and without passwords or signatures."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AUTHORITY_END = re.compile("[/?#]")
_SIGNING = (
    r"x-amz-[a-z-]+|x-goog-[a-z-]+|signature|sig|awsaccesskeyid|googleaccessid|key-pair-id|"
    r"token|access_token|api_?key"
)
_SIGNATURE = re.compile(rf"[?&]({_SIGNING})=", re.IGNORECASE)
# What comes along with a signature and changes with it.
_PASSING = re.compile(rf"({_SIGNING}|expires|policy|s[eioprtv]|spr|sk[a-z]+)=.*", re.IGNORECASE)
_WEB = ("http", "https")


def printable(name: str) -> str:
    r"""A name on one line: control characters as ``\n`` or ``\xNN``, bytes that are no UTF-8 too.

    Args:
        name: as Python spells names of files, with lone surrogates for bytes that are no UTF-8.
    """
    return name if name.isprintable() else _CONTROL.sub(_escaped, name)


def without_secrets(uri: str) -> tuple[str, bool]:
    """A remote URI without what may be secret, and whether there was any.

    Secret are a password, whatever stands before the host of a web address, its query, and a query
    that signs in any address.

    Args:
        uri: with ``://``.
    """
    scheme, _, rest = uri.partition("://")
    is_web = scheme.lower() in _WEB
    end = _AUTHORITY_END.search(rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    user, at, host = authority.rpartition("@")
    if at and (is_web or ":" in user):
        authority = host
    kept = path
    if is_web or _SIGNATURE.search(path):
        kept = path.partition("?")[0]
    bare = f"{scheme}://{authority}{kept}"
    return bare, bare != uri


def lasting_part(uri: str) -> str:
    """What of an address with secrets tells it from others, today and when it is signed anew.

    To be hashed, not to be shown: a query may hold what nobody can know to be secret.
    """
    bare, _ = without_secrets(uri)
    query = uri.partition("?")[2]
    lasting = [part for part in query.split("&") if part and not _PASSING.fullmatch(part)]
    return f"{bare}?{'&'.join(lasting)}" if lasting else bare


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match.group().encode("unicode_escape").decode("ascii")
