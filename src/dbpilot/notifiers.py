"""Delivers alerts through Apprise: Telegram, Slack, mail, webhooks and a hundred more."""

import logging
from collections.abc import Iterable

from pydantic import SecretStr

from dbpilot.alerting import NotifierError
from dbpilot.errors import ConfigError


class AppriseNotifier:
    """Sends every message to all of the addresses."""

    def __init__(self, urls: Iterable[SecretStr]) -> None:
        """Reads the addresses; nothing is sent or connected yet.

        Raises:
            ConfigError: Apprise is not installed, or does not understand an address.
        """
        try:
            import apprise
        except ImportError:
            raise ConfigError("alerts.urls needs Apprise: pip install 'dbpilot[notify]'") from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages repeat addresses
        self._channels = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if not self._channels.add(url.get_secret_value()):
                raise ConfigError(f"alerts.urls: the {number}. address is none that Apprise understands")

    def send(self, title: str, message: str) -> None:
        """The message is delivered.

        Raises:
            NotifierError: a channel refused it; says which kinds failed.
        """
        failed = [channel for channel in self._channels if not channel.notify(title=title, body=message)]
        if failed:
            kinds = ", ".join(sorted({type(channel).__name__.removeprefix("Notify") for channel in failed}))
            raise NotifierError(f"{kinds} did not take the message")

    def __repr__(self) -> str:
        return f"AppriseNotifier({len(self._channels)} channels)"
