"""Connecting to a destination: its hosts in their order, each with its addresses, until one takes a transaction."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mailsrv.config import Config
from mailsrv.host.outgoing import Outgoing, addresses_of
from mailsrv.host.resolver import Ask
from mailsrv.model import outcome
from mailsrv.protocol.smtp_client import Encrypt
from mailsrv.work.exchangers import Host, NoHostError, Ourselves, hosts_of
from mailsrv.work.line import Line, Unreachable, Watch
from mailsrv.work.policies import NOTHING, Demand, Policies
from mailsrv.work.routes import Route

MOST_HOSTS: Final = 5  # of a destination that are tried in one go

Place = tuple[str, int]  # a host's name and port


class Dialer:
    """Opens lines, for any number of threads. `ask` looks names up."""

    def __init__(self, config: Config, ask: Ask) -> None:
        self._config = config
        self._ask = ask
        self._ourselves = Ourselves(config)
        self._policies = Policies(config, ask)

    def open(self, route: Route, watch: Watch, tried: set[Place]) -> Line:
        """A line to the first host of the route that takes one and was not yet tried; raises Unreachable.

        `watch` is told whenever something moves; `tried` learns which hosts were.
        """
        failed: Unreachable | None = None
        try:
            for host, port in itertools.islice(self._hosts(route), MOST_HOSTS):
                if (host.name, port) in tried:
                    continue
                tried.add((host.name, port))
                watch.tick()
                try:
                    return self._open_host(route, host, port, watch)
                except Unreachable as unreachable:
                    is_us = unreachable.reason == outcome.LOOPS
                    failed = failed or unreachable if is_us else unreachable  # those before us may come back
                    if is_us:
                        break
        except NoHostError as error:
            raise Unreachable(error.reason, error.why) from error
        raise failed or Unreachable(outcome.NO_CONNECTION, str(route))

    def _hosts(self, route: Route) -> Iterator[tuple[Host, int]]:
        """Raises NoHostError."""
        if route.domain:
            for host in hosts_of(route.domain, self._ask, self._ourselves):
                yield host, self._config.relay.port
        for name, port in route.hosts:
            yield Host(name, 0, ()), port

    def _open_host(self, route: Route, host: Host, port: int, watch: Watch) -> Line:
        """Raises Unreachable."""
        verdict = ""
        demand = self._demand(route, host, port)
        if demand.refusal:
            verdict = f"{demand.name} not met: {demand.refusal}"
            if demand.is_binding:
                raise Unreachable(outcome.NOT_BY_POLICY, f"{host.name}, {verdict}")
        elif demand.name:
            try:
                return self._open(route, host, port, watch, demand)
            except Unreachable as unreachable:
                if demand.is_binding or unreachable.reason not in (outcome.TLS_FAILED, outcome.TLS_NOT_OFFERED):
                    raise
                verdict = unreachable.verdict  # RFC 8461 §5: noted, and delivered all the same
        line = self._open_as_routed(route, host, port, watch)
        line.verdict = verdict
        return line

    def _demand(self, route: Route, host: Host, port: int) -> Demand:
        """What the domain asks for, or a host of the settings by its own name; nothing where they have decided."""
        has_decided = route.encrypt is Encrypt.NEVER or (not route.domain and route.encrypt is Encrypt.ALWAYS)
        if has_decided:
            return NOTHING
        domain = route.domain or host.name  # RFC 8461 §3.4
        return self._policies.demand(domain, host.name, port, is_authentic=host.is_authentic)

    def _open_as_routed(self, route: Route, host: Host, port: int, watch: Watch) -> Line:
        try:
            return self._open(route, host, port, watch)
        except Unreachable as unreachable:
            # Where TLS is only wanted, a handshake that fails is no reason to keep the mail back.
            if route.encrypt is not Encrypt.IF_OFFERED or unreachable.reason != outcome.TLS_FAILED:
                raise
        return self._open(replace(route, tls="none"), host, port, watch)

    def _open(self, route: Route, host: Host, port: int, watch: Watch, demand: Demand = NOTHING) -> Line:
        line = Line(self._config, route, host.name, self._connect(host, port), watch, demand)
        try:
            reason = line.open()
        except BaseException:
            line.abandon()
            raise
        if reason is None and route.domain and self._ourselves.has_name(line.name):
            reason = outcome.LOOPS
        if reason is not None:
            line.close()
            raise Unreachable(reason, line.where, line.verdict)
        return line

    def _connect(self, host: Host, port: int) -> Outgoing:
        settings = self._config.relay
        try:
            addresses = host.addresses or addresses_of(host.name, port, settings.source_address)
            return Outgoing.connect(addresses, port, settings.connect_timeout, settings.source_address)
        except OSError as error:
            raise Unreachable(outcome.NO_CONNECTION, f"{host.name}:{port}: {error.strerror or error}") from error
