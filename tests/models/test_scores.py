"""Scores against an independent package."""

import numpy as np
import pytest
import scoringrules

from models.numerics.scores import ensemble_crps, gaussian_crps


def test_gaussian_crps_equals_the_oracle(generator):
    mean, truth = generator.standard_normal((2, 200))
    deviation = generator.uniform(0.1, 3.0, 200)
    np.testing.assert_allclose(
        gaussian_crps(mean, deviation, truth), scoringrules.crps_normal(truth, mean, deviation), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(("fair", "estimator"), [(False, "nrg"), (True, "fair")])
def test_ensemble_crps_equals_the_oracle(generator, fair, estimator):
    members, truth = generator.standard_normal((7, 50)), generator.standard_normal(50)
    expected = scoringrules.crps_ensemble(truth, members, m_axis=0, estimator=estimator)
    np.testing.assert_allclose(ensemble_crps(members, truth, fair), expected, rtol=1e-10, atol=1e-12)


def test_crps_of_a_certain_forecast_is_the_absolute_error():
    assert float(ensemble_crps(np.full((4, 1), 2.0), np.array([3.5]))[0]) == pytest.approx(1.5)
