import pytest

from kfusion.runtime import Animator, SyntheticEngine
from tests.conftest import folder_of
from training.trial.coefficients import measure
from training.trial.model import TrialModel


@pytest.mark.data
def test_the_coefficients_of_tracked_faces_are_within_their_bounds() -> None:
    data = folder_of("mead_expressions").parent
    section = measure(TrialModel(Animator(SyntheticEngine()), data))
    assert section.holding == len(section.checks) == 45, section.markdown
