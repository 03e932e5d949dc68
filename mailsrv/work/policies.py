"""What the domain that mail goes to asks of the way there: DANE (RFC 7672), else MTA-STS (RFC 8461), else nothing.

DANE counts where the whole way by the DNS is vouched for: the MX records, the addresses of the host, its TLSA records,
each with AD from a resolver that the settings call trusted. Where it does, MTA-STS is not asked.

A policy of MTA-STS is kept as long as it says. It is fetched anew when the record in the DNS has another id; while the
record, or the policy, cannot be had, the one that is kept holds. A fetch that failed is not tried again for a while.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mailsrv.config import Config
from mailsrv.host import https
from mailsrv.host.certificates import DANE_EE, DANE_TA
from mailsrv.host.https import FetchError
from mailsrv.host.resolver import Ask, Association, Found, Kind, Trouble
from mailsrv.model.international import domain_key
from mailsrv.protocol.mta_sts import MOST_OCTETS, Mode, Policy, parse_policy, policy_id
from mailsrv.store import sts_policies
from mailsrv.store.sts_policies import KeptPolicy

logger = logging.getLogger(__name__)

PATH: Final = "/.well-known/mta-sts.txt"
FETCH_PAUSE: Final = 300.0  # seconds after a fetch that failed (RFC 8461 §3.3)
MOST_REMEMBERED: Final = 10_000  # domains whose policy could not be fetched
MOST_TOLD: Final = 5  # hosts of a policy
SWEEP_PAUSE: Final = 86_400.0

Fetch = Callable[[str, list[str]], bytes]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a host. `name` is for the books; without one, nothing is asked.

    `refusal` says why the host may not be used at all. Where it is not `is_binding`, what is not met is but noted. The
    certificate has to be good by one of the associations, or, without any, for the host's name by an authority that
    everybody trusts; with `is_encrypting` alone, any will do. `names` are those that it may have, the first is asked
    for.
    """

    name: str = ""
    refusal: str = ""
    is_binding: bool = True
    is_encrypting: bool = False
    associations: tuple[Association, ...] = ()
    names: tuple[str, ...] = ()


NOTHING: Final = Demand()


def trusts_resolver(config: Config) -> bool:
    """Whether AD is believed: of servers that are named, as those of /etc/resolv.conf may be anybody's, by DHCP say."""
    return config.policies.trusted_resolver and bool(config.dns.nameservers)


