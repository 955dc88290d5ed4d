"""Ways by which a secret could get through: each is caught, or the page says that it is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from flightlog.redact.policy import Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor

PAGE = Path(__file__).parents[3] / "docs" / "redaction.md"
REDACTOR = Redactor(Redaction(), Pseudonyms(b"k" * 32))
S = "hunter2xQ9"
TOKEN = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
KEY = "sk-ant-api03-" + "R2D2c3po" * 11 + "AA"
LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
BASIC = base64.b64encode(f"bob:{S}".encode()).decode()
CARD = "4539578763621486"
NAMES = (
    "password", "passwd", "PASSWORD", "user_pass", "dbPassword", "secret", "client_secret",
    "clientSecret", "apiKey", "API_KEY", "x-api-key", "X-Api-Key", "ApiKeyAuth", "openai_api_key",
    "access_token", "refreshToken", "x-auth-token", "private-key", "SECRET_ACCESS_KEY",
    "signing_key", "credentials", "Proxy-Authorization", "Set-Cookie", "passphrase", "otp",
    "mfa_code", "totp_secret", "webhook_secret", "connection_string", "connectionString",
    "AccountKey", "SharedAccessKey", "X-Amz-Security-Token", "Ocp-Apim-Subscription-Key", "jwt",
    "personal_access_token", "password_hash", "newPassword", "password_2", "PGPASSWORD",
    "MYSQL_PWD", "root_pw", "psk", "mnemonic", "seed_phrase", "SecretString", "client-key-data",
    "creds", "passwords", "api_keys", "app_key", "consumer_secret", "ssh_key", "license_key",
    "authorization_code", "code_verifier", "client_assertion", "SAMLResponse", "ssn", "cvv",
    "passwort", "kennwort", "senha", "mot_de_passe", "pass", "pw",
)  # fmt: skip
AROUND_NAME = {
    "JSON": '{{"{name}":"{s}"}}',
    "JSON, white space": '{{"{name}"   :\n\n   "{s}"}}',
    "JSON, escaped letters": '{{"{escaped}":"{s}"}}',
    "list in JSON": '{{"{name}":["{s}",{{"x":"{s}"}}]}}',
    "object in JSON": '{{"{name}":{{"current":"{s}"}}}}',
    "field and value": '[{{"name":"{name}","value":"{s}"}}]',
    "key and value": '{{"Key": "{name}",\n  "Value": "{s}"}}',
    "pair": '["{name}","{s}"]',
    "pair of bytes": "[(b'{name}', b'{s}')]",
    "arguments of a command": '["--{name}","{s}"]',
    "Python": "Config(user='bob', {name}='{s}')",
    "dict": "{{'{name}': '{s}'}}",
    "YAML": "a: 1\n{name}: {s}\nb: 2",
    "YAML block": "{name}: |\n  {s}\nb: 2",
    "YAML block in JSON": '{{"file":"{name}: |\\n  {s}\\nb: 2"}}',
    "settings": "{name} = {s}",
    "shell": "export {name}='{s}' && run",
    "TOML": '{name} = "{s}"',
    "Go": '{name} := "{s}"',
    "JavaScript": "{{{name}: `{s}`}}",
    "flag": "run --{name} {s} -v",
    "flag with sign": "run --{name}={s} -v",
    "query": "https://x/y?a=1&{name}={s}&z=2",
    "query, encoded": "a%3D1%26{name}%3D{s}%26z%3D2",
    "query, encoded twice": "a%253D1%2526{name}%253D{s}%2526z%253D2",
    "query in careful JSON": '{{"q":"a=1\\u0026{name}\\u003d{s}\\u0026z=2"}}',
    "XML": "<{name}>{s}</{name}>",
    "XML data": "<{name}><![CDATA[{s}]]></{name}>",
    "XML attribute": '<add key="{name}" value="{s}"/>',
    "HTML": '<input name="{name}" type="text" value="{s}">',
    "header": "{name}: {s}\r\nHost: x",
    "form": 'form-data; name="{name}"\r\n\r\n{s}\r\n--b',
    "Markdown": "**{name}:** `{s}`",
    "Markdown bold": "**{name}**: {s}",
    "log": 'level=info {name}="{s}" user=bob',
    "log, commas": "level=info,{name}={s},user=bob",
    "traceback": '    login("bob", {name}="{s}")\nValueError: bad',
    "sentence": "my {name} is {s}",
    "wide colon": "{name}\uff1a{s}",
    "error of pydantic": "{name}\n  too short [type=string_too_short, input_value='{s}', x]",
}
TEXTS = {
    "zero width in a name": ('"pas\u200bsword":"' + S + '"', S),
    "zero width in a key": (KEY[:20] + "\u200b" + KEY[20:], KEY[20:]),
    "zero width in a card": ("4539\u200b5787\u200b6362\u200b1486", "5787"),
    "escapes for all letters": ("".join(f"\\u{ord(one):04x}" for one in KEY), "\\u0073\\u006b"),
    "JSON six times": (json.dumps(json.dumps(json.dumps({"password": S}))), S),
    "Base64 of JSON": (base64.b64encode(json.dumps({"password": S}).encode()).decode(), "eyJ"),
    "curl": (f"curl -u bob:{S} https://x", S),
    "curl --user": (f"curl --user 'bob:{S}' https://x", S),
    "sshpass": (f"sshpass -p {S} ssh x", S),
    "SQL": (f"CREATE USER bob IDENTIFIED BY '{S}'", S),
    "SQL role": (f"ALTER ROLE bob WITH PASSWORD '{S}'", S),
    "npmrc": (f"//registry.npmjs.org/:_authToken={S}", S),
    "npmrc auth": (f"_auth={BASIC}", BASIC),
    "docker config": (json.dumps({"auths": {"r": {"auth": BASIC}}}), BASIC),
    "environment of a container": (json.dumps({"Env": [f"DB_PASSWORD={S}"]}), S),
    "JDBC": (f"jdbc:postgresql://h/db?user=bob&password={S}", S),
    "ODBC": (f"Driver=x;Uid=bob;Pwd={S};Encrypt=yes", S),
    "Azure storage": (f"AccountName=a;AccountKey={TOKEN * 2}==;EndpointSuffix=x", TOKEN),
    "URL": (f"postgres://bob:{S}@host/db", S),
    "URL without user": (f"redis://:{S}@host:6379/0", S),
    "URL, @ in the password": (f"postgres://bob:{S}p@ss@host/db", "ss@host"),
    "URL, long password": (f"https://bob:{TOKEN * 4}@host/", TOKEN),
    "URL, token as user": (f"https://{TOKEN}@github.com/x/y", TOKEN),
    "URL of GitHub": (f"https://x-access-token:{TOKEN}@github.com/x/y", TOKEN),
    "Basic": (f"Authorization: Basic {BASIC}", BASIC),
    "Basic, bytes": (f"('authorization', b'Basic {BASIC}')", BASIC),
    "Bearer": (f"bearer {TOKEN}", TOKEN),
    "Bearer, encoded": (f"Bearer%20{TOKEN}", TOKEN),
    "Bearer, tab": (f"Bearer\t{TOKEN}", TOKEN),
    "Token": (f"Authorization: Token {TOKEN}", TOKEN),
    "Digest": (f"Authorization: Digest username=bob, response={TOKEN}", TOKEN),
    "AWS signature": (f"Authorization: AWS4-HMAC-SHA256 Credential=A/x, Signature={TOKEN}", TOKEN),
    "signed URL": (f"https://x/k?X-Goog-Signature={'0123abcd' * 16}", "0123abcd"),
    "shared access signature": (f"https://x/k?sp=r&sig={TOKEN}%3D&se=1", TOKEN),
    "cookie": ("Cookie: session=abcd1234efgh; theme=dark", "abcd1234efgh"),
    "cookies in JSON": ('{"set-cookie":["session=abcd1234efgh; Path=/"]}', "abcd1234efgh"),
    "key of another line": (f"PRIVATE_KEY=-----BEGIN PRIVATE KEY-----\n{LINE}\n", LINE),
    "key, indented": (f"k: |\n  -----BEGIN RSA PRIVATE KEY-----\n  {LINE}\n  {LINE[::-1]}", LINE),
    "key, quoted": (
        f"> -----BEGIN EC PRIVATE KEY-----\n> {LINE}\n> -----END EC PRIVATE KEY-----",
        LINE,
    ),
    "key, lines of a program": (
        f'"-----BEGIN PRIVATE KEY-----\\n",\n"{LINE}\\n",\n"-----END PRIVATE KEY-----"',
        LINE,
    ),
    "key, headers": (
        f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n\n{LINE}\n-----END RSA PRIVATE KEY-----",
        LINE,
    ),
    "key, only its end": (f"{LINE}\n{LINE[::-1]}\n-----END RSA PRIVATE KEY-----", LINE),
    "key of PuTTY": (f"Private-Lines: 1\n{LINE}\nPrivate-MAC: 00", LINE),
    "JSON Web Key": (json.dumps({"kty": "EC", "x": LINE[:43], "d": TOKEN}), TOKEN),
    "masked by OpenAI": ("Incorrect API key provided: sk-proj-********wxyz. You can", "wxyz"),
    "in a path": (f"/home/x/{KEY}/y", KEY),
    "behind a sign": (f"k={KEY}", KEY),
    "behind a letter of UTF-8": (f"é{KEY}", KEY),
    "as a key": (json.dumps({KEY: 1}), KEY),
    "a card as a key": (json.dumps({CARD: 1}), CARD),
    "a card as a number": (f'{{"pan":{CARD}}}', CARD),
    "a card as a fraction": (f'{{"pan":{CARD}.0}}', CARD),
    "a card, dots": ("4539.5787.6362.1486", "5787"),
    "a card, thin spaces": ("4539\u20095787\u20096362\u20091486", "5787"),
    "a card, spaces as escapes": ("4539\\u00a05787\\u00a06362\\u00a01486", "5787"),
    "a card, two spaces": ("4539  5787  6362  1486", "5787"),
    "a card, slashes": ("4539/5787/6362/1486", "5787"),
    "a number as password": ('{"password":123456}', "123456"),
    "a short number": ('{"cvv":123}', "123"),
    "IBAN, small": ("gb29nwbk60161331926819", "nwbk"),
    "IBAN, dashes": ("GB29-NWBK-6016-1331-9268-19", "9268"),
    "IBAN, small, groups": ("de89 3704 0044 0532 0130 00", "0532"),
}
NOT_FOUND = {
    "words in a sentence": "my password is correct horse",
    "value before its name": '{"value": "hunter2xQ9", "name": "password"}',
    "name and value in a table": "| password | hunter2xQ9 |",
    "name and value by white space": "machine api.x login bob password hunter2xQ9",
    "the next line": "password:\n  hunter2xQ9",
    "glued to a command's flag": "mysql -u root -phunter2xQ9 db",
    "a URL without its scheme": "bob:hunter2xQ9@host:5432/db",
    "a slash in the password of a URL": "postgres://bob:hunter2xQ9/x@host/db",
    "a file of passwords": "db.host:5432:app:bob:hunter2xQ9",
    "glued to letters": f"x{KEY}",
    "broken by a line": f"{KEY[:18]}\n{KEY[18:]}",
    "spaced out": " ".join(KEY),
    "backwards": KEY[::-1],
    "hexadecimal": KEY.encode().hex(),
    "Base64 of no JSON": base64.b64encode(KEY.encode()).decode(),
    "all of it in percent": "".join(f"%{ord(one):02x}" for one in KEY),
    "digits of other scripts": "٤٥٣٩٥٧٨٧٦٣٦٢١٤٨٦",
    "a card by single digits": " ".join(CARD),
    "a card in columns": "4539\t5787\t6362\t1486",
    "a card behind letters": f"PAN{CARD}",
    "a negative number": f'{{"pan":-{CARD}}}',
    "a personal code": '{"pin": 4711}',
    "a social security number": "078-05-1120",
    "a session id": '{"session_id":"hunter2xQ9"}',
    "a name of other letters": '{"пароль":"hunter2xQ9"}',
    "a key without a shape": "use 0af1c2d3e4f5061728394a5b6c7d8e9f now",
    "parts of JSON in a text": '{"delta":"{\\"pass"}{"delta":"word\\":\\"hunter2xQ9\\"}"}',
}


def named() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        yield f"{name} in JSON", json.dumps({name: S})
    for how, around in AROUND_NAME.items():
        for name in ("password", "apiKey", "client_secret"):
            escaped = "".join(f"\\u{ord(one):04x}" for one in name)
            yield f"{name}, {how}", around.format(name=name, s=S, escaped=escaped)
    for depth in range(1, 6):
        text = json.dumps({"password": S})
        for _ in range(depth):
            text = json.dumps({"body": text})
        yield f"JSON in JSON, {depth} times", text
    for break_ in ("\n", "\r\n", "\\n", "\\r\\n", "\\\\n", " ", ""):
        for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY"):
            lines = (f"-----BEGIN {kind}-----", LINE, S, f"-----END {kind}-----")
            yield f"{kind}, {break_!r}", break_.join(lines)


@pytest.mark.parametrize("text", [pytest.param(text, id=how) for how, text in named()])
def test_no_writing_of_a_name_hides_its_value(text) -> None:
    assert S not in REDACTOR.clean(text)


@pytest.mark.parametrize("how", TEXTS)
def test_no_disguise_hides_a_secret(how) -> None:
    text, secret = TEXTS[how]
    assert secret in text
    after = REDACTOR.clean(text)
    assert secret not in after
    assert REDACTOR.clean(after) == after


@pytest.mark.parametrize("how", TEXTS)
def test_what_is_found_in_a_text_is_found_in_json_around_it(how) -> None:
    text, secret = TEXTS[how]
    for around in (json.dumps({"a": text}), json.dumps([text], ensure_ascii=False)):
        after = REDACTOR.clean(around)
        assert json.dumps(secret)[1:-1] not in after
        json.loads(after)


@pytest.mark.parametrize("how", NOT_FOUND)
def test_what_is_not_found_is_said_on_the_page(how) -> None:
    """A row that is found one day belongs to the others; a row here belongs to the page."""
    assert REDACTOR.clean(NOT_FOUND[how]) == NOT_FOUND[how]
    is_said = how in " ".join(PAGE.read_text(encoding="utf-8").split())
    assert is_said


def test_a_known_value_is_found_where_its_shape_is_not(redactor_of) -> None:
    """What is known is found in every encoding, whatever stands around it."""
    redactor = redactor_of(values=(KEY,))
    for text in (
        f"x{KEY}",
        KEY.encode().hex(),
        KEY.encode().hex().upper(),
        base64.b64encode(b"a" + KEY.encode()).decode(),
        base64.urlsafe_b64encode(b"??>" + KEY.encode()).decode(),
        quote(quote(f"x={KEY}", safe=""), safe=""),
    ):
        assert redactor.clean(text) != text
        assert KEY[:24] not in redactor.clean(text)
