"""What measures explanations: shuffled weights stay a model with adjoint derivatives, orders are told apart."""

import numpy as np
import pytest

from models.bundle import GRAPH_FILES, WEIGHTS_FILE, read
from models.explanation import Request, checks, explain
from models.explanation.functional import Functional
from models.explanation.plan import explained_fields
from models.explanation.regions import make_regions, overlap
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Surrogate
from tests import analytic_surrogates as by_hand
from training import explanations

FLOOD = SHIPPED / "flood" / "1"  # its VJP holds flipped copies of kernels


def test_shuffling_moves_learned_weights_only_and_within_their_tensors():
    content = read(FLOOD)
    count = explanations.layer_count(content)
    other = explanations.shuffled(content, count // 2, np.random.default_rng(1))
    before, after = content.files[WEIGHTS_FILE], other.files[WEIGHTS_FILE]
    moved = []
    for tensor in explanations.tensors(content.files[GRAPH_FILES["model"]]):
        old, new = tensor.read(before), tensor.read(after)
        np.testing.assert_array_equal(np.sort(old.ravel()), np.sort(new.ravel()))
        if not np.array_equal(old, new):
            assert explanations.LEARNED.search(tensor.name)
            moved.append(tensor.name)
    assert 0 < len(moved) <= count // 2


@pytest.mark.filterwarnings("ignore:overflow")  # of the scales that shuffled members give themselves
def test_shuffled_bundles_keep_adjoint_derivatives_and_lose_their_gradient():
    surrogate = load_surrogate(FLOOD, RuntimeOptions())
    content = explanations.shuffled(
        surrogate.bundle, explanations.layer_count(surrogate.bundle), np.random.default_rng(2)
    )
    other = Surrogate(content, surrogate.physics, RuntimeOptions())
    inputs = explanations.fresh(surrogate, 40, 0)
    sample = {name: values[0] for name, values in inputs.items()}
    assert checks.adjoint_identity(other, sample, np.random.default_rng(3)) <= checks.IDENTITY
    request = Request({"type": "region_mean"}, "gradient", regions=1, wrt=["roughness"])
    own, lost = (explain(one, inputs, request).attribution.maps for one in (surrogate, other))
    assert explanations.rank_correlation(own, own) == pytest.approx(1.0)
    assert abs(explanations.rank_correlation(own, lost)) < 0.8


def test_without_its_network_a_bundle_keeps_the_gradient_of_its_classical_solver_alone():
    heat, flood = (load_surrogate(SHIPPED / name / "1", RuntimeOptions()) for name in ("heat", "flood"))
    request = Request({"type": "norm"}, "gradient", regions=1)
    for one, low, high in ((heat, 1e-5, 0.1), (flood, 1.0, 1.0)):  # the depth of a flood is learned throughout
        inputs = explanations.fresh(one, 41, 0)
        rest = Surrogate(explanations.without_network(one.bundle), one.physics, RuntimeOptions())
        own, left = (explain(model, inputs, request).attribution.maps for model in (one, rest))
        name = one.manifest.inputs[0].name
        share = np.linalg.norm(own[name] - left[name]) / np.linalg.norm(own[name])
        assert low <= share <= high


def test_parts_share_out_every_field_and_keep_named_places_together(bundle_folder):
    surrogate = load_surrogate(bundle_folder, RuntimeOptions())
    fields = explained_fields(surrogate, None)
    parted = explanations._parted(surrogate)
    found = make_regions(fields, parted)
    assert len(found) == len(parted) <= explanations.MOST_REGIONS  # nothing is left for the region “rest”
    assert not overlap(found)
    for region in found:
        labelled = [k for k, axis in enumerate(next(f for f in fields if f.name == region.field).axes) if axis.labels]
        for axis in labelled:
            assert (region.mask.any(axis=axis, keepdims=True) == region.mask).all()


def test_the_order_of_shares_beats_random_orders_on_a_linear_model(generator):
    model, source = by_hand.linear(), {"source": generator.standard_normal((1, 7, 5))}
    found = explain(model, source, Request({"type": "point", "x": 1.0, "y": 1.0}, regions=4, baseline=0.0))
    functional = Functional(model, found.plan.sample, found.quantity, exact=True)
    ends = (found.baseline_value, found.value)
    share = found.attribution.regions / (ends[1] - ends[0])
    orders = [np.argsort(-share), *(generator.permutation(len(share)) for _ in range(30))]
    own, *others = [explanations.curve(functional, found.plan, order.tolist(), ends) for order in orders]
    assert all(own.deletion > other.deletion and own.insertion > other.insertion for other in others)


def test_boxes_lie_on_the_grid_and_their_weights_add_up(generator):
    for _ in range(20):
        weights = explanations.random_box((17, 33), generator)
        assert weights.sum() == pytest.approx(1.0)
        assert np.isin(weights, [0.0, weights.max()]).all()
