"""A bank of daily patterns that grows and moves with the network: the labels of PECPM's attention."""

from __future__ import annotations

import torch
from torch import Tensor

from st_pipeline.layers.pattern_memory import AttentionLabels
from st_pipeline.strategies.parts.daily_patterns import Patterns, Profiles, cluster, similarity


class PatternBank:
    """At most `size` patterns, the means of the unit profiles that went into them; each keeps its place for good.

    What comes later takes a free place, or moves the pattern that it is most like, the less the more profiles that one
    holds already (Sculley, WWW 2010, web-scale k-means). PECPM's public code reads its labels from files and does not
    show how its bank changes (continual-methods, section 4.3).
    """

    def __init__(self) -> None:
        nothing = torch.zeros(0, 0, dtype=torch.float64)
        self.patterns = Patterns(nothing, nothing)

    def __len__(self) -> int:
        return len(self.patterns.total)

    def build(self, profiles: Profiles, size: int, generator: torch.Generator) -> None:
        """From the clusters of all nodes of which something was seen."""
        self.patterns, _ = cluster(profiles, size, generator)

    def take_in(self, profiles: Profiles, size: int) -> None:
        """New or evolved profiles, one by one; rows of which nothing was seen are left out."""
        unit = profiles.unit()
        for row in profiles.known.nonzero():
            comer = unit.rows(row)
            if len(self) < size:
                both = zip(self.patterns, Patterns.of(comer), strict=True)
                self.patterns = Patterns(*(torch.cat(pair) for pair in both))
            else:
                nearest = similarity(comer, self.patterns.profiles).argmax(1)
                both = zip(self.patterns, Patterns.of(comer), strict=True)
                self.patterns = Patterns(*(old.index_add(0, nearest, new) for old, new in both))

    def labels(self, profiles: Profiles, size: int, *, keep: int) -> AttentionLabels:
        """Similarity of each node to each pattern (N, size), the `keep` largest of a node; 0 elsewhere."""
        alike = similarity(profiles, self.patterns.profiles)
        top = alike.topk(min(keep, len(self)), dim=1)
        values = alike.new_zeros(len(alike), size).scatter(1, top.indices, top.values)
        return AttentionLabels(values.float(), profiles.known)

    def state(self) -> dict[str, Tensor]:
        """The bank, for a checkpoint."""
        return {"bank.total": self.patterns.total, "bank.number": self.patterns.number} if len(self) else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up a bank that was stored; other entries of the state are left alone."""
        if "bank.total" in state:
            self.patterns = Patterns(state["bank.total"], state["bank.number"])
