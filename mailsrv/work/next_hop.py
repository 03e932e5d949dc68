"""Which way mail for a domain elsewhere will take, in words: what `mailsrv route` says."""

import itertools
from collections.abc import Iterable

from mailsrv.config import Config
from mailsrv.host.resolver import Resolver
from mailsrv.model.address import Mailbox
from mailsrv.model.international import domain_key
from mailsrv.work.dialing import MOST_HOSTS
from mailsrv.work.exchangers import NoHostError, Ourselves, hosts_of
from mailsrv.work.route import Note
from mailsrv.work.routes import Route, ways_of


def explain_next_hops(config: Config, mailboxes: Iterable[Mailbox]) -> list[Note]:
    """A note for each mailbox elsewhere; asks the DNS where that decides."""
    settings = config.dns
    resolver = Resolver(settings.nameservers, settings.timeout, settings.lifetime)
    ways = ways_of(config, logs_in=False)
    ours = set(map(domain_key, config.domains))
    notes = []
    for mailbox in mailboxes:
        route = None if domain_key(mailbox.domain) in ours else ways.to(mailbox.domain)
        if route is None:
            text = "waits: no route leads there"
        else:
            text = f"{_hosts(config, route, resolver)}; TLS: {route.tls}"
        notes.append(Note(0, str(mailbox), "relay", text))
    return notes


def _hosts(config: Config, route: Route, resolver: Resolver) -> str:
    if not route.domain:
        return f"to {route}"
    try:
        hosts = list(itertools.islice(hosts_of(route.domain, resolver.ask, Ourselves(config)), MOST_HOSTS))
    except NoHostError as error:
        return f"by MX: {error.reason} ({error.why})"
    return f"by MX: {', '.join(f'{host.name} [{host.addresses[0]}] ({host.preference})' for host in hosts)}"
