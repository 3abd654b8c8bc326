"""What the report measures with."""

import numpy as np
import pytest
import torch

from training import report


def test_central_differences_see_through_a_jump_at_the_point_but_not_a_wrong_derivative():
    point, tangent = {"x": np.array([0.5, 2.0])}, {"x": np.array([1.0, 3.0])}

    def jumping(fields: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
        x = torch.from_numpy(fields["x"])
        return (torch.sin(x) + 1e-3 * (x > torch.tensor([0.5, 2.0])),)

    (found,) = report._central_differences(jumping, point, tangent)
    assert found == pytest.approx(np.cos(point["x"]) * tangent["x"], rel=1e-6)
    (plain,) = report._central_differences(lambda fields: (torch.from_numpy(fields["x"] ** 2),), point, tangent)
    assert plain == pytest.approx(2 * point["x"] * tangent["x"], rel=1e-6)
