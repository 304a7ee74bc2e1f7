"""Delivers alerts through Apprise: Telegram, Slack, mail, webhooks and a hundred more."""

import logging
from collections.abc import Iterable
from typing import Any

from pydantic import SecretStr

from dbpilot.alerting import ALERTS_THREAD, NotifierError
from dbpilot.errors import ConfigError


class AppriseNotifier:
    """Sends every message to all of the addresses, whichever of them fail."""

    def __init__(self, urls: Iterable[SecretStr]) -> None:
        """Reads the addresses; nothing is sent or connected yet.

        Raises:
            ConfigError: Apprise is not installed, or does not understand an address.
        """
        try:
            import apprise
        except ImportError:
            raise ConfigError("alerts.urls needs Apprise: pip install 'dbpilot[notify]'") from None
        # Their messages repeat addresses, and tokens in them.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)
        self._channels = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if not self._channels.add(url.get_secret_value()):
                raise ConfigError(f"alerts.urls: the {number}. address is none that Apprise understands")

    def send(self, title: str, message: str) -> None:
        """The message is delivered.

        Raises:
            NotifierError: a channel refused it, or broke; says which kinds failed, and whether others were told.
        """
        failed = [channel for channel in self._channels if not _takes(channel, title, message)]
        if failed:
            kinds = ", ".join(sorted({type(channel).__name__.removeprefix("Notify") for channel in failed}))
            told = len(self._channels) - len(failed)
            rest = f"; {told} of {len(self._channels)} channels did" if told else ""
            raise NotifierError(f"{kinds} did not take the message{rest}")

    def __repr__(self) -> str:
        return f"AppriseNotifier({len(self._channels)} channels)"


def _takes(channel: Any, title: str, message: str) -> bool:
    try:
        return bool(channel.notify(title=title, body=message))
    except Exception:  # noqa: BLE001 - the border to channels, which anybody may write; what they say may repeat a token
        return False


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != ALERTS_THREAD
