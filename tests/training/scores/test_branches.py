"""Branches held at their means: what they add is found, and nothing else changes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kfusion.emotion import EMOTIONS
from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL
from kfusion.model import KFusion
from kfusion.runtime import Animator
from tests.kfusion.test_model import PAPER, SMALL, perturbed
from tests.training.corpora import talking
from training.corpus.clips import Clip
from training.models.networks import NetworkEngine
from training.scores.branches import WHOLE, BranchShare, branch_shares, branch_table, mean_shares
from training.scores.metrics import clip_metrics


def clips() -> list[Clip]:
    return [talking("a", 1, 1.5, emotion="happy"), talking("b", 2, 1.2)]


def by_name(shares: list[BranchShare]) -> dict[str, BranchShare]:
    return {share.held: share for share in shares}


def without_weight(network: KFusion, *names: str) -> KFusion:
    """The network with these branches' outputs at zero."""
    branches = network.branches

    def changed(*inputs: Any) -> Any:
        found, script = branches(*inputs)
        return {k: v * 0 if k in names else v for k, v in found.items()}, script

    network.branches = changed  # type: ignore[method-assign]
    return network


@pytest.mark.parametrize("config", [SMALL, PAPER], ids=["compact", "paper"])
def test_the_whole_networks_figures_are_those_of_animate(config: Any) -> None:
    network = perturbed(config)
    shares = by_name(branch_shares(network, clips, 3, 3))
    expected: list[float] = []
    for clip in clips():
        frames = Animator(NetworkEngine(network)).animate(
            clip.audio, 16_000, identity=clip.identity, hop=3, lookahead=3
        )
        expected.append(clip_metrics(frames, clip.points, clip.identity).m_ld)
    assert shares[WHOLE].figures["m_ld"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert list(shares) == [
        WHOLE, "f", "ct", "m", "gb", "gb_m", "Global Domain (gb, gb_m)",
        "Content Domain (ct, f, m)",
    ]  # fmt: skip
    assert set(shares[WHOLE].change.values()) == {0.0}
    for held, share in shares.items():
        for figure, change in share.change.items():
            assert change == pytest.approx(share.figures[figure] - shares[WHOLE].figures[figure])
        assert held == WHOLE or share.change["m_ld"] != 0


def test_a_dead_branch_changes_nothing_and_is_told_from_one_that_is_used() -> None:
    network = without_weight(perturbed(SMALL), "gb", "gb_m")
    shares = by_name(branch_shares(network, clips, 30, 0))
    for held, share in shares.items():
        dead = held in ("gb", "gb_m", "Global Domain (gb, gb_m)", WHOLE)
        assert (abs(share.change["m_ld"]) < 1e-6) is dead, held


def test_a_held_branch_stands_at_its_mean_over_all_clips() -> None:
    network = perturbed(SMALL)
    seen: list[torch.Tensor] = []
    held: list[torch.Tensor] = []
    fuse, branches = network.fuse, network.branches

    def note_branches(*inputs: Any) -> Any:
        found, script = branches(*inputs)
        seen.append(found["m"])
        return found, script

    def note_fused(given: Any, v: Any) -> Any:
        if not any(given["m"] is x for x in seen):
            held.append(given["m"])
        return fuse(given, v)

    network.branches, network.fuse = note_branches, note_fused  # type: ignore[method-assign]
    branch_shares(network, clips, 3, 3)
    mean = torch.cat(seen[: len(seen) // 2]).mean(0)
    assert held and all(torch.allclose(x, mean.expand_as(x), atol=1e-5) for x in held)


def test_labels_and_neutral_faces_are_given_on_request() -> None:
    network = perturbed(SMALL)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    branches = network.branches

    def note(sound: Any, content: Any, v: torch.Tensor, emotion: torch.Tensor) -> Any:
        given.append((v[0], emotion[0]))
        return branches(sound, content, v, emotion)

    network.branches = note
    clip = replace(clips()[0], neutral=NEUTRAL + np.linspace(0, 3, 136).reshape(68, 2))
    for labelled in (False, True):
        branch_shares(network, lambda: [clip], 30, 0, labelled=labelled)
    (face, emotion), (neutral, happy) = given[0], given[-1]
    assert not torch.equal(face, neutral)
    assert int(emotion.argmax()) != EMOTIONS.index("happy") == int(happy.argmax())


def test_a_network_without_a_domain_has_no_row_for_it_and_no_clip_is_an_error() -> None:
    network = perturbed(replace(SMALL, global_domain=False))
    shares = branch_shares(network, clips, 30, 0)
    assert [s.held for s in shares] == [WHOLE, "f", "ct", "m", "Content Domain (ct, f, m)"]
    table = branch_table({"mine": shares}).splitlines()
    assert table[0] == "|  | held at its mean | M-LD | shape | lip correlation |"
    assert table[2].startswith("| mine | nothing | ") and len(table) == 2 + len(shares)
    assert all("+" in r or "-" in r for r in table[3:])
    with pytest.raises(DataError, match="no clips to score"):
        branch_shares(network, list[Clip], 30, 0)


def test_shares_of_several_seeds_are_their_means() -> None:
    figures = [{"m_ld": 2.0, "shape": 1.0, "correlation": 0.5}, {"m_ld": 3.0, "shape": 0.9,
               "correlation": 0.1}]  # fmt: skip
    one = [BranchShare(WHOLE, figures[0], {}).json, BranchShare("f", figures[1], {}).json]
    other = [BranchShare(WHOLE, figures[1], {}).json, BranchShare("f", figures[1], {}).json]
    whole, f = mean_shares([one, other])
    assert whole.figures == {"m_ld": 2.5, "shape": 0.95, "correlation": 0.3}
    assert f.held == "f" and f.change["m_ld"] == 0.5
    assert f.change["correlation"] == pytest.approx(-0.2)
