"""Which strategies go on training a seasonal skip after the first period."""

from __future__ import annotations

from typing import Any

import pytest
import torch

MODELS: dict[str, tuple[dict[str, Any], bool]] = {
    "eac": ({"strategy": "eac"}, False),
    "eac, nothing frozen": ({"strategy": {"name": "eac", "freeze": "nothing"}}, True),
    "prompt_tuning": ({"strategy": "prompt_tuning"}, True),
    "lora": ({"strategy": "lora", "lora": {"rank": 2}}, True),
    "online": ({"strategy": "online"}, True),
    "pretrain": ({"strategy": "pretrain"}, False),
}


@pytest.mark.parametrize(("model", "changes"), MODELS.values(), ids=MODELS.keys())
def test_it_is_tuned_or_stays(make_learner, make_history, compute, model: dict[str, Any], changes: bool) -> None:
    learner = make_learner(seasonal=["1d"], seasonal_skip=True, **model)
    first, second, *_ = make_history(learner.stream).values()
    before = learner.learn(first, None, compute=compute)
    after = learner.learn(second, before, compute=compute, earlier=first)
    old, new = (parts["seasonal_skip"].under("weights") for parts in (before, after))
    assert all(torch.equal(old[name], new[name]) != changes for name in old)
