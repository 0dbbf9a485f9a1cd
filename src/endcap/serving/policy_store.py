"""Which policy answers whom, and what the policies have learnt: follows the folder of states, and keeps the last good one."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from endcap.contracts import ModelVersion
from endcap.exploring import GREEDY, UNIFORM, Policies
from endcap.models.history import History
from endcap.policy.exploration import Exploration
from endcap.policy.features import ItemFacts
from endcap.policy.policies import Policy, block_of, make
from endcap.policy.state_files import Found, names, newest
from endcap.recommender import Recommender
from endcap.release.canary import share_of
from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)
MODELS = 2  # that answer at once: a champion and the candidate of a canary


class Answering(Protocol):
    """A model in place: `model_store.Served` or `candidate_store.Candidate`."""

    @property
    def version(self) -> ModelVersion: ...

    @property
    def recommender(self) -> Recommender: ...


def policy_of(policies: Policies, surface: str, who: str) -> str:
    """The name of the policy for a shopper (a pseudonym), or for a request of nobody known: always the same while shares stay.

    >>> policy_of(Policies(), "home", "437d716ac40e553b"), policy_of(Policies(uniform=1.0), "home", "437d716ac40e553b")
    ('greedy', 'uniform')
    """
    if share_of(who, f"{policies.salt}/uniform") < policies.uniform:
        return UNIFORM
    place = share_of(who, f"{policies.salt}/assigned")
    shares = next((one.shares for one in policies.assigned if not one.surfaces or surface in one.surfaces), {})
    for name, share in shares.items():
        place -= share
        if place < 0 < share:
            return name
    return next((name for name in reversed(shares) if shares[name]), GREEDY)  # shares sum to one but for rounding


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """Policies over one model and one state, as one reference, so that no request sees two."""

    served: Answering
    found: Found
    facts: ItemFacts | None
    policies: dict[str, Policy] = field(default_factory=dict)


class PolicyStore:
    """Looks for a newer state every `reload_seconds`, in a thread of its own, if anybody meets a policy that learns."""

    def __init__(self, params: Policies, folder: Path, metrics: Metrics, reload_seconds: float) -> None:
        self._params, self._folder, self._metrics, self._reload_seconds = params, folder, metrics, reload_seconds
        self._explores = bool(params.uniform or params.assigned)
        self._neural = any(one.kind == "neural_linear" for one in params.in_use())
        self.current = Found(None, None)
        self._seen: list[str] | None = None
        self._ready: tuple[_Ready, ...] = ()  # of the models that answer, the one made last first
        self._making, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="policy-store", daemon=True)
        metrics.policy_state_current.set(1)

    @property
    def refused(self) -> tuple[str, ...]:
        """States newer than the one in force, and why they are not."""
        return self.current.refused

    def start(self) -> None:
        """Take the last good state, then follow the folder; nothing to do where nobody learns."""
        if self._params.learns:
            self.check()
            self._thread.start()

    def stop(self) -> None:
        """End following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def check(self) -> None:
        """Look at the folder once, and take the newest good state, if it is another."""
        seen = names(self._folder)
        if seen == self._seen:
            return
        found = newest(self._folder)
        if found.state is None and self.current.state is not None:  # what is in memory is better than nothing
            found = Found(self.current.state, self.current.name, found.refused or ("all states are gone",))
        for reason in set(found.refused) - set(self.current.refused):
            self._metrics.policy_state_refused.inc()
            log.error("state of policies refused", extra={"reason": reason})
        if found.name != self.current.name:
            log.info("policies have learnt", extra={"state": found.name, "rows": found.state.rows if found.state else 0})
        self.current, self._seen = found, seen
        self._metrics.policy_state_current.set(not found.refused)

    def explore(self, served: Answering, surface: str, who: str, seed: str) -> Exploration | None:
        """How a slate is drawn for `who`; the same `seed` (the request's id) draws the same. None: greedy, nobody learns."""
        if not self._explores:
            return None
        name, ready = policy_of(self._params, surface, who), self._over(served)
        if name == GREEDY and ready.facts is None:
            return None
        random = np.random.default_rng(int.from_bytes(seed.encode(), "big"))
        return Exploration(ready.policies[name], random, self._params.head, ready.facts)

    def _over(self, served: Answering) -> _Ready:
        """The policies over this model, by the state in force; made once."""
        found = self.current
        ready = self._made(served)
        if ready is None or ready.found is not found:
            with self._making:
                ready = self._made(served)
                if ready is None or ready.found is not found:
                    ready = self._make(served, ready.facts if ready else self._facts(served), found)
                    self._ready = (ready, *(one for one in self._ready if one.served is not served))[:MODELS]
        return ready

    def _made(self, served: Answering) -> _Ready | None:
        return next((ready for ready in self._ready if ready.served is served), None)

    def _make(self, served: Answering, facts: ItemFacts | None, found: Found) -> _Ready:
        policies, feature_set = {}, facts.feature_set if facts else ""
        for one in self._params.in_use():
            known = found.state.about(block_of(one, feature_set)) if facts and found.state else None
            policies[one.name] = make(one, feature_set, known, f"{found.version}{feature_set}")
        return _Ready(served, found, facts, policies)

    def _facts(self, served: Answering) -> ItemFacts | None:
        if not self._params.learns:
            return None
        model, items = served.recommender.model, served.recommender.items
        stranger_I = model.score([History.empty()], datetime.now(UTC))[0]
        version = f"{served.version.version}.{served.version.digest[:8]}" if self._neural else ""
        return ItemFacts.of(items.categories, items.prices, items.listed_from, stranger_I, model.item_vectors, version)

    def _follow(self) -> None:
        while not self._stop.wait(self._reload_seconds):
            try:
                self.check()
            except Exception:  # following never ends: the next state may be good; the log has the cause
                log.exception("states of policies not read")
                self._metrics.policy_state_current.set(0)
