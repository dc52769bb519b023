"""Reads the gateway's consumers: from a decK file, or from Kong's Admin API.

What becomes of them is `domain/consumer_import.py`'s.
"""

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from tallyman_kong.usage import UsageConfiguration, configuration

from tallyman.domain.consumer_import import Consumer, SubjectValue
from tallyman.errors import ConfigurationError, Unavailable
from tallyman.kong_config import PLUGIN, load_usage_configuration, read_deck, unset_variables

PAGE_SIZE: Final = 1000
TIMEOUT: Final = aiohttp.ClientTimeout(total=60, connect=10)
# decK's name of each kind of credential, and the Admin API's
_CREDENTIALS: Final = {
    "keyauth_credentials": "key-auths",
    "basicauth_credentials": "basic-auths",
    "hmacauth_credentials": "hmac-auths",
    "jwt_secrets": "jwts",
    "oauth2_credentials": "oauth2",
    "mtls_auth_credentials": "mtls-auths",
}


@dataclass(frozen=True)
class Gateway:
    """What was read; `usage` is None where the gateway has no plugin `tallyman`."""

    consumers: tuple[Consumer, ...]
    usage: UsageConfiguration | None


def subject_value(usage: UsageConfiguration) -> SubjectValue:
    """Which value of a consumer the plugin makes the subject.

    Raises:
        ConfigurationError: none: it is what a header says.
    """
    match usage.subject_from, usage.subject_field:
        case "consumer", ("username" | "custom_id" | "id") as field:
            return field
        case "credential", _:
            return "credential"
    raise ConfigurationError(
        f"the plugin takes the subject from the header {usage.subject_field}, so the consumers do "
        "not say whose usage it is; make the customers by the API, or give --subject"
    )


def read_deck_file(
    path: Path, environment: Mapping[str, str] = os.environ, subject: SubjectValue | None = None
) -> Gateway:
    """The consumers of a decK file; where `subject` is given, the plugin is not asked for it.

    Raises:
        ConfigurationError: it cannot be read, or a consumer's name is in a variable that is not set.
    """
    document = read_deck(path, environment)
    found = list(_list(document, "consumers", path))
    for number, group in enumerate(_list(document, "consumer_groups", path)):
        found += _list(group, "consumers", f"{path}: consumer_groups[{number}]")
    consumers = [_from_deck(one, f"{path}: consumers[{at}]") for at, one in enumerate(found)]
    asks = subject is None and _has_plugin(document)
    usage = load_usage_configuration(path, environment) if asks else None
    return Gateway(tuple(dict.fromkeys(consumers)), usage)


async def read_admin_api(
    url: str, token: str | None = None, subject: SubjectValue | None = None
) -> Gateway:
    """The consumers that Kong's Admin API lists; where `subject` is given, the plugin is not asked.

    Raises:
        Unavailable: it does not answer, or with what is no page.
        ConfigurationError: the plugins disagree on the subject.
    """
    headers = {"Kong-Admin-Token": token} if token else {}
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        api = _AdminApi(session, url.rstrip("/"))
        usage = await _usage(api) if subject is None else None
        credentials: dict[str, list[str]] = defaultdict(list)
        if subject == "credential" or (usage is not None and usage.subject_from == "credential"):
            for path in _CREDENTIALS.values():
                async for one in api.every(path, may_be_absent=True):
                    owner = one.get("consumer")
                    if isinstance(owner, dict):
                        credentials[str(owner.get("id"))].append(str(one.get("id")))
        consumers = [
            Consumer(
                id=_text(one.get("id")),
                username=_text(one.get("username")),
                custom_id=_text(one.get("custom_id")),
                tags=_tags(one.get("tags")),
                credential_ids=tuple(credentials[str(one.get("id"))]),
            )
            async for one in api.every("consumers")
        ]
    return Gateway(tuple(consumers), usage)


class _AdminApi:
    """The lists of an Admin API. Only the offset of `next` is used: a proxy may have moved the path."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def every(
        self, path: str, *, may_be_absent: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        offset: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._page(path, offset)
            if page is None:
                if may_be_absent:
                    return
                raise Unavailable(f"{self._url}/{path} is not there: is this Kong's Admin API?")
            for one in page["data"]:
                if isinstance(one, dict):
                    yield one
            following = page.get("next")
            if not isinstance(following, str) or not following:
                return
            [offset, *_] = parse_qs(urlsplit(following).query).get("offset", [""])
            if not offset or offset in seen:
                raise Unavailable(f"{self._url}/{path} leads from one page to the same again")
            seen.add(offset)

    async def _page(self, path: str, offset: str | None) -> dict[str, Any] | None:
        query = {"size": str(PAGE_SIZE)} | ({} if offset is None else {"offset": offset})
        try:
            async with self._session.get(f"{self._url}/{path}", params=query) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise Unavailable(f"{self._url}/{path} answered {answer.status}")
                page = await answer.json(content_type=None)
        except aiohttp.InvalidURL as err:
            raise ConfigurationError(f"--kong-admin {self._url} is no URL") from err
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as err:
            raise Unavailable(
                f"{self._url}/{path} did not answer as Kong's Admin API: {type(err).__name__}"
            ) from err
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise Unavailable(f"{self._url}/{path} did not answer as Kong's Admin API: no page")
        return page


async def _usage(api: _AdminApi) -> UsageConfiguration | None:
    found: dict[tuple[str, str], UsageConfiguration] = {}
    async for plugin in api.every("plugins"):
        if plugin.get("name") != PLUGIN or plugin.get("enabled") is False:
            continue
        try:
            usage = configuration(plugin.get("config"))
        except (ValueError, TypeError, AttributeError) as err:
            raise ConfigurationError(f"the plugin {plugin.get('id')}: {err}") from err
        found[usage.subject_from, usage.subject_field] = usage
    if len(found) > 1:
        raise ConfigurationError("the gateway's plugins disagree on subject; give --subject")
    return next(iter(found.values()), None)


def _from_deck(one: Mapping[str, Any], at: str) -> Consumer:
    consumer = Consumer(
        id=_text(one.get("id")),
        username=_text(one.get("username")),
        custom_id=_text(one.get("custom_id")),
        tags=_tags(one.get("tags")),
        credential_ids=tuple(
            str(credential["id"])
            for kind in _CREDENTIALS
            for credential in one.get(kind) or ()
            if isinstance(credential, dict) and credential.get("id")
        ),
    )
    if unset := unset_variables(consumer):
        raise ConfigurationError(f"{at} depends on {', '.join(unset)}, which is not set")
    return consumer


def _list(document: Mapping[str, Any], name: str, at: Path | str) -> list[dict[str, Any]]:
    found = document.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigurationError(f"{at}: {name} is not a list of mappings")
    return found


def _has_plugin(node: Any) -> bool:
    if isinstance(node, list):
        return any(_has_plugin(one) for one in node)
    if not isinstance(node, dict):
        return False
    plugins = node.get("plugins")
    found = plugins if isinstance(plugins, list) else []
    return any(
        isinstance(one, dict)
        and one.get("name") == PLUGIN
        and one.get("enabled", True) is not False
        for one in found
    ) or any(_has_plugin(value) for value in node.values())


def _tags(given: Any) -> tuple[str, ...]:
    return tuple(str(tag) for tag in given) if isinstance(given, list) else ()


def _text(given: Any) -> str | None:
    return str(given) if isinstance(given, str | int) and str(given) else None
