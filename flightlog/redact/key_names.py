"""Names of fields whose values are secret: `password`, `api_key`, `Authorization` and such.

A name is looked at word by word, whatever joins the words: `AWS_SECRET_ACCESS_KEY`,
`awsSecretAccessKey` and `aws.secret-access-key` are the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

MAX_NAME_BYTES: Final = 96

_KEYWORDS: Final = (
    rb"passw(?:or)?d|passphrase|passcode|pwd|[_-]pass|secret|token|jwt|bearer|otp|cv[vc]2?|ssn"
    rb"|credentials?|authori[sz]ation|cookie|apikey|connection[_ .-]?string"
    rb"|(?:api|private|access|secret|signing|encryption|account|shared|auth|master|client"
    rb"|subscription|service|deploy|session|webhook|app|application|consumer|license|ssh|tls|ssl"
    rb"|hmac|functions?)[_ .-]?key"
    rb"|(?:mfa|2fa|verification|security|recovery|backup|auth|login)[_ .-]?code"
    rb"|code[_ .-]?verifier|client[_ .-]?assertion|saml[_ .-]?response"
    rb"|mnemonic|(?:seed|recovery)[_ .-]?phrase|passwort|kennwort|contrasena"
    rb"|mot[_ .-]?de[_ .-]?passe|identified[ ]by"
)
_SHORT_KEYWORDS: Final = rb"pass|pw|psk|creds|senha"
"""Only where nothing stands between them and the sign: too many words begin with them."""
_ENDS: Final = frozenset(
    {
        "password", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "token",
        "jwt", "otp", "cvv", "cvc", "cvv2", "cvc2", "ssn", "credential", "credentials",
        "authorization", "authorisation", "cookie", "cookies", "apikey", "bearer",
        "accesstoken", "authtoken", "refreshtoken", "sessiontoken", "idtoken",
        "secretkey", "privatekey", "accesskey", "clientsecret", "connectionstring", "creds",
        "psk", "mnemonic", "passwort", "kennwort", "contrasena", "senha", "motdepasse",
    }
)  # fmt: skip
_KEY_OWNERS: Final = frozenset(
    {
        "api", "private", "access", "secret", "signing", "encryption", "account", "shared",
        "auth", "master", "client", "subscription", "service", "deploy", "session", "webhook",
    }
)  # fmt: skip
_WEAK_KEY_OWNERS: Final = frozenset(
    {"app", "application", "consumer", "license", "ssh", "tls", "ssl", "hmac", "functions"}
)
_CODE_OWNERS: Final = frozenset(
    {"mfa", "fa", "otp", "verification", "security", "recovery", "backup", "auth", "login"}
)
_PAIRS: Final = frozenset(
    {
        ("code", "verifier"), ("client", "assertion"), ("seed", "phrase"), ("recovery", "phrase"),
        ("connection", "string"), ("de", "passe"), ("saml", "response"),
        ("identified", "by"),
    }
)  # fmt: skip
_PASS_OWNERS: Final = frozenset(
    {
        "db", "database", "user", "smtp", "ftp", "mysql", "pg", "postgres", "redis", "admin",
        "root", "http", "proxy", "mail", "email", "login", "my", "auth", "basic", "vpn", "wifi",
    }
)  # fmt: skip
_NO_TOKEN: Final = frozenset(
    {
        "page", "next", "nextpage", "continuation", "sync", "cursor", "previous", "prev", "start",
        "end", "stop", "eos", "bos", "pad", "unk", "mask", "sep", "cls", "special", "max", "min",
        "num", "per", "cancel", "cancellation", "change", "resume", "input", "output", "prompt",
        "completion", "first", "last", "reasoning", "cached", "image", "audio", "delta", "by",
        "non", "no", "is", "has", "pagination", "marker", "watch", "batch",
    }
)  # fmt: skip
_BEHIND: Final = frozenset(
    {
        "value", "hash", "confirm", "confirmation", "again", "plain", "plaintext", "raw", "enc",
        "encrypted", "b64", "base64", "old", "new", "current", "header", "str", "string", "data",
        "binary", "auth",
    }
)  # fmt: skip
_WEAK: Final = frozenset({"token", "bearer", "pass", "pw"})
_PLURALS: Final = frozenset({"passwords", "passphrases", "keys"})
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")


def keyword_pattern(more: Iterable[str]) -> bytes:
    """RE2 of what is in every name that is secret; names of one's own come as `more`."""
    own = [rb"[_ .-]?".join(word.encode() for word in words_of(name)) for name in more]
    return b"(?i:%s)" % b"|".join([_KEYWORDS, *(one for one in own if one)])


def short_keyword_pattern() -> bytes:
    """RE2 of short names that are secret, and that many other names begin with."""
    return b"(?i:%s)" % _SHORT_KEYWORDS


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in small letters; digits at the end of a word are left out."""
    return tuple(word.lower() for word in _WORDS.findall(name) if not word.isdigit())


class KeyNames:
    """Says which names are secret.

    Args:
        more: names beside the built-in ones.
        but: names that are none, such as `page_token`.
    """

    def __init__(self, more: Iterable[str] = (), but: Iterable[str] = ()) -> None:
        self._more = frozenset(words_of(name) for name in more)
        self._but = frozenset(words_of(name) for name in but)
        self.strength = lru_cache(maxsize=4096)(self._strength)

    def _strength(self, name: str) -> str | None:
        """`strong` where any value under the name is secret, `weak` where one that looks like
        a secret is, None where the name says nothing.

        A token is weak: tokens of a language model and of a page are called so too.
        """
        if len(name) > MAX_NAME_BYTES:
            return None
        words = words_of(name)
        if not words or words in self._but:
            return None
        if words in self._more:
            return "strong"
        if words[-2:] in _PAIRS:
            return "strong"
        while len(words) > 1 and words[-1] in _BEHIND:
            words = words[:-1]
        if words[-1] in _PLURALS:
            single = self._strength(" ".join((*words[:-1], words[-1].removesuffix("s"))))
            return "weak" if single else None
        return _of_last(words[-1], words[-2] if len(words) > 1 else "")


def _of_last(last: str, before: str) -> str | None:
    """What the last two words of a name say."""
    if last == "key":
        if before in _WEAK_KEY_OWNERS:
            return "weak"
        return "strong" if before in _KEY_OWNERS else None
    if last == "code":
        if before in ("authorization", "authorisation"):
            return "weak"
        return "strong" if before in _CODE_OWNERS else None
    if last == "pass" and before in _PASS_OWNERS:
        return "strong"
    if last == "token" and before in _NO_TOKEN:
        return None
    if last in _WEAK:
        return "strong" if last == "token" and before else "weak"
    is_joined = last.endswith(("password", "passwd", "passphrase", "apikey", "authtoken"))
    return "strong" if is_joined or last in _ENDS else None
