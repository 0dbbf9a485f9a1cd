"""The section `policies` of params.yaml: which policies there are, who meets which, and what a shown item earns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from endcap.contracts import Surface
from endcap.sections import Count, Fraction, Positive, Section

Kind = Literal["greedy", "uniform", "epsilon_greedy", "softmax", "lin_ucb", "thompson", "neural_linear"]
PolicyName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
GREEDY, UNIFORM = "greedy", "uniform"  # always there
KNOBS: dict[str, frozenset[str]] = {
    "greedy": frozenset(),
    "uniform": frozenset(),
    "epsilon_greedy": frozenset({"epsilon"}),
    "softmax": frozenset({"temperature", "floor"}),
    "lin_ucb": frozenset({"floor", "trust", "ridge", "noise", "alpha"}),
    "thompson": frozenset({"floor", "trust", "ridge", "noise", "scale", "draws"}),
    "neural_linear": frozenset({"floor", "trust", "ridge", "noise", "scale", "draws", "dims"}),
}
LEARNING = frozenset({"lin_ucb", "thompson", "neural_linear"})
TAKEN = frozenset({"pinned", "promoted", "fallback-popularity"})  # what the exposure log calls other things


class Defined(Section):
    """A policy and its knobs; each kind takes some of them."""

    name: PolicyName
    kind: Kind
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.01  # share of places that is drawn evenly from the head
    epsilon: Fraction = 0.05  # the same for epsilon_greedy
    temperature: Positive = 0.5  # standard deviations of the head's scores
    trust: float = 0.05  # reward that a standard deviation of the model's score is worth, before anything is learnt
    ridge: Positive = 100.0  # shown items that this belief counts for
    noise: Positive = 0.1  # variance of rewards, before anything is learnt
    alpha: Annotated[float, Field(ge=0)] = 1.0  # standard deviations that an unsure item is lifted by
    scale: Annotated[float, Field(ge=0)] = 1.0  # of the posterior's standard deviations; below 1 explores less
    draws: Annotated[int, Field(ge=10, le=5000)] = 256  # of the posterior
    dims: Annotated[int, Field(ge=1, le=24)] = 24  # of an item's vector

    @model_validator(mode="after")
    def _own_knobs(self) -> Defined:
        if alien := sorted(self.model_fields_set - KNOBS[self.kind] - {"name", "kind"}):
            known = ", ".join(sorted(KNOBS[self.kind])) or "none"
            raise ValueError(f"policy {self.name}: {self.kind} has no {alien[0]} (its knobs: {known})")
        if self.name in TAKEN or (self.name in (GREEDY, UNIFORM) and self.kind != self.name):
            raise ValueError(f"a policy of kind {self.kind} cannot be called {self.name}: choose another name")
        return self


class Assigned(Section):
    """How the traffic of some surfaces is shared."""

    surfaces: tuple[Surface, ...] = ()  # none named: all
    shares: Annotated[dict[PolicyName, Fraction], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Assigned:
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"shares must sum to 1, not {sum(self.shares.values()):g}")
        return self


class Reward(Section):
    """What a shown item earns when this follows within so many hours."""

    reward: float
    hours: Positive


class Policies(Section):
    """How the service explores. As it comes: not at all."""

    salt: str = "endcap"  # another one: other shoppers
    head: Annotated[int, Field(ge=2, le=1000)] = 50  # best candidates that a policy draws from
    uniform: Fraction = 0.0  # share of shoppers, on all surfaces, whose places are drawn evenly from the head
    defined: tuple[Defined, ...] = ()
    assigned: tuple[Assigned, ...] = ()  # the first that names the surface; none: greedy
    rewards: dict[Literal["click", "cart", "purchase"], Reward] = Field(
        {
            "click": Reward(reward=1.0, hours=24.0),
            "cart": Reward(reward=2.0, hours=24.0),
            "purchase": Reward(reward=5.0, hours=24.0),
        },
        min_length=1,
    )
    late_hours: Annotated[float, Field(ge=0)] = 1.0  # events may arrive this much later than they happened
    keep: Count = 5  # newest states of what was learnt

    @model_validator(mode="after")
    def _go_together(self) -> Policies:
        names = [one.name for one in self.defined]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two policies are called {twice}")
        for place, one in enumerate(self.assigned):
            if unknown := sorted(set(one.shares) - {*names, GREEDY, UNIFORM}):
                raise ValueError(f"assigned.{place}.shares: {unknown[0]} is not defined (known: {[*names, GREEDY, UNIFORM]})")
        return self

    def in_use(self) -> list[Defined]:
        """The policies that somebody meets; alone greedy, as it comes."""
        named = {name for one in self.assigned for name, share in one.shares.items() if share > 0} | {GREEDY}
        if self.uniform:
            named.add(UNIFORM)
        known = {GREEDY: Defined(name=GREEDY, kind=GREEDY), UNIFORM: Defined(name=UNIFORM, kind=UNIFORM)}
        known |= {one.name: one for one in self.defined}
        return [one for name, one in known.items() if name in named]

    @property
    def learns(self) -> bool:
        """Whether anybody meets a policy that learns: then what learning needs is written down with every exposure."""
        return any(one.kind in LEARNING for one in self.in_use())