class Policies:
    """Knows what is asked. For any number of threads; a question may take as long as the DNS and a web server do."""

    def __init__(self, config: Config, ask: Ask, fetch: Fetch | None = None) -> None:
        self._settings = config.policies
        self._is_trusting = trusts_resolver(config)
        self._folder = config.sts_policies
        self._ask = ask
        self._fetch = fetch or self._fetched
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}  # by domain: one fetches, others wait
        self._failed: dict[str, float] = {}  # until then (monotonic) a domain's policy is not fetched
        self._next_sweep = 0.0

    def demand(self, domain: str, host: str, port: int, *, is_authentic: bool) -> Demand:
        """What is asked of a host of a domain; `is_authentic` where a resolver vouches for how it was found."""
        domain, host = domain_key(domain), domain_key(host)
        if not sts_policies.is_name(domain) or not sts_policies.is_name(host):
            return NOTHING
        if is_authentic and self._is_trusting and (found := self._dane(domain, host, port)) is not None:
            return found
        return self._sts(domain, host) if self._settings.mta_sts else NOTHING

    # --- DANE --------------------------------------------------------------------------------------

    def _dane(self, domain: str, host: str, port: int) -> Demand | None:
        """None where there is none."""
        addresses = [self._ask(host, kind) for kind in (Kind.A, Kind.AAAA)]
        behind = [each.name for each in addresses if isinstance(each, Found) and each.is_authentic]
        for base in dict.fromkeys([*behind, host]):
            match self._ask(f"_{port}._tcp.{base}", Kind.TLSA):
                case Trouble(why):  # RFC 7672 §2.1.2: somebody may want it not to be seen
                    return Demand("DANE", f"its TLSA records cannot be looked up: {why}")
                case Found(records, _, True):
                    known = tuple(each for each in records if isinstance(each, Association) and _is_usable(each))
                    # RFC 7672 §2.2: of records that cannot be used, TLS is still to be taken.
                    return Demand("DANE", is_encrypting=True, associations=known, names=(base, host, domain))
        return None

    # --- MTA-STS -----------------------------------------------------------------------------------

    def _sts(self, domain: str, host: str) -> Demand:
        policy = self.sts_policy(domain)
        if policy is None or policy.mode is Mode.NONE:
            return NOTHING
        hosts = ", ".join([*policy.mx[:MOST_TOLD], *(["..."] if len(policy.mx) > MOST_TOLD else [])])
        refusal = "" if policy.allows(host) else f"it is not among the hosts of the policy: {hosts}"
        return Demand(f"MTA-STS {policy.mode.value}", refusal, policy.mode is Mode.ENFORCE, names=(host,))

    def sts_policy(self, domain: str) -> Policy | None:
        """The policy of a domain in A-labels, if it has one that is known."""
        with self._lock_of(domain):
            now = time.time()
            self._sweep(now)
            kept = sts_policies.read_policy(self._folder, domain, now)
            answer = self._ask(f"_mta-sts.{domain}", Kind.TXT)
            texts = [each for each in answer.records if isinstance(each, bytes)] if isinstance(answer, Found) else []
            found = policy_id(texts)
            if found is not None and (kept is None or kept.policy_id != found) and self._may_fetch(domain):
                kept = self._renewed(domain, found, kept)
            try:
                return parse_policy(kept.text.encode()) if kept else None
            except ValueError:  # somebody has edited it
                return None

    def _renewed(self, domain: str, new_id: str, kept: KeptPolicy | None) -> KeptPolicy | None:
        """What is fetched, or, where that fails, what was kept."""
        try:
            octets = self._fetch(f"mta-sts.{domain}", self._addresses(f"mta-sts.{domain}"))
            policy = parse_policy(octets)
        except (FetchError, ValueError) as error:
            logger.warning("the MTA-STS policy of %s cannot be had%s: %s", domain, " anew" if kept else "", error)
            with self._lock:
                if len(self._failed) >= MOST_REMEMBERED:
                    self._failed.clear()
                self._failed[domain] = time.monotonic() + FETCH_PAUSE
            return kept
        new = KeptPolicy(new_id, octets.decode("utf-8", "replace"), time.time() + policy.max_age)
        try:
            sts_policies.write_policy(self._folder, domain, new)
        except OSError as error:  # it is fetched again the next time
            logger.warning("the MTA-STS policy of %s cannot be kept: %s", domain, error.strerror)
        return new

    def _fetched(self, host: str, addresses: list[str]) -> bytes:
        return https.fetch(host, addresses, PATH, most=MOST_OCTETS, seconds=self._settings.fetch_timeout)

    def _addresses(self, host: str) -> list[str]:
        answers = [self._ask(host, kind) for kind in (Kind.A, Kind.AAAA)]
        return [str(each) for answer in answers if isinstance(answer, Found) for each in answer.records]

    def _may_fetch(self, domain: str) -> bool:
        with self._lock:
            return time.monotonic() >= self._failed.get(domain, 0.0)

    def _lock_of(self, domain: str) -> threading.Lock:
        with self._lock:
            if len(self._locks) >= MOST_REMEMBERED:
                self._locks = {name: lock for name, lock in self._locks.items() if lock.locked()}
            return self._locks.setdefault(domain, threading.Lock())

    def _sweep(self, now: float) -> None:
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_PAUSE
            sts_policies.sweep(self._folder, now)


def _is_usable(association: Association) -> bool:
    """RFC 7672 §3.1.3: usages 0 and 1 are not for SMTP."""
    return (
        association.usage in (DANE_TA, DANE_EE) and association.selector in (0, 1) and association.matching in (0, 1, 2)
    )
